"""Which Llama a config is like. The name on the hub does not say; seven keys do.

Hundreds of models have ``model_type`` llama. Many were built after one of Meta's, some were trained on from
it, and a few share no more than the layers. What sets the generations apart stands in the table below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinystar_np.models.llama import LlamaConfig

ENOUGH = 4
"""Of the seven keys; a config that agrees in fewer is like none."""


@dataclass(frozen=True)
class Generation:
    """What the configs of one generation have in common.

    scaling  of the rotations: "" for none
    heads    "MHA", "GQA", or "" where both exist
    ratios   of the feed-forward width to the model's, smallest and largest
    sizes    {(hidden_size, num_hidden_layers): its name}
    """

    name: str
    vocabularies: Sequence[int]
    theta: float
    scaling: str
    context: int
    heads: str
    tied: bool
    ratios: tuple[float, float]
    sizes: Mapping[tuple[int, int], str]


GENERATIONS = (
    Generation("Llama 1", [32000], 1e4, "", 2048, "MHA", False, (2.6, 2.75),
               {(4096, 32): "7B", (5120, 40): "13B", (6656, 60): "30B", (8192, 80): "65B"}),
    Generation("Llama 2", [32000], 1e4, "", 4096, "", False, (2.6, 3.5),
               {(4096, 32): "7B", (5120, 40): "13B", (8192, 80): "70B"}),
    Generation("Code Llama", [32000, 32016], 1e6, "", 16384, "", False, (2.6, 3.5),
               {(4096, 32): "7B", (5120, 40): "13B", (8192, 48): "34B", (8192, 80): "70B"}),
    Generation("Llama 3", [128256], 5e5, "", 8192, "GQA", False, (3.5, 3.5),
               {(4096, 32): "8B", (8192, 80): "70B"}),
    Generation("Llama 3.1", [128256], 5e5, "llama3 ×8", 131072, "GQA", False, (3.25, 3.5),
               {(4096, 32): "8B", (8192, 80): "70B, which is also 3.3", (16384, 126): "405B"}),
    Generation("Llama 3.2", [128256], 5e5, "llama3 ×32", 131072, "GQA", True, (2.6, 4.0),
               {(2048, 16): "1B", (3072, 28): "3B"}),
)  # fmt: skip


@dataclass(frozen=True)
class Likeness:
    """Which generation a config is like.

    name      the nearest generation
    enough    whether it is near enough to be called so
    size      which of its models has this width and depth, "" for none
    agreeing  the keys that speak for it, with their values
    differing the keys that speak against it
    """

    name: str
    enough: bool
    size: str
    agreeing: Sequence[str]
    differing: Sequence[str]

    def __str__(self) -> str:
        """Say it in a phrase."""
        if not self.enough:
            return f"none; the nearest is {self.name}"
        size = f" {self.size}" if self.size and not self.differing else ""
        return f"closest to {self.name}" if self.differing else self.name + size


def likeness(config: LlamaConfig) -> Likeness:
    """Find the generation that agrees with a config in most keys, the latest of several."""
    compared = [_compared(config, generation) for generation in reversed(GENERATIONS)]
    return max(compared, key=lambda found: len(found.agreeing))


def _compared(config: LlamaConfig, generation: Generation) -> Likeness:
    c, g, rope = config, generation, config.rope
    H, G, F, D = (config.sizes[letter] for letter in "HGFD")
    scaling = "" if rope.rope_type == "default" else f"{rope.rope_type} ×{rope.factor:g}"
    low, high = g.ratios
    tests = [
        (f"vocab_size {c.vocab_size}", c.vocab_size in g.vocabularies),
        (f"rope_theta {rope.rope_theta:.10g}", rope.rope_theta == g.theta),
        (f"rope scaling {scaling or 'none'}", scaling == g.scaling),
        (f"max_position_embeddings {c.max_position_embeddings}", c.max_position_embeddings == g.context),
        (f"num_key_value_heads {G} of {H}", g.heads in ("", "MHA" if G == H else "GQA")),
        (f"tie_word_embeddings {str(c.tie_word_embeddings).lower()}", c.tie_word_embeddings == g.tied),
        (f"intermediate_size {F / D:.3g} × hidden_size", low - 0.01 <= F / D <= high + 0.01),
    ]
    agreeing = [words for words, agrees in tests if agrees]
    differing = [words for words, agrees in tests if not agrees]
    size = g.sizes.get((D, config.sizes["L"]), "")
    return Likeness(g.name, len(agreeing) >= ENOUGH, size, agreeing, differing)
