"""Phi 1, 1.5 and 2 (Gunasekar et al. 2023, arXiv:2306.11644; Li et al. 2023, arXiv:2309.05463).

    x → norm ─┬→ attention ────┬→ + x      (× L)
              └→ feed-forward ─┘
    logits = norm(x) · W + b

| attention | position                                 | norm      | activation  | block    | context |
|-----------|------------------------------------------|-----------|-------------|----------|---------|
| MHA       | RoPE, first half of a head; 2/5 in Phi 2 | LayerNorm | GELU (tanh) | parallel | 2048    |

New in it: the texts. With 1.3 billion weights and textbooks, many of them written by a larger model, it did
what others did with ten times as many weights and the text of the web. The build is GPT-J's (gptj.py), with
pairs split in halves and biases everywhere. The config also knows fewer heads of keys than of queries, and
norms of queries and keys (``qk_layernorm``); the published three use neither.
"""

from dataclasses import dataclass
from typing import Any

from tinystar_np.checkpoints.weight_table import WeightTable, with_switches
from tinystar_np.models.config import require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_norm_decoder import LayerNormConfig, LayerNormDecoder
from tinystar_np.models.rope_parameters import RopeParameters


@dataclass(frozen=True)
class PhiConfig(LayerNormConfig):
    """The keys of a Phi config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = 51200
    intermediate_size: int | None = 8192
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    qk_layernorm: bool = False
    original_max_position_embeddings: int | None = None
    partial_rotary_factor: float | None = 0.5  # null turns whole heads
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None

    @property
    def is_parallel(self) -> bool:
        """Whether attention and feed-forward stand side by side."""
        return True

    @property
    def rope(self) -> RopeParameters:
        """The rule of the rotations, of a part of each head."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"], partial=True)

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        part, n = self.rope.partial_rotary_factor, self.rope.rotary_dim
        require(
            n % 2 == 0, f"partial_rotary_factor = {part} lets {n} numbers of each head turn: half a pair."
        )


WEIGHTS: WeightTable = {
    # ours:                                (the checkpoint's, shape)
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("layers.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "D D -> D D"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "D"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "GK D -> D GK"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "GK D -> D GK"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.dense.weight", "D D -> D D"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.dense.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.fc1.weight", "F D -> D F"),
    "blocks.{i}.feed_forward.up.bias":     ("layers.{i}.mlp.fc1.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.fc2.weight", "D F -> F D"),
    "blocks.{i}.feed_forward.down.bias":   ("layers.{i}.mlp.fc2.bias", "D"),
    "final_norm.gain":                     ("final_layernorm.weight", "D"),
    "final_norm.bias":                     ("final_layernorm.bias", "D"),
    "head.bias":                           ("lm_head.bias", "V"),
}  # fmt: skip
QUERY_AND_KEY_NORMS: WeightTable = {
    "blocks.{i}.attention.q_norm.gain":    ("layers.{i}.self_attn.q_layernorm.weight", "K"),
    "blocks.{i}.attention.q_norm.bias":    ("layers.{i}.self_attn.q_layernorm.bias", "K"),
    "blocks.{i}.attention.k_norm.gain":    ("layers.{i}.self_attn.k_layernorm.weight", "K"),
    "blocks.{i}.attention.k_norm.bias":    ("layers.{i}.self_attn.k_layernorm.bias", "K"),
}  # fmt: skip


class Phi(LayerNormDecoder):
    """Phi 1, Phi 1.5 and Phi 2; Phi 3 is another build."""

    Config = PhiConfig
    PREFIX = "model."

    @staticmethod
    def weight_table(config: PhiConfig) -> WeightTable:
        """Add what the config switches on."""
        return with_switches(WEIGHTS, config, qk_layernorm=QUERY_AND_KEY_NORMS)


FACTS = Facts(
    grew_from="gptj",
    kind="block",
    changed="The same block, small; rotary pairs across the halves of a head",
    why="textbooks teach a small model what the web teaches a large one",
    published="1.5",
)
