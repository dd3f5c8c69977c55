"""Matrices copied from the file into memory, and laid there as products read them fastest.

A mapped file costs nothing until it is used, but may be read slowly. Where the system keeps it in pages of
4 KB, the processor must look up at the end of each where the next one lies, and does not fetch ahead: so do
Linux's ext4 before 6.16, and later systems with what was written in small pieces. Memory that a process asks
for in large pieces comes in pages of 2 MB. The order within a matrix counts as well: OpenBLAS divides its
outputs among the cores, and runs of neighbours that are too short are read slowly.

    GPT-2's 49 matrices, each times one vector (two cores, OpenBLAS 0.3.31)
    in the mapped file, small pages                  21.4 ms
    in the mapped file, large pages                  20.4 ms
    copied                                           19.8 ms
    copied, narrow and very wide ones turned         17.9 ms

Turning the others too, which most files store as (out, in), would let one vector's product read them 1.1
times as fast, and that of sixteen texts 0.7 times.

Nothing else changes: shapes and numbers are the same, though some sums are taken in another order. A model
begins with the file, since a short answer is there before the copying has paid off; ``load`` copies where it
is asked to. Half a gigabyte takes 0.2 s, and 1.3 s on virtual machines that hand out fresh memory slowly.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.safetensors_file import let_go, on_file
from tinystar_np.errors import InputError
from tinystar_np.layers_old import Linear
from tinystar_np.progress_bar import bar
from tinystar_np.threads import divided, shares
from tinystar_np.usable import usable_cores, usable_memory

NARROW = 512  # columns per core: (in, out) with no more than that is turned
VERY_WIDE = 16384  # columns: (out, in) with so many outputs is turned
LINE = 16  # numbers of a cache line, where each matrix begins
BAND, STRIP = 128, 512  # of a matrix that is turned: what is read and written meanwhile stays in the cache
PORTION = 1 << 19  # numbers to copy before the file's memory is let go


def move_into_memory(layers: object) -> None:
    """Replace what linear layers have mapped by copies.

    layers  a layer, or a list of layers; those within them are found

    Raises InputError where there is no room; then all is as it was.
    """
    linears = [linear for linear in dict.fromkeys(linears_of(layers)) if on_file(linear.weight)]
    matrices = [linear.weight for linear in linears if isinstance(linear.weight, np.ndarray)]
    numbers = sum(matrix.size for matrix in matrices)
    free = usable_memory()
    if free is not None and 4 * numbers > free:
        raise InputError(
            f"The weights take {4e-9 * numbers:.1f} GB of memory, and {1e-9 * free:.1f} GB are free.\n"
            "Read them from the file instead, which needs less, or keep them in a narrower type."
        )
    with bar(numbers, "reading", " weights") as advance:

        def copied(portion: NDArray) -> None:
            let_go(portion)
            advance(portion.size)

        for linear, matrix in zip(linears, lay_out(matrices, copied), strict=True):
            linear.weight = matrix


def linears_of(layer: object) -> Iterator[Linear]:
    """Find the linear layers within a layer, or a list of layers."""
    if isinstance(layer, Linear):
        yield layer
    elif isinstance(layer, list | tuple):
        for part in layer:
            yield from linears_of(part)
    elif type(layer).__module__.startswith("tinystar_np.") and hasattr(layer, "__dict__"):
        for part in vars(layer).values():
            yield from linears_of(part)


def lay_out(
    matrices: Sequence[NDArray[np.float32]], copied: Callable[[NDArray], object] = lambda portion: None
) -> list[NDArray[np.float32]]:
    """Copy matrices (in, out), in either order of memory.

    copied  is called with what has been copied and is no longer looked at

    Returns the same matrices, read-only.
    """
    if not matrices:
        return []
    targets = list(_side_by_side(matrices))
    portions = [part for pair in zip(targets, matrices, strict=True) for part in _portions(*pair)]

    def copy(some: slice) -> None:
        for target, source in portions[some]:
            _copy(target, source)
            copied(source)

    divided(copy, shares(len(portions)))
    for target in targets:
        target.flags.writeable = False
    return targets


def _by_inputs(matrix: NDArray, narrow: int) -> bool:
    """Decide whether the inputs' rows shall follow each other in memory, or the outputs' columns.

    narrow  so many outputs, or fewer, are too few for rows of them
    """
    outputs = matrix.shape[1]
    if outputs <= narrow:
        return False
    return outputs >= VERY_WIDE or matrix.flags.c_contiguous


def _side_by_side(matrices: Sequence[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Make room for matrices in one piece of memory, so that small ones share large pages."""
    numbers = np.empty(sum(matrix.size + LINE for matrix in matrices), np.float32)
    narrow = NARROW * usable_cores()
    start = 0
    for matrix in matrices:
        start += -numbers[start:].ctypes.data // numbers.itemsize % LINE
        room = numbers[start : start + matrix.size]
        start += matrix.size
        yield room.reshape(matrix.shape) if _by_inputs(matrix, narrow) else room.reshape(matrix.shape[::-1]).T


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
