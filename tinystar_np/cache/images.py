"""Images among the tokens of a text: where they stand, and the vectors that a model reads there.

A cache keeps those of its rows. Positions after an image depend on its grid in some models
(kernels/rope_axes.py), and a text that is read again needs its images again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Run = tuple[int, int]


@dataclass(frozen=True, eq=False)
class SeenImage:
    """An image as a model reads it: a vector at each of its places in a text.

    places   (N,) ascending positions in the text
    vectors  (N, D) what stands there instead of the embedding of a token
    grid     (t, h, w) of the vectors, N = t·h·w, where positions depend on it; None elsewhere
    deep     (M, N, D) further vectors, added to the residual stream after each of the first M blocks;
             None for none
    """

    places: NDArray[np.int64]
    vectors: NDArray[np.float32]
    grid: tuple[int, int, int] | None = None
    deep: NDArray[np.float32] | None = None

    def runs(self) -> list[Run]:
        """Return the first place, and the one after the last, of each run of places without a gap."""
        ends = np.flatnonzero(np.diff(self.places) > 1) + 1
        return [(int(run[0]), int(run[-1]) + 1) for run in np.split(self.places, ends)]

    def within(self, start: int, end: int) -> slice:
        """Return which of its vectors have a place from ``start`` to before ``end``."""
        first, after = np.searchsorted(self.places, (start, end))
        return slice(int(first), int(after))

    def moved(self, by: int) -> "SeenImage":
        """Return it so many places later in a text."""
        return SeenImage(self.places + by, self.vectors, self.grid, self.deep)


Images = tuple[SeenImage, ...]
"""Those of one row, in the order of their places."""


def begun(rows: Sequence[Images] | None, lengths: NDArray[np.int64]) -> Sequence[Images] | None:
    """Return those of which rows that hold ``lengths`` (B,) tokens have a part; None for none."""
    if rows is None:
        return None
    left = [
        tuple(image for image in images if image.places[0] < length)
        for images, length in zip(rows, lengths.tolist(), strict=True)
    ]
    return left if any(left) else None


def merged(held: Sequence[Images] | None, given: Sequence[Sequence[SeenImage]]) -> Sequence[Images]:
    """Return the images of each row's text: those that a cache holds, and those given that are new."""
    return [
        _merged(old, new) for old, new in zip([()] * len(given) if held is None else held, given, strict=True)
    ]


def _merged(held: Images, given: Sequence[SeenImage]) -> Images:
    known = {int(image.places[0]) for image in held}
    new = (image for image in given if int(image.places[0]) not in known)
    return tuple(sorted((*held, *new), key=lambda image: int(image.places[0])))


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
            if not after < image.places[0] < length:
                raise ValueError(f"{name} begins at {image.places[0]} of {length} tokens")
            images.append(image)
        rows.append(tuple(images))
    if left:
        raise ValueError(f"{next(iter(left))} is of no image")
    return tuple(rows)


def _restored(name: str, left: dict[str, NDArray], width: int) -> SeenImage:
    places, vectors = left.pop(f"{name}.places"), left.pop(f"{name}.vectors", None)
    grid, deep = left.pop(f"{name}.grid", None), left.pop(f"{name}.deep", None)
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
    )
