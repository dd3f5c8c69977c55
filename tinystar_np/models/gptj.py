"""GPT-J 6B (Wang & Komatsuzaki 2021): attention and feed-forward side by side.

    x → norm ─┬→ attention ────┬→ + x      (× L)
              └→ feed-forward ─┘
    logits = norm(x) · W + b

| attention | position                       | norm      | activation  | block    | context |
|-----------|--------------------------------|-----------|-------------|----------|---------|
| MHA       | RoPE, first 64 of a head's 256 | LayerNorm | GELU (tanh) | parallel | 2048    |

New in it: one norm feeds both branches, so that their products can run together; rotary positions (Su et al.
2021, arXiv:2104.09864) in a GPT, on a part of each head, the rest of which is free of positions. Pairs are
neighbours. The output layer has a bias, attention has none.
"""

from dataclasses import dataclass
from math import nextafter
from typing import Any, ClassVar

from tinystar_np.checkpoints.weight_table import WeightTable, with_switches
from tinystar_np.layers_old import Weights
from tinystar_np.models.config import require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_norm_decoder import LayerNormConfig, LayerNormDecoder
from tinystar_np.models.rope_parameters import RopeParameters


@dataclass(frozen=True)
class GPTJConfig(LayerNormConfig):
    """The keys of a GPT-J config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = 50400
    hidden_size: int = 4096
    num_hidden_layers: int = 28
    rotary_dim: int = 64

    ALIASES: ClassVar = {
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_layer": "num_hidden_layers",
        "n_positions": "max_position_embeddings",
        "activation_function": "hidden_act",
        "layer_norm_epsilon": "layer_norm_eps",
    }
    UNUSED: ClassVar = ("hidden_act", "layer_norm_eps", "intermediate_size")

    @property
    def is_parallel(self) -> bool:
        """Whether attention and feed-forward stand side by side."""
        return True

    @property
    def rope(self) -> RopeParameters:
        """The rule of the rotations."""
        K = self.sizes["K"]
        # Rounded up: K times the fraction must not fall below rotary_dim.
        return RopeParameters("default", 10000.0, K, nextafter(self.rotary_dim / K, 1))

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        n, K = self.rotary_dim, self.sizes["K"]
        require(
            2 <= n <= K and n % 2 == 0,
            f"rotary_dim = {n}, but it must be even, from 2 to the width of a head, {K}.",
        )


WEIGHTS: WeightTable = {
    # ours:                                (the checkpoint's, shape)
    "embedding.tokens.weight":             ("wte.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("h.{i}.ln_1.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("h.{i}.ln_1.bias", "D"),
    "blocks.{i}.attention.q.weight":       ("h.{i}.attn.q_proj.weight", "D D -> D D"),
    "blocks.{i}.attention.k.weight":       ("h.{i}.attn.k_proj.weight", "D D -> D D"),
    "blocks.{i}.attention.v.weight":       ("h.{i}.attn.v_proj.weight", "D D -> D D"),
    "blocks.{i}.attention.out.weight":     ("h.{i}.attn.out_proj.weight", "D D -> D D"),
    "blocks.{i}.feed_forward.up.weight":   ("h.{i}.mlp.fc_in.weight", "F D -> D F"),
    "blocks.{i}.feed_forward.up.bias":     ("h.{i}.mlp.fc_in.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.mlp.fc_out.weight", "D F -> F D"),
    "blocks.{i}.feed_forward.down.bias":   ("h.{i}.mlp.fc_out.bias", "D"),
    "final_norm.gain":                     ("ln_f.weight", "D"),
    "final_norm.bias":                     ("ln_f.bias", "D"),
    "head.bias":                           ("lm_head.bias", "V"),
}  # fmt: skip


class GPTJ(LayerNormDecoder):
    """GPT-J 6B, and the models that were tuned from it."""

    Config = GPTJConfig

    @staticmethod
    def weight_table(config: GPTJConfig) -> WeightTable:
        """Add the output layer where it is not the embedding table."""
        return with_switches(WEIGHTS, config)

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Turn neighbours, in the first part of each head."""
        return {**super().attention(i, w), "rope": self.config.rope.rotary(interleaved=True)}


FACTS = Facts(
    grew_from="gpt2",
    kind="block",
    changed="Attention and feed-forward in parallel, after one norm; rotary positions",
    why="both branches compute at once; scores depend on distances only",
    published="6B",
)
