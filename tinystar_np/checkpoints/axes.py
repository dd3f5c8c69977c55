"""Axes of tensors in letters: how long "HK+2GK" is, and which part of it a rank has.

An axis is a sum of products of letters and numbers; "G[QK+2K]" is the same sum once for each of G groups.
Where ranks share a model (ranks/), a product of which the class says that ranks share it is cut into a run
for each:

- "HK", whole heads: a rank has some of them. "2HK" are two such runs, one after the other, as queries and
  keys in one matrix are, and of each a rank has its part; "HK+2GK" are three runs of heads and groups.
- "H3K", heads one after the other, each with three vectors, and "H[K+P]", with two of other widths: a rank's
  heads lie together.
- "G[QK+2K]", groups one after the other, each with its Q queries, its key and its value: a rank has some
  groups, or, where there are more ranks than groups, some queries of one, with its key and value.
- "F", features, of which any run will do.

A product that begins with any other letter is whole on each rank.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from tinystar_np.ranks import Division

PRODUCT = re.compile(r"(\d*)([^+\[]*)(?:\[(.*?)\])?(?:\+|$)")
"""Of a sum: the number before a product, its letters, and what stands in brackets after it."""


def size_of(axis: str, sizes: Mapping[str, int]) -> int:
    """Turn an axis such as "D", "3D", "HK+2GK" or "G[QK+2K]" into a number."""
    return sum(
        prod(int(p) if p.isdigit() else sizes[p] for p in re.findall(r"\d+|[^\W\d]", times + letters))
        * (size_of(inner, sizes) if inner else 1)
        for times, letters, inner in PRODUCT.findall(axis)
        if times or letters
    )


def slice_of(text: str, sizes: Mapping[str, int]) -> slice:
    """Turn a part of an axis such as ":HK" or "F:2F" into numbers."""
    ends = [size_of(end, sizes) if end.strip() else None for end in text.split(":")]
    return slice(*ends)


def own_of_axis(
    axis: str, taken: tuple[int, int, int], sizes: Mapping[str, int], division: Division
) -> slice | NDArray[np.intp] | None:
    """Return which indices of an axis a rank has, of those that are taken; None for all of these.

    taken  start, stop and step, of whole runs
    """
    first, last, _ = taken
    runs, are_own = zip(*_runs(axis, sizes, division), strict=True)
    in_part = [run for run in runs if run and run.start < last and run.stop > first]
    if not any(own for run, own in zip(runs, are_own, strict=True) if run in in_part):
        return None
    assert all(first <= run.start and run.stop <= last for run in in_part), (
        f"{axis}: a part of a run is taken"
    )
    if all(one.stop == other.start for one, other in pairwise(in_part)):
        return slice(in_part[0].start, in_part[-1].stop)
    return np.concatenate([np.arange(run.start, run.stop) for run in in_part])


def _runs(axis: str, sizes: Mapping[str, int], division: Division) -> Iterator[tuple[range, bool]]:
    """Yield the runs of an axis that a rank has, and of each whether others have another part of it."""
    place = 0
    for times, letters, inner in PRODUCT.findall(axis):
        if not letters:
            size = int(times or 0)
            yield range(place, place + size), False
            place += size
            continue
        for _ in range(int(times or 1)):
            if inner:
                yield from _of_groups(letters, inner, place, sizes, division)
            size = size_of(letters, sizes) * (size_of(inner, sizes) if inner else 1)
            if not inner:
                own = division.run_of(letters, size, sizes)
                run = range(size) if own is None else own
                yield range(place + run.start, place + run.stop), own is not None
            place += size


def _of_groups(
    letter: str, inner: str, place: int, sizes: Mapping[str, int], division: Division
) -> Iterator[tuple[range, bool]]:
    """Yield the runs that a rank has of groups, which begin at a place of the axis."""
    unit, share = size_of(inner, sizes), division.share_of_groups(letter, sizes)
    if share is None:
        yield range(place, place + sizes[letter] * unit), False
        return
    for group in share.groups:
        start = place + group * unit
        for times, letters, _ in PRODUCT.findall(inner):
            size = size_of(letters, sizes) if letters else 0
            is_of_heads = letters[:1] == share.letter
            for _ in range(int(times or 1) if letters else 0):
                each = size // sizes[share.letter] if is_of_heads else 0
                own = range(share.heads.start * each, share.heads.stop * each) if each else range(size)
                yield range(start + own.start, start + own.stop), True
                start += size
