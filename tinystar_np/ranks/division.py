"""Which rank has what: runs of layers, or shares of heads, features, experts and vocabulary."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import InputError
from tinystar_np.ranks.ranks import Ranks

BLOCK = 256
"""Numbers of the longest block of a packed type: shares of features end at such borders where there are
enough of them, so that no block is cut."""


def shares(count: int, size: int, unit: int = 1) -> list[range]:
    """Divide ``count`` things into a run for each of ``size`` ranks, as even as can be, longer ones first.

    unit  how many stay together

    >>> shares(9, 2), shares(9, 2, unit=3)
    ([range(0, 5), range(5, 9)], [range(0, 6), range(6, 9)])
    """
    units = count // unit
    each = [units // size + (rank < units % size) for rank in range(size)]
    ends = [0, *accumulate(n * unit for n in each)]
    ends[-1] = count
    return [range(start, end) for start, end in pairwise(ends)]


def layers_of_ranks(weights: Sequence[int], beside: int, size: int) -> list[range]:
    """Divide layers into a run for each rank so that the fullest rank holds as little as possible.

    weights  bytes of each layer
    beside   bytes that rank 0 holds besides: the output layer
    size     ranks, at most as many as layers

    >>> layers_of_ranks([10] * 6, 20, 2)
    [range(0, 2), range(2, 6)]

    Raises InputError where there are fewer layers than ranks.
    """
    if len(weights) < size:
        raise InputError(
            f"{size} ranks cannot share {len(weights)} layers: each takes one at least. Start fewer."
        )
    L, sums = len(weights), [0, *accumulate(weights)]
    # Of the first i layers: the fullest rank's bytes where so many ranks share them, and the last's first.
    too_much = beside + sums[L] + 1
    fullest = [too_much, *(beside + each for each in sums[1:])]
    begins: list[list[int]] = []
    for r in range(1, size):
        best = [
            min(((max(fullest[j], sums[i] - sums[j]), j) for j in range(r, i)), default=(too_much, 0))
            for i in range(L + 1)
        ]
        fullest = [each for each, _ in best]
        begins.append([first for _, first in best])
    ends = [L]
    for row in reversed(begins):
        ends.append(row[ends[-1]])
    return [range(a, b) for a, b in pairwise([0, *reversed(ends)])]


class HeadShare(NamedTuple):
    """The heads that a rank has: its runs of query heads and of the key/value heads that they share."""

    heads: range
    groups: range


class GroupShare(NamedTuple):
    """The groups that a rank has, where a matrix has all of a group together.

    groups  some of all
    heads   which of the heads of each
    letter  that of a group's heads; "" where a group is a head, which is whole
    """

    groups: range
    heads: range
    letter: str


class Divides(NamedTuple):
    """Which letters in the shapes of a weight table say that ranks share an axis.

    heads     letters of heads; of the groups that share keys and values, if there are any; and of how many
              heads a group has, where a matrix has all of a group together: "H", "HG", "HGQ"
    features  products of letters of which a rank may have any run: "F", "MS" of S shared experts
    why_not   why nothing can be shared: a sentence for errors; "" where it can
    """

    heads: Sequence[str] = ("HG",)
    features: Sequence[str] = ("F", "V", "MS", "FS")
    why_not: str = ""


class Division:
    """How a model is divided within its layers, as one rank sees it.

    ranks    all ranks
    divides  by which letters

    joins       {our name of a matrix: how the ranks' products with their parts become one result}, "sum" of
                parts of sums, or "side by side"; of a norm's gain "mean"
    shares      {our name of a norm's gain: which share of the whole this rank's part is}
    first_rows  {our name of a table: which row of the whole is the first}
    """

    def __init__(self, ranks: Ranks, divides: Divides):
        self.ranks, self.divides = ranks, divides
        self.joins: dict[str, str] = {}
        self.shares: dict[str, float] = {}
        self.first_rows: dict[str, int] = {}

    def heads(self, heads: int, groups: int) -> HeadShare:
        """Return the heads of this rank: whole groups where there are enough, else heads within one group.

        heads   H
        groups  G, which divides H: neighbouring heads share one
        """
        return heads_of_ranks(heads, groups, self.ranks.size)[self.ranks.rank]

    def features(self, count: int) -> range:
        """Return this rank's run of features of a feed-forward layer, or of a vocabulary."""
        return features_of_ranks(count, self.ranks.size)[self.ranks.rank]

    def experts(self, count: int) -> range:
        """Return this rank's run of experts, none where there are more ranks than experts."""
        return shares(count, self.ranks.size)[self.ranks.rank]

    def counted(self, letter: str, count: int) -> range:
        """Return which of several equal things this rank has that a weight table numbers, by their letter."""
        if letter == "E":
            return self.experts(count)
        return self.heads(count, count).heads if letter in self.divides.heads else range(count)

    def run_of(self, letters: str, size: int, sizes: Mapping[str, int]) -> range | None:
        """Return this rank's run of an axis of a tensor; None where each rank has all of it.

        letters  whose product is the axis: "HK"
        size     that product
        sizes    of the letters
        """
        if letters in self.divides.features:
            return self.features(size)
        for each in self.divides.heads:
            share, _ = self._shared(each, letters, sizes)
            if share is None:
                continue
            run = share.heads if letters.startswith(each[0]) else share.groups
            unit = size // sizes[letters[0]]
            return range(run.start * unit, run.stop * unit)
        return None

    def share_of_groups(self, letter: str, sizes: Mapping[str, int]) -> GroupShare | None:
        """Return what this rank has of groups that lie together, by their letter; None for all of each."""
        for each in self.divides.heads:
            if letter == each[0]:
                groups = sizes.get(each[1:2], sizes[letter])
                return GroupShare(self.heads(sizes[letter], groups).heads, range(0), "")
            if letter == each[1:2] and each[2:]:
                share, of_each = self.heads(sizes[each[0]], sizes[letter]), sizes[each[2]]
                first = share.heads.start % of_each
                return GroupShare(
                    share.groups, range(first, first + len(share.heads) // len(share.groups)), each[2]
                )
        return None

    def has_heads(self, axes: str) -> bool:
        """Say whether a shape in letters has an axis of heads, or of groups of them."""
        letters = "".join(each[:2] for each in self.divides.heads)
        return any(axis.strip("()ᵀ")[:1] in letters for axis in axes.split())

    def counts(self, letters: str, sizes: Mapping[str, int]) -> bool:
        """Say whether this rank is the first that has its run of an axis, which others may have too."""
        for each in self.divides.heads:
            share, groups = self._shared(each, letters, sizes)
            if share is not None and not letters.startswith(each[0]):
                of_each = sizes[each[0]] // groups
                return share.heads.start == share.groups.start * of_each
        return True

    def _shared(self, each: str, letters: str, sizes: Mapping[str, int]) -> tuple[HeadShare | None, int]:
        """Return the rank's heads and groups, and G, where letters begin with one of these."""
        H, G = each[0], each[1] if len(each) > 1 else each[0]
        if not letters.startswith((H, G)):
            return None, 0
        heads = sizes[H] if H in sizes else sizes[G]
        groups = sizes.get(G, heads)
        return self.heads(heads, groups), groups

    def mean(self, x: NDArray, width: int) -> NDArray:
        """Return the mean of vectors of this width, of which each rank has some numbers: (..., 1)."""
        return self.ranks.sum(x.sum(axis=-1, keepdims=True) / x.dtype.type(width))

    def largest(self, x: NDArray) -> NDArray:
        """Return the largest of the ranks' numbers, at each place of an array that is not negative."""
        of_each = np.zeros((self.ranks.size, *x.shape), dtype=x.dtype)
        of_each[self.ranks.rank] = x
        return self.ranks.sum(of_each).max(axis=0)

    def agreed(self, x: NDArray) -> NDArray:
        """Return what rank 0 has, on all ranks: numbers in which machines must not differ in the last bit."""
        return self.ranks.sum(x if self.ranks.rank == 0 else np.zeros_like(x))


def features_of_ranks(count: int, size: int) -> list[range]:
    """Divide features, or rows of a vocabulary, at borders of blocks where these are even enough.

    >>> features_of_ranks(1536, 2), features_of_ranks(10, 3)
    ([range(0, 768), range(768, 1536)], [range(0, 4), range(4, 7), range(7, 10)])
    """
    unit = BLOCK
    while unit > 1 and (count % unit or (count // unit % size and count // unit < 8 * size)):
        unit //= 2  # an uneven share of eight blocks is an eighth too large
    return shares(count, size, unit)


def heads_of_ranks(heads: int, groups: int, size: int) -> list[HeadShare]:
    """Divide heads among ranks; see ``Division.heads``.

    >>> heads_of_ranks(9, 3, 2)
    [HeadShare(heads=range(0, 6), groups=range(0, 2)), HeadShare(heads=range(6, 9), groups=range(2, 3))]
    >>> [share.heads for share in heads_of_ranks(8, 1, 3)]
    [range(0, 3), range(3, 6), range(6, 8)]

    Raises InputError where there are fewer heads than ranks.
    """
    if heads < size:
        raise InputError(f"{size} ranks cannot share {heads} heads: each takes one at least. Start fewer.")
    of_each = heads // groups
    if groups >= size:
        return [
            HeadShare(range(run.start * of_each, run.stop * of_each), run) for run in shares(groups, size)
        ]
    found: list[HeadShare] = []
    for group, its_ranks in enumerate(shares(size, groups)):
        first = group * of_each
        if len(its_ranks) > of_each:
            raise InputError(
                f"{size} ranks cannot share {heads} heads in {groups} groups: a rank would have none. "
                "Start fewer."
            )
        found += [
            HeadShare(range(first + run.start, first + run.stop), range(group, group + 1))
            for run in shares(of_each, len(its_ranks))
        ]
    return found
