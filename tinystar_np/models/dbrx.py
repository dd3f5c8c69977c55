"""DBRX (Databricks 2024): 132 billion weights in more and smaller experts than Mixtral's.

    x → norm → attention ──+ x → norm → the 4 best of 16 experts ──+ x      (× L)
    logits = norm(x) · W

| attention         | position | norm                   | feed-forward    | block      | context |
|-------------------|----------|------------------------|-----------------|------------|---------|
| GQA, q k v to ± 8 | RoPE     | LayerNorm without bias | SwiGLU, 4 of 16 | sequential | 32768   |

New in it: four of sixteen experts where Mixtral (arXiv:2401.04088) has two of eight; the same share of the
weights computes, in 65 times as many combinations. From MPT come the layer norms without a bias and one
projection for queries, keys and values, which are cut off before the heads turn. The softmax over all experts
is divided by the p-norm of the chosen ones, p = 1 in the published model. All experts of a layer lie below
each other in three matrices. Databricks published no paper but a report, "Introducing DBRX", March 2024.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import softmax_top_k, softmax_top_k_normed
from tinystar_np.layers_old import LayerNorm, Weights
from tinystar_np.layers_old.blocks import Norm
from tinystar_np.layers_old.experts import Experts
from tinystar_np.models.config import DecoderConfig, known, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.models.unported_llama import Llama

PARTS = "attn_config", "ffn_config"
KEYS_OF_PARTS = (
    *("kv_n_heads", "clip_qkv"),
    *("ffn_act_fn", "ffn_hidden_size", "moe_num_experts", "moe_top_k", "moe_normalize_expert_weights"),
)
"""They mean nothing elsewhere."""


@dataclass(frozen=True)
class DbrxConfig(DecoderConfig):
    """The keys of a DBRX config.json and of the two objects in it, side by side."""

    ALIASES: ClassVar[Mapping[str, str]] = {
        "hidden_size": "d_model",
        "max_position_embeddings": "max_seq_len",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
    }
    REFUSED: ClassVar[Mapping[str, tuple[Any, ...]]] = {"tie_word_embeddings": (False,)}
    LETTERS: ClassVar[Mapping[str, str]] = {
        **DecoderConfig.LETTERS,
        "D": "d_model",
        "L": "n_layers",
        "H": "n_heads",
        "G": "kv_n_heads",
        "F": "ffn_hidden_size",
        "E": "moe_num_experts",
    }

    vocab_size: int = 32000
    d_model: int = 2048
    n_layers: int = 24
    n_heads: int = 16
    max_seq_len: int = 2048
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    tie_word_embeddings: bool = False
    kv_n_heads: int = 1
    clip_qkv: float | None = None
    ffn_act_fn: dict[str, Any] | None = None
    ffn_hidden_size: int = 3584
    moe_num_experts: int = 4
    moe_top_k: int = 1
    moe_normalize_expert_weights: float | None = 1.0

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Lay the two objects open.

        The base of the rotations stands in ``attn_config`` in the published file. transformers 5 writes one
        of its own beside it, and goes by that; so it wins here.
        """
        inside: dict[str, Any] = {}
        for part in PARTS:
            given = raw.get(part) or {}
            require(isinstance(given, Mapping), f"{part} = {given!r}, but it must be an object or null.")
            inside |= given
        inside.pop("hidden_size", None)  # ffn_config has one, which nothing reads
        beside = {key: value for key, value in raw.items() if key not in KEYS_OF_PARTS}
        return super().from_dict({**inside, **beside})

    @property
    def trained_length(self) -> int:
        """Rotations go on for ever, what was learned does not."""
        return self.max_seq_len

    @property
    def rope(self) -> RopeParameters:
        """The rule of the rotations."""
        keys = {**vars(self), "max_position_embeddings": self.max_seq_len}
        return RopeParameters.read(keys, head_dim=self.sizes["K"])

    @property
    def activation(self) -> str:
        """What experts bend by."""
        name: str = (self.ffn_act_fn or {}).get("name", "silu")
        return name

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        known(ACTIVATIONS, "ffn_act_fn.name", self.activation)


WEIGHTS: WeightTable = {
    # ours:                                (the checkpoint's, shape)
    "embedding.tokens.weight":             ("wte.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("blocks.{i}.norm_attn_norm.norm_1.weight", "D"),
    "blocks.{i}.attention.qkv.weight":
        ("blocks.{i}.norm_attn_norm.attn.Wqkv.weight", "HK+2GK D -> D HK+2GK"),
    "blocks.{i}.attention.out.weight":
        ("blocks.{i}.norm_attn_norm.attn.out_proj.weight", "D HK -> HK D"),
    "blocks.{i}.feed_forward_norm.gain":   ("blocks.{i}.norm_attn_norm.norm_2.weight", "D"),
    "blocks.{i}.feed_forward.router.weight":
        ("blocks.{i}.ffn.router.layer.weight", "E D -> D E"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("blocks.{i}.ffn.experts.mlp.w1", "EF D -> D F"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("blocks.{i}.ffn.experts.mlp.v1", "EF D -> D F"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("blocks.{i}.ffn.experts.mlp.w2", "EF D -> F D"),
    "final_norm.gain":                     ("norm_f.weight", "D"),
    "head.weight":                         ("lm_head.weight", "V D -> D V"),
}  # fmt: skip


class Dbrx(Llama):
    """DBRX Base and DBRX Instruct."""

    Config = DbrxConfig
    PREFIX = "transformer."

    @staticmethod
    def weight_table(config: Any) -> WeightTable:
        """Nothing is optional."""
        return WEIGHTS

    def norm(self, w: Weights) -> Norm:
        """Build a norm; its epsilon is torch's."""
        return LayerNorm(w, eps=1e-5)

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Clip queries, keys and values."""
        return {**super().attention(i, w), "clip": self.config.clip_qkv}

    def feed_forward(self, i: int, w: Weights) -> Experts:
        """Route each token to its experts."""
        c: DbrxConfig = self.config
        p = c.moe_normalize_expert_weights
        return Experts(
            w,
            experts=c.moe_num_experts,
            per_token=c.moe_top_k,
            routing=softmax_top_k if p is None else partial(softmax_top_k_normed, p=p),
            activation=ACTIVATIONS[c.activation],
        )


FACTS = Facts(
    grew_from="mixtral",
    kind="experts",
    changed="Four of sixteen smaller experts; LayerNorm; clipped q, k, v",
    why="65 times as many combinations of experts",
    published="DBRX",
    keys={"d_model": 6144, "n_heads": 48, "attn_config": {"kv_n_heads": 8}},
)
