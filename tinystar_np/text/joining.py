"""Byte-pair encoding's loop: of all neighbours that can be joined, those that come first are, until none can.

    t h e  →  t he  →  the        "h e" is joined before "t he"

What comes first is in the vocabulary: the merge of the lowest rank (Sennrich et al. 2016, arXiv:1508.07909),
or the piece of the highest score (Kudo & Richardson 2018, arXiv:1808.06226); the leftmost of several. A heap
holds the pairs, so that the work grows with n · log n.
"""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple


class Join(NamedTuple):
    """One join.

    order  what put it before others: the lowest comes first
    place  the index, among the parts at the beginning, of the one with which the left part begins
    left   the left part
    right  the right part
    """

    order: float
    place: int
    left: str
    right: str


def join(parts: Sequence[str], order_of: Callable[[str, str], float | None]) -> tuple[list[str], list[Join]]:
    """Join neighbours.

    parts     what it begins with, such as characters; none empty
    order_of  gives two neighbours' order, lower before higher; None where they cannot be joined

    Returns the parts that are left, and the joins in the order in which they were made.
    """
    parts, made = list(parts), []
    before, after = list(range(-1, len(parts) - 1)), [*range(1, len(parts)), -1]
    # The heap's entries: which two are joined to what. Those that no longer are so are skipped.
    heap = []
    for left in range(len(parts) - 1):
        order = order_of(parts[left], parts[left + 1])
        if order is not None:
            heap.append((order, left, left + 1, parts[left] + parts[left + 1]))
    heapify(heap)
    while heap:
        order, left, right, joined = heappop(heap)
        if not parts[left] or not parts[right] or parts[left] + parts[right] != joined:
            continue
        made.append((order, left, parts[left], parts[right]))
        parts[left], parts[right] = joined, ""
        previous, following = before[left], after[right]
        after[left] = following
        if following >= 0:
            before[following] = left
            order = order_of(joined, parts[following])
            if order is not None:
                heappush(heap, (order, left, following, joined + parts[following]))
        if previous >= 0:
            order = order_of(parts[previous], joined)
            if order is not None:
                heappush(heap, (order, previous, left, parts[previous] + joined))
    return [part for part in parts if part], [Join(*one) for one in made]
