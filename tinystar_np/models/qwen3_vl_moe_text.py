"""Qwen3-VL with experts, text (Qwen Team 2025, arXiv:2511.21631): 30B-A3B and 235B-A22B, which read images.

    x → norm → attention, q and k normed ──+ x → norm → the 8 best of 128 experts ──+ x      (× L)
    x ← x + the encoder's i-th further vectors, at an image's places, after block i      (i = 1 … M)
    logits = norm(x) · W

| attention         | position               | norm    | feed-forward     | block      | context |
|-------------------|------------------------|---------|------------------|------------|---------|
| GQA, q and k norm | RoPE by three axes in  | RMSNorm | SwiGLU, 8 of 128 | sequential | 128000  |
|                   | turns                  |         |                  |            |         |

New in it: nothing beside its two parents. It is Qwen3 with experts (qwen3_moe.py) with the dense Qwen3-VL's
rotations by time, row and column and its further vectors of images (qwen3_vl_text.py). The weights of the
chosen experts always sum to 1. The published files keep all experts of a layer in two tensors, and the other
way round from those that transformers 5 writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import top_k_softmax
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.models.rope_sections import Order, mrope, mrope_sections, sectioned_rotary
from tinystar_np.models.vision_part import plus_deep
from tinystar_np.tap import tap

ORDER: Order = "in turns"
"""How the sections of a head's pairs lie."""


@dataclass(frozen=True)
class Qwen3VLMoeTextConfig(Config):
    """The keys of the text part's config that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert.
    """

    REFUSED: ClassVar = {"norm_topk_prob": (None, True), "use_sliding_window": (None, False)}

    vocab_size: int = key(151936, letter="V")
    hidden_size: int = key(2048, letter="D")
    intermediate_size: int = key(5632, letter="F")
    num_hidden_layers: int = key(24, letter="L")
    num_attention_heads: int = key(16, letter="H")
    num_key_value_heads: int | None = key(16, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(128000, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(500000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    num_local_experts: int = key(60, letter="E", aliases=("num_experts",))
    num_experts_per_tok: int = key(4, chosen_of="E")
    moe_intermediate_size: int = key(1408, letter="M")
    decoder_sparse_step: int = 1
    mlp_only_layers: list[int] | None = None
    tie_word_embeddings: bool = True

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return mrope(vars(self), self.sizes["K"], ORDER)

    @property
    def sections(self) -> tuple[int, ...]:
        """How many pairs of a head go by time, row and column."""
        return mrope_sections(vars(self), self.sizes["K"], ORDER, (24, 20, 20))

    @property
    def expert_layers(self) -> Sequence[int]:
        """Every n-th layer, except those that are listed as dense; none in a model without experts."""
        if self.num_local_experts == 0:
            return []
        sparse = [i for i in range(self.num_hidden_layers) if i not in (self.mlp_only_layers or ())]
        n = at_least_1("decoder_sparse_step", self.decoder_sparse_step) if sparse else 1
        return [i for i in sparse if (i + 1) % n == 0]

    @property
    def absent_letters(self) -> str:
        """Those of dense layers, or of experts, where there are none of the kind."""
        count = len(self.expert_layers)
        return ("" if count else "EM") + ("F" if count == self.num_hidden_layers else "")

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        dense = self.mlp_only_layers
        whole = all(isinstance(i, int) and not isinstance(i, bool) for i in dense or ())
        require(whole, f"mlp_only_layers = {shown(dense)}, but it must be a list of layers' numbers.")
        _ = self.sections


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias": ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias": ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias": ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_norm.weight", "K"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.k_norm.weight", "K"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    # in layers with experts
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[:, :M]", "E D 2M", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[:, M:]", "E D 2M", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.down_proj", "E M D", "expert_layers"),
    # in the others
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ", "not expert_layers"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
OUT_IN_EXPERTS: WeightTable = {  # as transformers 5 writes them: (out, in) and not (in, out)
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[:M]", "E (2M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[M:]", "E (2M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.down_proj", "E (D M)ᵀ", "expert_layers"),
}  # fmt: skip
EXPERTS_APART: WeightTable = {  # in most packed files, since formats pack linear layers
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.{e}.gate_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.{e}.up_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.{e}.down_proj.weight", "(D M)ᵀ", "expert_layers"),
}  # fmt: skip


class Block(Module):
    """Attention, then experts or a dense layer, then what the encoder adds to images at this depth."""

    def __init__(self, w: Weights, c: Qwen3VLMoeTextConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        q_norm, k_norm = (
            RMSNorm(w / f"attention.{name}", eps=c.rms_norm_eps) for name in ("q_norm", "k_norm")
        )
        rope = sectioned_rotary(c.rope, c.sections, ORDER)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=rope, norms=(q_norm, k_norm)
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = feed_forward(w / "feed_forward", c, i)
        self.new_state = self.attention.new_state
        self.i = i

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", plus_deep(x + self.feed_forward(normed), step, self.i))


def feed_forward(w: Weights, c: Qwen3VLMoeTextConfig, i: int) -> Layer:
    """Build layer i's experts, or its dense feed-forward layer."""
    activation = ACTIVATIONS[c.hidden_act]
    if i not in c.expert_layers:
        return GatedFeedForward(w, activation)
    return Experts(
        w,
        gated_experts(w / "experts", c.num_local_experts, activation),
        per_token=c.num_experts_per_tok,
        routing=top_k_softmax,
    )


class Qwen3VLMoeText(Decoder[Qwen3VLMoeTextConfig]):
    """The text part of Qwen3-VL-30B-A3B and -235B-A22B."""

    Config = Qwen3VLMoeTextConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (OUT_IN_EXPERTS, EXPERTS_APART)
    PREFIX = "model."

    def build(self, w: Weights, c: Qwen3VLMoeTextConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="qwen3_vl_text",
    kind="experts",
    changed="128 narrow experts, 8 for a token",
    why="more weights for the same work",
    published="30B-A3B",
    keys={"num_key_value_heads": 4, "head_dim": 128, "num_hidden_layers": 1},
)
