"""Attention for the page: the weights of every head, what each can see, and the kinds of head by measure."""

from typing import TYPE_CHECKING

import numpy as np

from tinystar_np.inspection.describe import mixers_of
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.seeing.head_kinds import LayerHeads, head_kinds
from tinystar_np.seeing.page.arrays import Arrays

if TYPE_CHECKING:
    from tinystar_np.seeing.look import Seen

Json = dict[str, object]


def measured_heads(seen: "Seen") -> list[LayerHeads]:
    """Measure what kinds of heads there are, in each layer with attention."""
    return head_kinds(seen.model, seen.recording, seen.ids)


def add_attention(arrays: Arrays, seen: "Seen", measured: list[LayerHeads], first: int) -> list[Json]:
    """Store the weights of each layer with attention from position ``first`` on, and say what it is.

    ``attention.L`` (H, P, S) has the weights as bytes; ``attention.L.most`` and ``.most_at`` (H, P) exactly
    the largest of each query, and the position it is given to.
    """
    rows = []
    for heads in measured:
        path = f"blocks.{heads.layer}.attention."
        p = seen.recording[path + "probabilities"][0, :, first:]
        name = f"attention.{heads.layer}"
        arrays.add_probabilities(name, p)
        arrays.add(f"{name}.most", p.max(axis=-1))
        arrays.add(f"{name}.most_at", p.argmax(axis=-1).astype(np.uint16))
        keys = seen.recording[path + "k"].shape[1] if path + "k" in seen.recording else len(p)
        rows.append(
            {
                "layer": heads.layer,
                "heads": len(p),
                "keys": keys,
                "sinks": bool(heads.unattended.max() > 0.001),
                **_limits(seen, heads.layer),
                "scores": {kind: _rounded(scores) for kind, scores in heads.scores.items()},
                "kinds": [heads.kinds(head) for head in range(len(p))],
            }
        )
    return rows


def _limits(seen: "Seen", layer: int) -> Json:
    """Return how far a token of a layer sees."""
    mixers = mixers_of(seen.model.blocks[layer])
    limits = next(each for each in mixers if isinstance(each, Attention | LatentAttention)).limits()
    return {"window": limits.window, "chunk": limits.chunk, "causal": limits.causal}


def _rounded(scores: np.ndarray) -> list[float | None]:
    """Return scores with three digits; None where no query has such a token."""
    return [None if np.isnan(score) else round(float(score), 3) for score in scores]
