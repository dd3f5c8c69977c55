"""A mask as parts: runs of queries, each with the one run of keys that its queries may attend to.

Blocks of scores need no T·S truth values where it is known how far a query's keys reach: so many before it,
so many after it. A call is cut where that changes: between the rows of a batch, where chunks end, and where
groups begin and end. A query of an image attends to the keys that the other rules allow and to those of its
image; its own position is in both, and so the two together are one run again.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast.remembered import remembered
from tinystar_np.kernels.chunked_attention import pieces
from tinystar_np.kernels.masks import Mask

Positions = NDArray[np.integer]

PLAIN_SCORES = 64 * 64  # scores of a head up to which the definition is faster
ALL = 1 << 40  # farther than any text is long
NO_GROUP = np.array([-1])


class Reach(NamedTuple):
    """Which keys a run of queries may attend to, both at consecutive positions.

    offset  the index of the key at the first query's position
    before  how many earlier keys a query may attend to
    after   how many later keys a query may attend to
    """

    offset: int
    before: int
    after: int


class Part(NamedTuple):
    """A run of queries and the run of keys that they may attend to, both at consecutive positions.

    row  of the batch; None for every row
    """

    row: int | None
    queries: slice
    keys: slice
    reach: Reach


def parts_of(q: NDArray, k: NDArray, mask: Mask | None) -> list[Part] | None:
    """Cut a call into parts that can be attended to in blocks; None where the definition should run."""
    T, S = q.shape[-2], k.shape[-2]
    if T == 1 or T * S <= PLAIN_SCORES or q.ndim != 4:
        return None
    return [Part(None, slice(0, T), slice(0, S), Reach(0, ALL, ALL))] if mask is None else _parts(*mask)


class Run(NamedTuple):
    """Queries at consecutive positions, and how far their keys reach, by position.

    low     the first position that any of them may attend to
    high    the position after the last one
    before  how many earlier keys a query may attend to
    after   how many later keys a query may attend to
    """

    queries: range
    low: int
    high: int
    before: int
    after: int


class Rules(NamedTuple):
    """What a mask says for all queries, as in ``Mask``."""

    window: int | None
    chunk: int | None
    causal: bool
    groups_in_window: bool


@remembered
def _parts(
    queries: Positions,
    keys: Positions,
    window: int | None,
    chunk: int | None,
    causal: bool,
    query_groups: Positions | None,
    key_groups: Positions | None,
    groups_in_window: bool,
) -> list[Part] | None:
    """Cut a call into its rows where these differ, and each row into runs.

    Returns None where positions are not consecutive, or those of a group.
    """
    rules = Rules(window, chunk, causal, groups_in_window)
    if query_groups is None or key_groups is None:
        query_groups = key_groups = NO_GROUP
    arrays = queries, keys, query_groups, key_groups
    lengths = (queries.shape[-1], keys.shape[-1]) * 2
    rows = max(len(array) if array.ndim == 2 else 1 for array in arrays)
    by_row = [np.broadcast_to(a, (rows, length)) for a, length in zip(arrays, lengths, strict=True)]
    uniform = all(array.ndim == 1 for array in arrays)
    parts = []
    for row, (t, s, t_groups, s_groups) in enumerate(zip(*by_row, strict=True)):
        first_key = int(np.count_nonzero(s < 0))
        if (np.diff(t) != 1).any() or (np.diff(s[first_key:]) != 1).any() or (s[:first_key] >= 0).any():
            return None
        if first_key == len(s):
            return None
        start, zero = int(t[0]), int(s[first_key]) - first_key  # the position that would stand at place 0
        runs = _runs_of_row(start, t_groups, zero + first_key, s_groups[first_key:], rules)
        if runs is None:
            return None
        for run in runs:
            low = max(zero + first_key, run.low, run.queries.start - run.before)
            high = min(zero + len(s), run.high, run.queries.stop + run.after)
            if high <= low:
                return None
            parts.append(
                Part(
                    None if uniform else row,
                    slice(run.queries.start - start, run.queries.stop - start),
                    slice(low - zero, high - zero),
                    Reach(run.queries.start - low, run.before, run.after),
                )
            )
    return parts


def _runs_of_row(
    start: int, query_groups: Positions, first_key: int, key_groups: Positions, rules: Rules
) -> list[Run] | None:
    """Cut the queries from position ``start`` on into runs, the first key's position being ``first_key``.

    Returns None where a group is no run of keys around its queries.
    """
    runs: list[Run] = []
    groups = np.maximum(query_groups, -1)
    edges = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(groups)]
    for first, stop in pairwise(edges):
        positions, members = range(start + first, start + stop), np.flatnonzero(key_groups == groups[first])
        if groups[first] < 0 or len(members) == 0:
            runs += _runs_of_text(positions, rules)
            continue
        own = range(first_key + int(members[0]), first_key + int(members[-1]) + 1)
        if len(own) != len(members) or positions.start < own.start or positions.stop > own.stop:
            return None
        runs += _runs_of_group(positions, own, rules)
    return runs


def _runs_of_text(positions: range, rules: Rules) -> Iterator[Run]:
    """Cut queries of no group where chunks end."""
    window, chunk, causal, _ = rules
    before = ALL if window is None else window - 1
    after = 0 if causal else before
    if chunk is None:
        yield Run(positions, -ALL, ALL, before, after)
    else:
        for piece in pieces(positions.start, positions.stop, chunk):
            low = piece.start // chunk * chunk
            yield Run(piece, low, low + chunk, before, after)


def _runs_of_group(positions: range, own: range, rules: Rules) -> Iterator[Run]:
    """Cut queries of one group, whose keys stand at ``own``, where the rule of their first or last key does.

    The first key is that of the other rules or of the group, whichever is earlier. A window begins before the
    group for its first queries and after the group's beginning for its last; so it is at the other end.
    """
    for piece, low, high, before, after in _runs_of_text(positions, rules):
        changes = own.start + before + 1, own.stop - after
        edges = sorted({piece.start, piece.stop, *(edge for edge in changes if edge in piece)})
        for first, stop in pairwise(edges):
            run = Run(range(first, stop), low, high, before, after)
            if rules.groups_in_window:
                run = run._replace(low=min(low, own.start))
            elif own.start <= low or own.start < first - before:
                run = run._replace(low=own.start, before=ALL)
            if own.stop >= high or own.stop > first + after:
                run = run._replace(high=own.stop, after=ALL)
            yield run
