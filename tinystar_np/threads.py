"""All cores for a prompt: its rows, and in attention its heads, divided among Python threads.

NumPy's matrix products use every core by themselves, but the rest of a layer (norms, activations, softmax,
the additions between them) runs on one. NumPy releases Python's lock while it computes, so dividing the
tokens among threads puts all of it on every core, as long as single calls are long (0.1 ms) beside the
handing over of the lock. Each thread then wants one core's worth of BLAS: two threads that both start
two-threaded products wait for each other more than they compute.

For one new token there is nothing to divide; there BLAS's own threads are the better ones.
"""

import threading
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.tap import listening

Piece = TypeVar("Piece")
Result = TypeVar("Result")

FEWEST_ROWS = 32  # per thread; below, waking the threads costs more than they bring


def divided(function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """Call a function on every piece, each in a thread of its own with one BLAS thread; results in order."""
    if len(pieces) < 2:
        return [function(piece) for piece in pieces]
    pool, blas, threads = _machine()
    with _one_at_a_time:  # the number of BLAS threads is the whole process's
        try:
            for library in blas:
                library.set_num_threads(1)
            return list(pool.map(function, pieces))
        finally:
            for library in blas:
                library.set_num_threads(threads)


def by_rows(function: Callable[..., NDArray], *arrays: NDArray, width: int) -> NDArray:
    """Apply a function that treats every row by itself, the rows divided among the threads.

    function  (..., D), … → (..., width), from the same rows of each array
    arrays    (B, T, D), …; the widths D may differ
    width     of the result

    Returns (B, T, width). While somebody listens to taps there is one piece, so that they see whole arrays.
    """
    leading = arrays[0].shape[:-1]
    if prod(leading) < 2 * FEWEST_ROWS or listening():
        return function(*arrays)
    rows = [array.reshape(-1, array.shape[-1]) for array in arrays]
    out = np.empty((prod(leading), width), dtype=arrays[0].dtype)

    def fill(part: slice) -> None:
        out[part] = function(*(array[part] for array in rows))

    divided(fill, slices(len(out)))
    return out.reshape(*leading, width)


def slices(length: int) -> list[slice]:
    """Divide so many things, such as heads, into one run of neighbours per thread."""
    _, _, threads = _machine()
    parts = min(threads, length)
    return [slice(a, b) for a, b in pairwise(length * i // parts for i in range(parts + 1))]


_one_at_a_time = threading.Lock()


@cache
def _machine() -> tuple[Any, list[Any], int]:
    """Return a pool of threads, the BLAS libraries whose threads can be set, and how many threads there are.

    They are as many as BLAS uses, which asks the environment (OPENBLAS_NUM_THREADS) and counts the cores that
    this process may run on.
    """
    # Imported late: an answer to a short prompt never comes here.
    from concurrent.futures import ThreadPoolExecutor

    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas").lib_controllers
    threads = max((library.get_num_threads() for library in blas), default=1)
    return ThreadPoolExecutor(threads, thread_name_prefix="tinystar_np"), blas, threads
