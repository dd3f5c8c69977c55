"""GPT-Neo (Black, Gao, Wang, Leahy & Biderman 2021): GPT-3's shape, in the open.

    x = embedding[token] + positions[position]
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention                              | position | norm      | activation  | block      | context |
|----------------------------------------|----------|-----------|-------------|------------|---------|
| MHA; in every second layer, window 256 | learned  | LayerNorm | GELU (tanh) | sequential | 2048    |

New in it: GPT-3's turns of layers that see everything and layers that see what is near (Brown et al. 2020,
arXiv:2005.14165), on open texts, the Pile (Gao et al. 2020, arXiv:2101.00027). Scores are not divided by √K,
as was the habit in the code that it began with: queries learn to be small enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.checkpoints.weight_table import WeightTable, with_switches
from tinystar_np.layers_old import Weights
from tinystar_np.models.config import at_least_1, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_norm_decoder import LayerNormConfig, LayerNormDecoder

KINDS = ("global", "local")


@dataclass(frozen=True)
class GPTNeoConfig(LayerNormConfig):
    """The keys of a GPT-Neo config.json that change the mathematics; defaults as in transformers.

    ``attention_types`` says which layers see everything: [[["global", "local"], 12]] is these two, 12 times.
    ``attention_layers`` is the same, written out; it wins.
    """

    attention_types: list[Any] | None = None
    attention_layers: list[Any] | None = None
    window_size: int = 256
    tie_word_embeddings: bool = True

    ALIASES: ClassVar = {
        "num_heads": "num_attention_heads",
        "num_layers": "num_hidden_layers",
        "activation_function": "hidden_act",
        "layer_norm_epsilon": "layer_norm_eps",
    }
    UNUSED: ClassVar = ("hidden_act", "layer_norm_eps")

    @property
    def kinds(self) -> list[str]:
        """What each layer sees: "global" or "local"."""
        if self.attention_layers is not None:
            return self.attention_layers
        types: list[Any] = [[list(KINDS), 12]] if self.attention_types is None else self.attention_types
        return [kind for kinds, times in types for kind in kinds * times]

    @property
    def context_length(self) -> int:
        """Learned positions end where their table ends."""
        return self.max_position_embeddings

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer."""
        return [
            at_least_1("window_size", self.window_size) if kind == "local" else None for kind in self.kinds
        ]

    def check(self) -> None:
        """Refuse contradictions."""
        n, L = 0, self.num_hidden_layers
        for item in self.attention_types or []:
            match item:
                case [list(kinds), int(times)] if times >= 0 and n + times * len(kinds) <= L:
                    n += times * len(kinds)
                case _:
                    require(False, f"attention_types has {item!r}, but wants [[kind, …], how often].")
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        require(not unknown, f"attention_types has {unknown[:1]}, but a layer is global or local.")
        n = len(self.kinds)
        require(n == L, f"attention_types is for {n} layers, but num_hidden_layers = {L}.")
        super().check()


WEIGHTS: WeightTable = {
    # ours:                                (the checkpoint's, shape)
    "embedding.tokens.weight":             ("wte.weight", "V D"),
    "embedding.positions.weight":          ("wpe.weight", "C D"),
    "blocks.{i}.attention_norm.gain":      ("h.{i}.ln_1.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("h.{i}.ln_1.bias", "D"),
    "blocks.{i}.attention.q.weight":       ("h.{i}.attn.attention.q_proj.weight", "D D -> D D"),
    "blocks.{i}.attention.k.weight":       ("h.{i}.attn.attention.k_proj.weight", "D D -> D D"),
    "blocks.{i}.attention.v.weight":       ("h.{i}.attn.attention.v_proj.weight", "D D -> D D"),
    "blocks.{i}.attention.out.weight":     ("h.{i}.attn.attention.out_proj.weight", "D D -> D D"),
    "blocks.{i}.attention.out.bias":       ("h.{i}.attn.attention.out_proj.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":   ("h.{i}.ln_2.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("h.{i}.ln_2.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("h.{i}.mlp.c_fc.weight", "F D -> D F"),
    "blocks.{i}.feed_forward.up.bias":     ("h.{i}.mlp.c_fc.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.mlp.c_proj.weight", "D F -> F D"),
    "blocks.{i}.feed_forward.down.bias":   ("h.{i}.mlp.c_proj.bias", "D"),
    "final_norm.gain":                     ("ln_f.weight", "D"),
    "final_norm.bias":                     ("ln_f.bias", "D"),
}  # fmt: skip


class GPTNeo(LayerNormDecoder):
    """GPT-Neo 125M, 1.3B and 2.7B, and TinyStories."""

    Config = GPTNeoConfig

    @staticmethod
    def weight_table(config: GPTNeoConfig) -> WeightTable:
        """Add the output layer where it is not the embedding table."""
        return with_switches(WEIGHTS, config)

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Leave scores as they are."""
        return {**super().attention(i, w), "scale": 1.0}


FACTS = Facts(
    grew_from="gpt2",
    kind="attention",
    changed="Every second layer sees 256 tokens only; scores are not divided by √K",
    why="half of the layers cost the same however long the text is",
    published="1.3B",
    keys={"num_hidden_layers": 2, "attention_types": [[["global", "local"], 1]]},
)
