"""Matrices copied from the file into memory, and laid there as products read them fastest.

A mapped file costs nothing until it is used, but it is read slowly: the system keeps it in pages of 4 KB, and
at the end of each the processor must look up where the next one lies, and does not fetch ahead. Memory that a
process asks for in large pieces comes in pages of 2 MB. The order within a matrix counts as well: OpenBLAS
divides its outputs among the cores, and runs of neighbours that are too short are read slowly.

    GPT-2's 49 matrices, each times one vector (two cores, OpenBLAS 0.3.31)
    in the mapped file                               21.4 ms
    copied                                           19.6 ms
    copied, narrow and very wide ones turned         17.9 ms
    copying them once                               130   ms

Turning the others too, which most files store as (out, in), would let one vector's product read them 1.1
times as fast, and that of sixteen texts 0.7 times.

Nothing else changes: the arrays have the same shapes and numbers. Where memory is short, and where the system
does not say how much there is, matrices stay in the file.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tinystar_np.progress_bar import bar
from tinystar_np.usable import usable_cores, usable_memory

SHARE = 0.5  # of the usable memory: more is not filled with copies of what is on disk
NARROW = 512  # columns per core: (in, out) with no more than that is turned
VERY_WIDE = 16384  # columns: (out, in) with so many outputs is turned
LINE = 16  # numbers of a cache line, where each matrix begins
BAND, STRIP = 128, 512  # of a matrix that is turned: what is read and written meanwhile stays in the cache
PORTION = 1 << 19  # numbers that a thread copies before it looks for the next


def fits(numbers: int) -> bool:
    """Say whether there is room for a copy of so many float32 numbers."""
    free = usable_memory()
    return free is not None and 4 * numbers <= SHARE * free


def lay_out(
    matrices: Mapping[str, NDArray[np.float32]], copied: Callable[[], object] = lambda: None
) -> dict[str, NDArray[np.float32]]:
    """Copy matrices (in, out), in either order of memory.

    copied  is called now and then, when what has been copied is no longer looked at

    Returns the same matrices, read-only.
    """
    if not matrices:
        return {}
    targets = dict(zip(matrices, _side_by_side(matrices.values()), strict=True))
    portions = (portion for name, matrix in matrices.items() for portion in _portions(targets[name], matrix))
    numbers = sum(matrix.size for matrix in matrices.values())
    with bar(numbers, "reading", " weights") as advance:

        def copy(target: NDArray[np.float32], source: NDArray[np.float32]) -> None:
            _copy(target, source)
            copied()
            advance(source.size)

        _in_threads(copy, portions)
    for target in targets.values():
        target.flags.writeable = False
    return targets


def _by_inputs(matrix: NDArray) -> bool:
    """Decide whether the inputs' rows shall follow each other in memory, or the outputs' columns."""
    outputs = matrix.shape[1]
    if outputs <= NARROW * usable_cores():
        return False
    return outputs >= VERY_WIDE or matrix.flags.c_contiguous


def _side_by_side(matrices: Collection[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Make room for matrices in one piece of memory, so that small ones share large pages."""
    numbers = np.empty(sum(matrix.size + LINE for matrix in matrices), np.float32)
    start = 0
    for matrix in matrices:
        start += -numbers[start:].ctypes.data // numbers.itemsize % LINE
        room = numbers[start : start + matrix.size]
        start += matrix.size
        yield room.reshape(matrix.shape) if _by_inputs(matrix) else room.reshape(matrix.shape[::-1]).T


def _portions(
    target: NDArray[np.float32], source: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Divide a copy by the rows of the source's memory."""
    if not source.flags.c_contiguous:
        target, source = target.T, source.T
    rows = max(BAND, PORTION // max(1, source.shape[1]))
    for start in range(0, len(source), rows):
        yield target[start : start + rows], source[start : start + rows]


def _copy(target: NDArray[np.float32], source: NDArray[np.float32]) -> None:
    """Copy a matrix whose rows lie one after another into one whose rows or columns do."""
    if target.flags.c_contiguous:
        target[...] = source
        return
    for row in range(0, source.shape[0], BAND):
        for column in range(0, source.shape[1], STRIP):
            part = np.s_[row : row + BAND, column : column + STRIP]
            target.T[part[::-1]] = source[part].T


def _in_threads(
    copy: Callable[[NDArray[np.float32], NDArray[np.float32]], None],
    portions: Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> None:
    """Copy all portions: each thread takes the next one, until there are none."""
    lock = threading.Lock()
    faults: list[BaseException] = []

    def work() -> None:
        try:
            while not faults:
                with lock:
                    portion = next(portions, None)
                if portion is None:
                    return
                copy(*portion)
        except BaseException as fault:
            faults.append(fault)

    # Threads of their own: those of threads.py would make whoever asks a short question wait for an import.
    others = [threading.Thread(target=work, daemon=True) for _ in range(usable_cores() - 1)]
    for other in others:
        other.start()
    work()
    for other in others:
        other.join()
    if faults:
        raise faults[0]
