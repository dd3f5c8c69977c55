"""Groups: tokens of a text that see one another, the later ones too (kernels/masks.py).

Nothing of a group is known before its last token is, so a group is read in one call. A text may be read in
pieces that end between groups.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Group(NamedTuple):
    """A run of tokens that see one another.

    first      the place of the first
    after      the place after the last
    in_window  whether a window hides earlier ones of them, where a layer has one
    """

    first: int
    after: int
    in_window: bool = False

    def meets(self, start: int, end: int) -> bool:
        """Say whether any of its tokens is one of those from ``start`` to before ``end``."""
        return self.first < end and start < self.after


def groups_of_runs(runs: Iterable[tuple[int, int]]) -> list[Group]:
    """Make a group of each run of image tokens; runs without a token between them are one.

    runs  (first place, place after the last) of each

    Returns them in the order of their places.
    """
    groups: list[Group] = []
    for first, after in sorted(runs):
        if groups and first <= groups[-1].after:
            first = groups.pop().first
        groups.append(Group(first, after, in_window=True))
    return groups


def group_within(groups: Iterable[Group], place: int) -> Group | None:
    """Return the group that a text of so many tokens ends within; None where it ends between groups."""
    return next((group for group in groups if group.first < place < group.after), None)


def numbers_by_row(rows: Sequence[Sequence[Group]], positions: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the number of the group at each position, −1 for none.

    rows       the groups of each row
    positions  (n,), or (B, n) where they differ

    Returns (n,), or (B, n) where positions or groups differ.
    """
    if positions.ndim == 1 and all(row == rows[0] for row in rows):
        return _numbers(rows[0], positions)
    each = np.broadcast_to(positions, (len(rows), positions.shape[-1]))
    return np.stack([_numbers(row, its) for row, its in zip(rows, each, strict=True)])


def _numbers(groups: Sequence[Group], positions: NDArray[np.integer]) -> NDArray[np.int64]:
    found = np.full(positions.shape, -1, dtype=np.int64)
    for number, group in enumerate(groups):
        found[(positions >= group.first) & (positions < group.after)] = number
    return found
