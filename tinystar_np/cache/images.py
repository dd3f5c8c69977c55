"""Images among the tokens of a text: where they stand, and the vectors that a model reads there.

A cache keeps those of its rows. Positions after an image depend on its grid in some models
(kernels/rope_axes.py), and a text that is read again needs its images again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.groups import Group, group_within, groups_of_runs
from tinystar_np.errors import InputError

Run = tuple[int, int]
SAME = 1e-3
"""Of the largest number: up to this much the vectors of an image that is read twice may differ."""


@dataclass(frozen=True, eq=False)
class SeenImage:
    """An image as a model reads it: a vector at each of its places in a text.

    places   (N,) ascending positions in the text
    vectors  (N, D) what stands there instead of the embedding of a token
    grid     (t, h, w) of the vectors, N = t·h·w, where positions depend on it; None elsewhere
    deep     (M, N, D) further vectors, added to the residual stream after each of the first M blocks;
             None for none
    groups   of tokens that see one another, to which some of its places belong; none in most models
    prefix   whether all tokens of the call in which it is read are a group, which ``groups`` then names
    """

    places: NDArray[np.int64]
    vectors: NDArray[np.float32]
    grid: tuple[int, int, int] | None = None
    deep: NDArray[np.float32] | None = None
    groups: tuple[Group, ...] = ()
    prefix: bool = False

    @property
    def first(self) -> int:
        """The first of its places."""
        return int(self.places[0])

    @property
    def begins(self) -> int:
        """The first place that it, or a group of it, takes."""
        return min([self.first, *(group.first for group in self.groups)])

    def is_like(self, held: "SeenImage", length: int) -> bool:
        """Say whether it can be an image that a cache holds, perhaps read once more.

        length  tokens that the cache holds; nothing need be the same of an image that it holds as a whole
        """
        if not np.array_equal(self.places, held.places):
            return False
        if self.vectors is held.vectors or held.places[-1] < length:
            return True
        difference = np.abs(self.vectors - held.vectors).max()
        return not difference > SAME * np.abs(held.vectors).max()  # of NaN nobody knows

    def runs(self) -> list[Run]:
        """Return the first place, and the one after the last, of each run of places without a gap."""
        ends = np.flatnonzero(np.diff(self.places) > 1) + 1
        return [(int(run[0]), int(run[-1]) + 1) for run in np.split(self.places, ends)]

    def within(self, start: int, end: int) -> slice:
        """Return which of its vectors have a place from ``start`` to before ``end``."""
        first, after = np.searchsorted(self.places, (start, end))
        return slice(int(first), int(after))

    def as_read(self, start: int, end: int) -> "SeenImage":
        """Return it as a call of the tokens from ``start`` to before ``end`` reads it.

        It has no vectors then, unless some of its places are among these.
        """
        new = self.within(start, end)
        return self if new.stop > new.start else replace(self, vectors=self.vectors[:0], deep=None)

    def moved(self, by: int) -> "SeenImage":
        """Return it so many places later in a text."""
        groups = tuple(Group(g.first + by, g.after + by, g.in_window) for g in self.groups)
        return replace(self, places=self.places + by, groups=groups)


Images = tuple[SeenImage, ...]
"""Those of one row, in the order of their places."""


def groups_of(images: Sequence[SeenImage]) -> list[Group]:
    """Return the groups of the images of a text, each once, in the order of their places."""
    return sorted({group for image in images for group in image.groups})


def grouped(images: Sequence[SeenImage]) -> Images:
    """Return images whose tokens see one another, those of each image and of neighbours without a gap."""
    groups = groups_of_runs(run for image in images for run in image.runs())
    return tuple(
        replace(
            image,
            groups=tuple(
                group
                for group in groups
                if any(group.first <= first < group.after for first, _ in image.runs())
            ),
        )
        for image in images
    )


def is_of_images(images: Sequence[SeenImage], group: Group) -> bool:
    """Say whether all tokens of a group are image tokens, whose vectors are known."""
    within = (image.within(group.first, group.after) for image in images)
    return sum(some.stop - some.start for some in within) == group.after - group.first


def with_prefixes(rows: Sequence[Images], starts: NDArray[np.int64], length: int) -> Sequence[Images]:
    """Make the new tokens of each row a group where an image asks for it that begins among them.

    starts  (B,) where each row's new tokens begin
    length  T

    Raises InputError where such an image ends later.
    """
    return [
        _with_prefix(images, start, start + length)
        for images, start in zip(rows, starts.tolist(), strict=True)
    ]


def _with_prefix(images: Images, start: int, end: int) -> Images:
    new = [image for image in images if image.prefix and start <= image.places[0] < end and not image.groups]
    for image in new:
        if image.places[-1] >= end:
            raise InputError(
                f"A call of the model ends at token {end}, within an image of {len(image.places)} tokens. In "
                "this model all tokens of a prompt with images see one another: give the prompt in one call."
            )
    return tuple(replace(image, groups=(Group(start, end),)) if image in new else image for image in images)


def piece_ends(images: Sequence[SeenImage], start: int, end: int, most: int) -> list[int]:
    """Cut the tokens from ``start`` to before ``end`` into pieces, none of which ends within a group.

    images  of the text
    most    tokens of a piece; only where a group has more, its piece does

    Returns where each piece ends.
    """
    if any(image.prefix and not image.groups and start <= image.places[0] < end for image in images):
        return [end]
    groups, ends = groups_of(images), [start]
    while ends[-1] < end:
        place = min(ends[-1] + most, end)
        cut = group_within(groups, place)
        if cut is not None and place < end:
            place = cut.first if cut.first > ends[-1] else min(cut.after, end)
        ends.append(place)
    return ends[1:]


def begun(rows: Sequence[Images] | None, lengths: NDArray[np.int64]) -> Sequence[Images] | None:
    """Return those of which rows that hold ``lengths`` (B,) tokens have a part; None for none."""
    if rows is None:
        return None
    left = [
        tuple(image for image in images if image.begins < length)
        for images, length in zip(rows, lengths.tolist(), strict=True)
    ]
    return left if any(left) else None


def merged(
    held: Sequence[Images] | None, given: Sequence[Sequence[SeenImage]], lengths: NDArray[np.int64]
) -> Sequence[Images]:
    """Return the images of each row's text in their order: those that a cache holds, and further ones.

    held     by the cache; None for none
    given    for each row, in any order; those that the cache holds may be among them
    lengths  (B,) tokens that the cache holds of each row

    Raises InputError where two images would stand at one place, or one where tokens were read without it.
    """
    rows = [()] * len(given) if held is None else held
    return [_merged(old, new, n) for old, new, n in zip(rows, given, lengths.tolist(), strict=True)]


def _merged(held: Images, given: Sequence[SeenImage], length: int) -> Images:
    known = {image.first: image for image in held}
    for image in given:
        same = known.setdefault(image.first, image)
        if same is image and image.first < length and image not in held:
            raise InputError(
                f"An image has its first place at token {image.first}, but the cache holds {length} tokens, "
                "which were read without it. Give an image together with the tokens at its places."
            )
        if not image.is_like(same, length):
            raise _two_images(image, same, length)
    images = tuple(known[first] for first in sorted(known))
    for image, following in pairwise(images):
        if following.first <= image.places[-1]:
            raise _two_images(following, image, length)
    return images


def _two_images(image: SeenImage, other: SeenImage, length: int) -> InputError:
    """Return the error for an image that begins within another, where a cache holds so many tokens."""
    if other.first < length <= other.places[-1]:
        return InputError(
            f"The cache ends at token {length}, within an image, and the one given for token {image.first} "
            f"is another. Cut the cache before it, cache.truncate({other.first}), or give the same image."
        )
    return InputError(
        f"An image begins at token {image.first}, among the places of another, the tokens {other.first} to "
        f"{other.places[-1]}. Give each image its own places."
    )


def arrays_of(rows: Sequence[Images]) -> dict[str, NDArray]:
    """Return what must be saved of the images of all rows: {"images.0.1.places": …} is of row 0, image 1."""
    found: dict[str, NDArray] = {}
    for b, images in enumerate(rows):
        for i, image in enumerate(images):
            name = f"images.{b}.{i}"
            found |= {f"{name}.places": image.places, f"{name}.vectors": image.vectors}
            if image.grid is not None:
                found[f"{name}.grid"] = np.asarray(image.grid, dtype=np.int64)
            if image.deep is not None:
                found[f"{name}.deep"] = image.deep
            if image.groups:
                found[f"{name}.groups"] = np.asarray(image.groups, dtype=np.int64)
    return found


def restored(arrays: Mapping[str, NDArray], lengths: NDArray[np.int64], width: int) -> tuple[Images, ...]:
    """Return the images that ``arrays_of`` wrote, copied.

    lengths  (B,) tokens of each row
    width    D

    Raises ValueError where they do not fit.
    """
    left = dict(arrays)
    rows = []
    for b, length in enumerate(lengths.tolist()):
        images: list[SeenImage] = []
        while (name := f"images.{b}.{len(images)}") + ".places" in left:
            image = _restored(name, left, width)
            after = images[-1].places[0] if images else -1
            if not after < image.places[0] or not image.begins < length:
                raise ValueError(f"{name} begins at {image.places[0]} of {length} tokens")
            images.append(image)
        rows.append(tuple(images))
    if left:
        raise ValueError(f"{next(iter(left))} is of no image")
    return tuple(rows)


def _restored(name: str, left: dict[str, NDArray], width: int) -> SeenImage:
    places, vectors = left.pop(f"{name}.places"), left.pop(f"{name}.vectors", None)
    grid, deep = left.pop(f"{name}.grid", None), left.pop(f"{name}.deep", None)
    groups = _groups(name, left.pop(f"{name}.groups", np.zeros((0, 3), dtype=np.int64)))
    N = len(places) if places.ndim == 1 else 0
    fits = (
        N > 0
        and places.dtype == np.int64
        and places[0] >= 0
        and bool((np.diff(places) > 0).all())
        and vectors is not None
        and vectors.dtype == np.float32
        and vectors.shape == (N, width)
        and (grid is None or (grid.dtype == np.int64 and grid.shape == (3,)))
        and (grid is None or (bool((grid > 0).all()) and int(grid.prod()) == N))
        and (deep is None or (deep.dtype == np.float32 and deep.shape[1:] == (N, width)))
    )
    if not fits or vectors is None:
        raise ValueError(f"{name} is no image of width {width}")
    t, h, w = (0, 0, 0) if grid is None else grid.tolist()
    return SeenImage(
        places.copy(),
        vectors.copy(),
        None if grid is None else (t, h, w),
        None if deep is None else deep.copy(),
        groups,
    )


def _groups(name: str, rows: NDArray) -> tuple[Group, ...]:
    """Make the groups that were saved as rows of their three numbers."""
    is_table = rows.dtype == np.int64 and rows.ndim == 2 and rows.shape[1] == 3
    edges = rows[:, :2].ravel() if is_table else rows.ravel()[:0]
    if not is_table or (edges < 0).any() or (np.diff(edges) < 0).any() or (rows[:, 0] == rows[:, 1]).any():
        raise ValueError(f"{name}.groups are no runs of tokens")
    return tuple(Group(first, after, bool(in_window)) for first, after, in_window in rows.tolist())
