"""Mixtral 8x7B and 8x22B (Jiang et al. 2024, arXiv:2401.04088): Mistral with experts.

    x → norm → attention ──+ x → norm → the 2 best of 8 experts ──+ x      (× L)
    logits = norm(x) · W

| attention | position | norm    | feed-forward   | block      | context                        |
|-----------|----------|---------|----------------|------------|--------------------------------|
| GQA       | RoPE     | RMSNorm | SwiGLU, 2 of 8 | sequential | 32768 in 8x7B, 65536 in 8x22B  |

New in it: the first widely used open model with experts. Every feed-forward layer of Mistral is there eight
times; a token uses two of them, so that it uses 13 of 47 billion weights. The two are weighted by the softmax
over their scores alone. There is no window, although the config has a key for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import top_k_softmax
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import equal_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class MixtralConfig(Config):
    """The keys of a Mixtral config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of one expert.
    """

    vocab_size: int = key(32000, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(14336, letter="M")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(8, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(1_000_000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    sliding_window: int | None = None
    num_local_experts: int = key(8, letter="E", aliases=("num_experts",))
    num_experts_per_tok: int = key(2, chosen_of="E")
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer, the same in all."""
        return equal_windows(self.num_hidden_layers, self.sliding_window)

    @property
    def absent_letters(self) -> str:
        """That of dense layers: there are none."""
        return "F"


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.block_sparse_moe.gate.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.block_sparse_moe.experts.{e}.w1.weight", "(M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.block_sparse_moe.experts.{e}.w3.weight", "(M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.block_sparse_moe.experts.{e}.w2.weight", "(D M)ᵀ"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {  # as transformers 5 writes them: those of a layer in two tensors
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[:M]", "E (2M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[M:]", "E (2M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.down_proj", "E (D M)ᵀ"),
}  # fmt: skip


class Block(Module):
    """Attention, then experts: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: MixtralConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), window=c.windows[i]
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        experts = gated_experts(w / "feed_forward.experts", c.num_local_experts, ACTIVATIONS[c.hidden_act])
        self.feed_forward = Experts(
            w / "feed_forward", experts, per_token=c.num_experts_per_tok, routing=top_k_softmax
        )
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Mixtral(Decoder[MixtralConfig]):
    """Mixtral 8x7B and 8x22B."""

    Config = MixtralConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."

    def build(self, w: Weights, c: MixtralConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="mistral",
    kind="experts",
    changed="Eight feed-forward layers, of which each token uses two",
    why="47 billion weights to learn with, 13 billion to compute with",
    published="8x7B",
)
