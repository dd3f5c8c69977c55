"""Who wrote each token, for the page: what every part of the model added to the logits of a few tokens."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import TinyStarError
from tinystar_np.fast.threads import beside_others
from tinystar_np.seeing.attribution import attribute_each
from tinystar_np.seeing.page.arrays import Arrays
from tinystar_np.seeing.parts import Attribution, Part

if TYPE_CHECKING:
    from tinystar_np.seeing.look import Seen

Json = dict[str, object]
Name = tuple[str, str, int | None]
"""A part's path, kind and index."""

TOKENS = 5
"""How many tokens of a position: the one that was chosen, and the likeliest others."""
MOST_POSITIONS = 64
"""The last so many positions, of those after the last image: the parts of an image say nothing next."""


def writers(seen: "Seen") -> list[list[Attribution]] | str:
    """Return the parts of logits at the last positions; or why this model's logits are no sums."""
    after_images = max((image.span[1] for image in seen.images), default=0)
    start = min(max(after_images, len(seen.ids) - MOST_POSITIONS), len(seen.ids) - 1)
    divide = beside_others(attributions_at)
    try:
        return [divide(seen, p) for p in range(start, len(seen.ids))]
    except TinyStarError as error:
        return str(error)


def add_writers(arrays: Arrays, found: list[list[Attribution]] | str, first: int) -> Json:
    """Store the parts of logits from position ``first`` on, and return their names.

    ``writers.tokens`` (P, 5) has the tokens of each position, the chosen one first, −1 where there are fewer;
    ``writers.logits`` (P, 5) their logits, before a soft cap where the model has one; ``writers.values``
    (P, 5, parts) what each part added. A part that a position does not have, an expert that was not chosen,
    added 0.
    """
    if isinstance(found, str):
        return {"refused": found}
    rows = [row for row in found if row[0].position >= first]
    names = in_order([row[0] for row in rows])
    tokens = np.full((len(rows), TOKENS), -1, dtype=np.int32)
    logits = np.zeros((len(rows), TOKENS), dtype=np.float32)
    values = np.zeros((len(rows), TOKENS, len(names)), dtype=np.float32)
    places = {name: i for i, name in enumerate(names)}
    for p, row in enumerate(rows):
        for k, each in enumerate(row):
            tokens[p, k], logits[p, k] = each.token, each.logit
            for part in each.parts:
                values[p, k, places[name_of(part)]] = part.value
    for name, array in (("tokens", tokens), ("logits", logits), ("values", values)):
        arrays.add(f"writers.{name}", array)
    return {
        "start": rows[0][0].position,
        "before_cap": rows[0][0].before_cap,
        "parts": [{"path": path, "kind": kind, "index": index} for path, kind, index in names],
    }


def attributions_at(seen: "Seen", position: int) -> list[Attribution]:
    """Return the parts of the chosen token's logit at a position, and of the likeliest others'."""
    chosen = int(seen.followed[position])
    logits: NDArray = seen.recording["logits"][0, position]
    best = np.argsort(-logits, kind="stable")[:TOKENS]
    tokens = [chosen, *(int(id) for id in best if id != chosen)][: min(TOKENS, len(logits))]
    return attribute_each(seen.model, seen.recording, position, [(token, None) for token in tokens])


def in_order(attributions: list[Attribution]) -> list[Name]:
    """Return the names of all parts, in the order of the computation; experts of a layer by their number."""
    layers: dict[str, set[tuple[str, int | None]]] = {}
    for each in attributions:
        for part in each.parts:
            layers.setdefault(part.path, set()).add((part.kind, part.index))
    kinds = ("whole", "head", "expert", "shared", "bias")
    return [
        (path, kind, index)
        for path, parts in layers.items()
        for kind, index in sorted(parts, key=lambda part: (kinds.index(part[0]), part[1] or 0))
    ]


def name_of(part: Part) -> Name:
    """Return a part's path, kind and index."""
    return part.path, part.kind, part.index
