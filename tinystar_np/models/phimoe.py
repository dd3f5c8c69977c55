"""Phi-3.5-MoE (Microsoft 2024, arXiv:2404.14219, 2409.12136): two experts, chosen one after the other.

    x → norm → attention ──+ x → norm → experts ──+ x      (× L)
    logits = norm(x) · W + b

| attention | position       | norm      | feed-forward            | block      | context |
|-----------|----------------|-----------|-------------------------|------------|---------|
| GQA       | RoPE, longrope | LayerNorm | SwiGLU, 2 of 16 experts | sequential | 131072  |

New in it, beside Mixtral (mixtral.py): SparseMixer (kernels/sparse_mixer.py). Each of the two experts is
chosen in a round of its own and weighted against its close competitors, of which there are mostly none; so
both weights are mostly 1. In training this gives the router a gradient through the choice itself. Layer norms
and biases are those of the first Phi (phi.py), LongRoPE that of Phi-3 (phi3.py).

transformers' class takes the factors for short texts at every length. Its older versions and Microsoft's code
take those for long ones where a text is longer than the original length, as is done here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.sparse_mixer import sparse_mixer_top_k
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, LayerNorm, Linear
from tinystar_np.layers.experts import Experts, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import equal_windows
from tinystar_np.models.rope_keys import ABOVE_0, RopeKeys
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

MSCALES = ("short_mscale", "long_mscale")
"""What cosines and sines are multiplied by, in texts up to the original length and in longer ones."""


@dataclass(frozen=True)
class PhimoeConfig(Config):
    """The keys of a Phi-3.5-MoE config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of one expert.
    """

    vocab_size: int = key(32064, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(6400, letter="M")
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
    num_local_experts: int = key(16, letter="E", aliases=("num_experts",))
    num_experts_per_tok: int = key(2, chosen_of="E")
    router_jitter_noise: float = key(0.01, least=0)
    attention_bias: bool = False
    lm_head_bias: bool = False
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        given = RopeKeys.of(vars(self), None)
        rule = given.get("rope_type") or given.get("type") or "default"
        if rule == "default":
            return RopeParameters.read(vars(self), head_dim=self.sizes["K"])
        require(
            rule == "longrope",
            f"rope_type = {shown(rule)}, but this architecture knows default and longrope.",
        )
        short, long = (given.number(name, ABOVE_0) for name in MSCALES)
        require(
            short == long,
            f"{given.name('long_mscale')} = {long} and short_mscale = {short}, but other than equal "
            "ones are not implemented.",
        )
        inside = {name: value for name, value in given.inside.items() if name not in MSCALES}
        keys = {"rope_scaling": None, "rope_parameters": {**inside, "attention_factor": short}}
        return RopeParameters.read(vars(self) | keys, head_dim=self.sizes["K"])

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer, the same in all."""
        return equal_windows(self.num_hidden_layers, self.sliding_window)

    @property
    def absent_letters(self) -> str:
        """That of dense layers: there are none."""
        return "F"

    def check(self) -> None:
        """Refuse another number of rounds than the router has."""
        super().check()
        k = self.num_experts_per_tok
        require(k == 2, f"num_experts_per_tok = {k}, but the router of this architecture chooses 2.")


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention_norm.bias": ("layers.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias": ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias": ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias": ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias": ("layers.{i}.post_attention_layernorm.bias", "D"),
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.block_sparse_moe.gate.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.block_sparse_moe.experts.{e}.w1.weight", "(M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.block_sparse_moe.experts.{e}.w3.weight", "(M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.block_sparse_moe.experts.{e}.w2.weight", "(D M)ᵀ"),
    "final_norm.gain": ("norm.weight", "D"),
    "final_norm.bias": ("norm.bias", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
    "head.bias": ("lm_head.bias", "V", "lm_head_bias"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {  # as transformers 5 writes them: those of a layer in two tensors
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.router.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[:M]", "E (2M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[M:]", "E (2M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.down_proj", "E (D M)ᵀ"),
}  # fmt: skip


class Block(Module):
    """Attention, then experts: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: PhimoeConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), window=c.windows[i]
        )
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        experts = gated_experts(w / "feed_forward.experts", c.num_local_experts, ACTIVATIONS[c.hidden_act])
        self.feed_forward = Experts(
            w / "feed_forward", experts, per_token=c.num_experts_per_tok,
            routing=partial(sparse_mixer_top_k, tolerance=c.router_jitter_noise),
        )  # fmt: skip
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Phimoe(Decoder[PhimoeConfig]):
    """Phi-3.5-MoE, Phi-mini-MoE and Phi-tiny-MoE."""

    Config = PhimoeConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."

    def build(self, w: Weights, c: PhimoeConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="mixtral",
    kind="experts",
    changed="Each expert is weighted against its close competitors; layer norms, biases",
    why="a gradient through the choice; two whole experts for most tokens",
    published="3.5 MoE",
)
