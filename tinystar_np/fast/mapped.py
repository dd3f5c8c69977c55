"""Arrays that are views of mapped files: which are, and which of the file's pages a process has in memory."""

import mmap
from contextlib import suppress

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray


def on_file(array: object) -> bool:
    """Say whether an array is a view of a mapped file."""
    return _map_of(array) is not None


def let_go(array: NDArray) -> None:
    """Release the memory of an array's mapped file; its pages can be read again."""
    found = _map_of(array)
    if found is not None and hasattr(mmap, "MADV_DONTNEED"):
        found.madvise(mmap.MADV_DONTNEED)


def keep_neighbours_out(array: NDArray) -> None:
    """See to it that pages of a mapped file beside an array do not come into this process's memory with it.

    Linux keeps files in large pieces where it can, and maps such a piece as a whole when a byte of it is
    read: with a part of a tensor, up to 2 MB of what other ranks have, at each end. But a mapping ends where
    an advice does. This one changes nothing else, as pages of files are left out of core dumps anyway.
    """
    found = _map_of(array)
    if found is None or not hasattr(mmap, "MADV_DONTDUMP") or not array.size:
        return
    first, last = byte_bounds(array)
    start = np.frombuffer(found, np.uint8).ctypes.data
    before = (first - start) // mmap.PAGESIZE * mmap.PAGESIZE
    with suppress(OSError):  # the system lets a process have only so many mappings
        found.madvise(mmap.MADV_DONTDUMP, before, last - start - before)


def _map_of(array: object) -> mmap.mmap | None:
    while isinstance(array, np.ndarray):
        array = array.base
    whole = array.obj if isinstance(array, memoryview) else None
    return whole if isinstance(whole, mmap.mmap) else None
