"""DBRX (Databricks 2024): 132 billion weights in more and smaller experts than Mixtral's.

    x → norm → attention ──+ x → norm → the 4 best of 16 experts ──+ x      (× L)
    logits = norm(x) · W

| attention         | position | norm                   | feed-forward    | block      | context |
|-------------------|----------|------------------------|-----------------|------------|---------|
| GQA, q k v to ± 8 | RoPE     | LayerNorm without bias | SwiGLU, 4 of 16 | sequential | 32768   |

New in it: four of sixteen experts where Mixtral (arXiv:2401.04088) has two of eight; a token uses the same
share of the weights, in 65 times as many combinations. From MPT come the layer norms without a bias and one
projection for queries, keys and values, which are clipped before they are rotated. The softmax over all
experts is divided by the p-norm of the chosen weights, p = 1 in the published model. The experts of a layer
are stacked in three matrices. Databricks published no paper but a report, "Introducing DBRX", March 2024.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import softmax_top_k, softmax_top_k_normed
from tinystar_np.layers.attention import FusedAttention
from tinystar_np.layers.basic import Embedding, LayerNorm, Linear
from tinystar_np.layers.experts import Experts, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, key, known, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

PARTS = "attn_config", "ffn_config"
KEYS_OF_PARTS = (
    *("kv_n_heads", "clip_qkv"),
    *("ffn_act_fn", "ffn_hidden_size", "moe_num_experts", "moe_top_k", "moe_normalize_expert_weights"),
)
"""Keys that are read only inside these two."""
EPS = 1e-5  # PyTorch's default; there is no key for it


@dataclass(frozen=True)
class DbrxConfig(Config):
    """The keys of a DBRX config.json and of the two objects in it; defaults as in transformers."""

    vocab_size: int = key(32000, letter="V")
    d_model: int = key(2048, letter="D", aliases=("hidden_size",))
    n_layers: int = key(24, letter="L", aliases=("num_hidden_layers",))
    n_heads: int = key(16, letter="H", aliases=("num_attention_heads",))
    max_seq_len: int = key(2048, aliases=("max_position_embeddings",), is_trained_length=True)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    tie_word_embeddings: bool = False
    # in attn_config
    kv_n_heads: int = key(1, letter="G")
    clip_qkv: float | None = key(None, above=0)
    # in ffn_config
    ffn_act_fn: JsonObject | None = None
    ffn_hidden_size: int = key(3584, letter="F")
    moe_num_experts: int = key(4, letter="E")
    moe_top_k: int = key(1, chosen_of="E")
    moe_normalize_expert_weights: float | None = key(1.0, above=0)

    REFUSED: ClassVar = {"tie_word_embeddings": (False,)}

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Read the keys of the two objects together with the others.

        The published file has ``rope_theta`` in ``attn_config``. transformers 5 writes another beside the
        object, and uses that one; so it wins here.
        """
        inside: JsonObject = {}
        for part in PARTS:
            given = raw.get(part) or {}
            require(isinstance(given, Mapping), f"{part} = {shown(given)}, but it must be an object or null.")
            inside |= given
        inside.pop("hidden_size", None)  # ffn_config has one, which nothing reads
        beside = {name: value for name, value in raw.items() if name not in KEYS_OF_PARTS}
        return super().from_dict({**inside, **beside})

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        keys = {**vars(self), "max_position_embeddings": self.max_seq_len}
        return RopeParameters.read(keys, head_dim=self.sizes["K"])

    @property
    def activation(self) -> str:
        """The name of the experts' activation."""
        name: str = (self.ffn_act_fn or {}).get("name", "silu")
        return name

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        known(ACTIVATIONS, "ffn_act_fn.name", self.activation)


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape
    "embedding.tokens.weight": ("wte.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("blocks.{i}.norm_attn_norm.norm_1.weight", "D"),
    "blocks.{i}.attention.qkv.weight": ("blocks.{i}.norm_attn_norm.attn.Wqkv.weight", "(HK+2GK D)ᵀ"),
    "blocks.{i}.attention.out.weight": ("blocks.{i}.norm_attn_norm.attn.out_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain": ("blocks.{i}.norm_attn_norm.norm_2.weight", "D"),
    "blocks.{i}.feed_forward.router.weight": ("blocks.{i}.ffn.router.layer.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight": ("blocks.{i}.ffn.experts.mlp.w1", "(EF D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight": ("blocks.{i}.ffn.experts.mlp.v1", "(EF D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight": ("blocks.{i}.ffn.experts.mlp.w2", "EF D"),
    "final_norm.gain": ("norm_f.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ"),
}  # fmt: skip


class Block(Module):
    """Attention, then experts: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: DbrxConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=EPS)
        self.attention = FusedAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), clip=c.clip_qkv
        )
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=EPS)
        experts = gated_experts(w / "feed_forward.experts", c.moe_num_experts, ACTIVATIONS[c.activation])
        p = c.moe_normalize_expert_weights
        self.feed_forward = Experts(
            w / "feed_forward",
            experts,
            per_token=c.moe_top_k,
            routing=softmax_top_k if p is None else partial(softmax_top_k_normed, p=p),
        )
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Dbrx(Decoder[DbrxConfig]):
    """DBRX Base and DBRX Instruct."""

    Config = DbrxConfig
    WEIGHTS = WEIGHTS
    PREFIX = "transformer."

    def build(self, w: Weights, c: DbrxConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.n_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=EPS)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="mixtral",
    kind="experts",
    changed="Four of sixteen smaller experts; LayerNorm; clipped q, k, v",
    why="65 times as many combinations of experts",
    published="DBRX",
    keys={"d_model": 6144, "n_heads": 48, "attn_config": {"kv_n_heads": 8}},
)
