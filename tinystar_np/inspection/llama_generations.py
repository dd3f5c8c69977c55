"""Which generation of Llama a config is closest to, by seven of its keys.

Many models of ``model_type`` llama were built like one of Meta's or trained further from it.
"""

from typing import NamedTuple

from tinystar_np.models.llama import LlamaConfig

GENERATIONS = (
    # name, vocabularies, RoPE base and scaling, context, heads, tied output layer, least and greatest width
    # of the feed-forward layer in model widths, {(model width, layers): size}
    ("Llama 1", {32000}, 1e4, "none", 2048, "MHA", False, (2.6, 2.75),
     {(4096, 32): "7B", (5120, 40): "13B", (6656, 60): "30B", (8192, 80): "65B"}),
    ("Llama 2", {32000}, 1e4, "none", 4096, "MHA, GQA", False, (2.6, 3.5),
     {(4096, 32): "7B", (5120, 40): "13B", (8192, 80): "70B"}),
    ("Code Llama", {32000, 32016}, 1e6, "none", 16384, "MHA, GQA", False, (2.6, 3.5),
     {(4096, 32): "7B", (5120, 40): "13B", (8192, 48): "34B", (8192, 80): "70B"}),
    ("Llama 3", {128256}, 5e5, "none", 8192, "GQA", False, (3.5, 3.5), {(4096, 32): "8B", (8192, 80): "70B"}),
    ("Llama 3.1", {128256}, 5e5, "llama3 ×8", 131072, "GQA", False, (3.25, 3.5),
     {(4096, 32): "8B", (8192, 80): "70B, which is also 3.3", (16384, 126): "405B"}),
    ("Llama 3.2", {128256}, 5e5, "llama3 ×32", 131072, "GQA", True, (2.6, 4.0),
     {(2048, 16): "1B", (3072, 28): "3B"}),
)  # fmt: skip


class Likeness(NamedTuple):
    """The closest generation, whether it is close enough, its size, keys for and against it, and a phrase."""

    name: str
    enough: bool
    size: str
    agreeing: list[str]
    differing: list[str]
    says: str


def likeness(c: LlamaConfig) -> Likeness:
    """Find the generation that agrees with a config in most keys; of several the latest."""
    H, G = c.num_attention_heads, c.num_key_value_heads or c.num_attention_heads
    ratio = c.intermediate_size / c.hidden_size
    scaled = "none" if c.rope.rope_type == "default" else f"{c.rope.rope_type} ×{c.rope.factor:g}"
    found = []
    for name, vocabularies, theta, scaling, context, heads, tied, (low, high), sizes in reversed(GENERATIONS):
        keys = {
            f"vocab_size {c.vocab_size}": c.vocab_size in vocabularies,
            f"rope_theta {c.rope.rope_theta:.10g}": c.rope.rope_theta == theta,
            f"rope scaling {scaled}": scaled == scaling,
            f"max_position_embeddings {c.max_position_embeddings}": c.max_position_embeddings == context,
            f"num_key_value_heads {G} of {H}": ("MHA" if G == H else "GQA") in heads,
            f"tie_word_embeddings {str(c.tie_word_embeddings).lower()}": c.tie_word_embeddings == tied,
            f"intermediate_size {ratio:.3g} × hidden_size": low - 0.01 <= ratio <= high + 0.01,
        }
        agreeing, differing = ([key for key, agrees in keys.items() if agrees is so] for so in (True, False))
        size = sizes.get((c.hidden_size, c.num_hidden_layers), "")
        enough = len(agreeing) >= 4  # of seven
        says = f"closest to {name}" if differing else f"{name} {size}".rstrip()
        says = says if enough else f"none; the nearest is {name}"
        found.append(Likeness(name, enough, size, agreeing, differing, says))
    return max(found, key=lambda like: len(like.agreeing))
