"""Arrays that are views of mapped files: which are, and how their memory is given back."""

import mmap

import numpy as np
from numpy.typing import NDArray


def on_file(array: object) -> bool:
    """Say whether an array is a view of a mapped file."""
    return _map_of(array) is not None


def let_go(array: NDArray) -> None:
    """Release the memory of an array's mapped file; its pages can be read again."""
    found = _map_of(array)
    if found is not None and hasattr(mmap, "MADV_DONTNEED"):
        found.madvise(mmap.MADV_DONTNEED)


def _map_of(array: object) -> mmap.mmap | None:
    while isinstance(array, np.ndarray):
        array = array.base
    whole = array.obj if isinstance(array, memoryview) else None
    return whole if isinstance(whole, mmap.mmap) else None
