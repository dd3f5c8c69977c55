"""What becomes of each token when a part of the model is taken out: computed again, not approximated."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast.threads import beside_others
from tinystar_np.seeing.page.arrays import Arrays
from tinystar_np.seeing.parts import Attribution
from tinystar_np.seeing.without import without

if TYPE_CHECKING:
    from tinystar_np.seeing.look import Seen

MOST_PASSES, FEWEST_PASSES = 24, 4
MOST_WEIGHTS = 1_500_000_000
"""How many parts are taken out, one at a time, each for a pass over the text; and how many weights all passes
may read together: some seconds."""
OF_A_TOKEN = 4
"""So many parts of each token's logit are put forward."""


@dataclass(frozen=True)
class TakenOut:
    """What the model says at each position without a part.

    name         of the part: "blocks.3.attention head 2"
    probability  (T,) of the token that came next
    best         (T,) the likeliest token
    of_best      (T,) its probability
    """

    name: str
    probability: NDArray[np.float32]
    best: NDArray[np.int64]
    of_best: NDArray[np.float32]


def parts_to_take_out(rows: list[list[Attribution]], prompt_length: int, parameters: int) -> list[str]:
    """Choose the parts that count most for the tokens that were written; for the last one where none was.

    parameters  that a pass takes as long as: fewer parts of a large model, or of a long text
    """
    passes = min(MOST_PASSES, max(FEWEST_PASSES, MOST_WEIGHTS // parameters))
    written = [row for row in rows if row[0].position >= prompt_length - 1][:-1] or rows[-1:]
    worth: Counter[str] = Counter()
    for row in written:
        own, other = row[0], row[min(1, len(row) - 1)]
        against = {part.name: part.value for part in other.parts} if other is not own else {}
        values = {
            part.name: part.value - against.get(part.name, 0.0)
            for part in own.parts
            if part.path.startswith("blocks.") and part.kind != "bias"
        }
        for name in sorted(values, key=lambda name: -abs(values[name]))[:OF_A_TOKEN]:
            worth[name] += 1
    return [name for name, _ in worth.most_common(passes)]


def taken_out(seen: "Seen", name: str) -> TakenOut:
    """Compute what the model says without a part."""
    logits = without(seen.model, np.array(seen.ids), name, images=seen.read)
    best = logits.argmax(axis=-1)
    rows = np.arange(len(logits))
    highest = logits[rows, best]
    total = np.exp(logits - highest[:, None]).sum(axis=-1)
    return TakenOut(name, np.exp(logits[rows, seen.followed] - highest) / total, best, 1 / total)


def take_out_all(seen: "Seen", names: list[str], advance: Callable[[], object]) -> list[TakenOut]:
    """Take out one part at a time; ``advance`` is called after each."""
    found = []
    take_out = beside_others(taken_out)
    for name in names:
        found.append(take_out(seen, name))
        advance()
    return found


def add_taken_out(arrays: Arrays, found: list[TakenOut], first: int) -> list[str]:
    """Store it from position ``first`` on, and return the parts' names."""
    if found:
        arrays.add("without.probability", np.stack([each.probability[first:] for each in found]))
        arrays.add("without.best", np.stack([each.best[first:] for each in found]))
        arrays.add("without.of_best", np.stack([each.of_best[first:] for each in found]))
    return [each.name for each in found]
