"""Hunyuan-A13B (Tencent 2025, https://github.com/Tencent-Hunyuan/Hunyuan-A13B), 80B: experts, one shared.

    x → norm → attention, q and k rotated, then normed ──+ x → norm → experts ──+ x      (× L)
    logits = norm(x) · embeddingᵀ       experts = shared + the 8 best of 64

| attention          | position                 | norm    | feed-forward     | block      | context |
|--------------------|--------------------------|---------|------------------|------------|---------|
| GQA 32:8; norms of | RoPE, base × α^(K/(K−2)) | RMSNorm | SwiGLU; 1 + 8 of | sequential | 262144  |
| q, k               |                          |         | 64 experts       |            |         |

New in it, beside the dense Hunyuan (hunyuan_v1_dense.py): every layer has 64 experts, of which a token uses
8, and a shared one of the same width for every token, as in Tencent's Hunyuan-Large (Sun et al. 2024,
arXiv:2411.02265). The 8 are weighted by the softmax of their scores, as in Mixtral (mixtral.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import top_k_softmax
from tinystar_np.layers.attention import LateNormAttention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters, with_stretched_base
from tinystar_np.tap import tap


@dataclass(frozen=True)
class HunyuanV1MoeConfig(Config):
    """The keys of a Hunyuan MoE config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of an expert, chosen or shared. ``moe_topk`` may be a list, one number
    a layer. Files call the rule of rotations "dynamic" and give α beside it: then nothing depends on
    the length of the text.
    """

    vocab_size: int = key(290943, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(11008, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    num_experts: int = key(1, letter="E", aliases=("num_local_experts",))
    moe_topk: int | list[int] = key(1, chosen_of="E", aliases=("num_experts_per_tok",))
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(with_stretched_base(vars(self), self.sizes["K"]), head_dim=self.sizes["K"])

    @property
    def per_token(self) -> Sequence[int]:
        """How many experts a token uses in each layer."""
        given = self.moe_topk
        return given if isinstance(given, list) else [given] * self.num_hidden_layers

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        L, named = self.num_hidden_layers, len(self.per_token)
        require(named >= L, f"moe_topk has {named} numbers, but num_hidden_layers = {L}.")


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
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.query_layernorm.weight", "K"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.key_layernorm.weight", "K"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.wg.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.{e}.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight": ("layers.{i}.mlp.experts.{e}.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.{e}.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.shared.gate.weight": ("layers.{i}.mlp.shared_mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.shared.up.weight": ("layers.{i}.mlp.shared_mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.shared.down.weight": ("layers.{i}.mlp.shared_mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {  # as transformers 5 has them in memory: those of a layer in two tensors
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[:F]", "E (2F D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight": ("layers.{i}.mlp.experts.gate_up_proj[F:]", "E (2F D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight": ("layers.{i}.mlp.experts.down_proj", "E (D F)ᵀ"),
}  # fmt: skip


class Block(Module):
    """Attention, then experts: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: HunyuanV1MoeConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        q_norm, k_norm = (
            RMSNorm(w / f"attention.{name}", eps=c.rms_norm_eps) for name in ("q_norm", "k_norm")
        )
        self.attention = LateNormAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), norms=(q_norm, k_norm)
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = feed_forward(w / "feed_forward", c, i)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


def feed_forward(w: Weights, c: HunyuanV1MoeConfig, i: int) -> ExpertsAndShared:
    """Build layer i's experts and the shared one."""
    activation = ACTIVATIONS[c.hidden_act]
    experts = Experts(
        w,
        gated_experts(w / "experts", c.num_experts, activation),
        per_token=c.per_token[i],
        routing=top_k_softmax,
    )
    return ExpertsAndShared(experts, GatedFeedForward(w / "shared", activation))


class HunyuanV1Moe(Decoder[HunyuanV1MoeConfig]):
    """Hunyuan-A13B."""

    Config = HunyuanV1MoeConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."

    def build(self, w: Weights, c: HunyuanV1MoeConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="hunyuan_v1_dense",
    kind="experts",
    changed="64 experts, 8 for a token, and one for every token",
    why="80B weights at the cost of 13B",
    published="A13B",
    keys={
        "num_hidden_layers": 1,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "num_experts": 64,
        "moe_topk": 8,
    },
)
