"""Arrays as the page stores them: bytes, compressed together, and a table of where each begins.

Values are shown as colours, and 8 bits are enough for a colour. A signed value x of a row is stored as

    128 + sign(x) · round(127 · √(|x| / largest |x| of the row))

The root keeps small values apart beside an outlier a hundred times as large, which residual streams have; the
page undoes it. Probabilities are stored as round(255 · p). What is a number to read (a largest value, a mean,
a score) is stored exactly, as float32 or as an integer.
"""

import base64
import zlib
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

NOT_A_NUMBER = 0
"""The code of NaN; all others are 1 to 255, and 128 is zero."""


class Place(TypedDict):
    """Where an array lies among the bytes: its NumPy element type, its shape, its first byte."""

    type: str
    shape: list[int]
    at: int


class Arrays:
    """Named arrays that go into a page, in the order of their coming."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, name: str, array: NDArray) -> None:
        """Add an array exactly; float64 becomes float32, and integers 32 bits wide unless narrower."""
        if array.dtype.kind == "f":
            array = array.astype("<f4")
        elif array.dtype.kind in "iu" and array.dtype.itemsize > 2:
            array = array.astype("<i4")
        data = np.ascontiguousarray(array).tobytes()
        data += bytes(-len(data) % 4)  # JavaScript's views of numbers begin at multiples of their size
        self.places[name] = {"type": array.dtype.name, "shape": list(array.shape), "at": self._size}
        self._parts.append(data)
        self._size += len(data)

    def add_signed(self, name: str, rows: NDArray) -> None:
        """Add rows of signed values (..., n) as codes, and as ``name.scale`` the largest value of each."""
        codes, scale = coded(rows)
        self.add(name, codes)
        self.add(f"{name}.scale", scale)

    def add_probabilities(self, name: str, p: NDArray) -> None:
        """Add values from 0 to 1 as bytes."""
        self.add(name, probabilities_coded(p))

    @property
    def size(self) -> int:
        """Bytes before compression."""
        return self._size

    def text(self) -> str:
        """Compress all bytes; base64."""
        return base64.b64encode(zlib.compress(b"".join(self._parts), 7)).decode()


def coded(rows: NDArray) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Code rows of signed values: (..., n) → (codes (..., n), largest |x| (...)). NaN is ``NOT_A_NUMBER``."""
    x = np.asarray(rows, dtype=np.float32)
    size = np.abs(x)
    finite = np.where(np.isfinite(size), size, np.float32(0))
    scale = finite.max(axis=-1, initial=0)
    ratio = finite / np.where(scale > 0, scale, np.float32(1))[..., None]
    ratio = np.where(np.isinf(size), np.float32(1), ratio)
    codes = 128 + np.sign(np.nan_to_num(x)) * np.rint(127 * np.sqrt(ratio))
    return np.where(np.isnan(x), NOT_A_NUMBER, codes).astype(np.uint8), scale


def probabilities_coded(p: NDArray) -> NDArray[np.uint8]:
    """Code values from 0 to 1 as round(255 · p); NaN is 0."""
    return np.rint(255 * np.clip(np.nan_to_num(p), 0, 1)).astype(np.uint8)


def pooled(rows: NDArray, columns: int) -> NDArray:
    """Make rows at most ``columns`` wide: of each group of neighbours the value furthest from 0.

    rows  (..., n); groups have ⌈n / columns⌉ members, the last perhaps fewer
    """
    n = rows.shape[-1]
    width = group_width(n, columns)
    if width == 1:
        return rows
    groups = -(-n // width)
    padded = np.zeros((*rows.shape[:-1], groups * width), dtype=rows.dtype)
    padded[..., :n] = rows
    grouped = padded.reshape(*rows.shape[:-1], groups, width)
    furthest = np.abs(np.nan_to_num(grouped)).argmax(axis=-1)
    return np.take_along_axis(grouped, furthest[..., None], axis=-1)[..., 0]


def group_width(n: int, columns: int) -> int:
    """Return how many of n neighbours share one of ``columns`` columns."""
    return max(1, -(-n // columns))
