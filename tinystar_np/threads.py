"""All cores for what NumPy does on one: heads and rows divided among Python threads.

NumPy's large matrix products use every core by themselves, but what stands between them in a prompt (the
small products and the softmax of attention, activations) runs on one. NumPy releases Python's lock while it
computes, so threads can share that work, as long as single calls are long (0.1 ms) beside the handing over of
the lock. Each thread uses one core's worth of BLAS meanwhile: threads that all start many-threaded products
wait for each other more than they compute.

OpenBLAS's own threads stand in the way at first: after a product they watch for the next one for 2²⁶ clock
ticks, 24 ms, and keep a core busy with it. ``tinystar_np/__init__.py`` asks for 2²⁰ ticks, 0.4 ms, unless the
environment already says something. Generating tokens, where products follow each other faster, does not
notice. Both together read a prompt of 512 tokens 1.1 times as fast as BLAS's threads alone (GPT-2 124M, two
cores).
"""

import threading
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

from tinystar_np.tap import listening

Piece = TypeVar("Piece")
Result = TypeVar("Result")

FEWEST_ROWS = 512  # at 256 and below BLAS's own threads were as fast or faster


def slices(count: int, rows: int) -> list[slice]:
    """Divide ``count`` heads or rows into one run of neighbours per thread.

    rows  how many tokens the work is for; few are not worth dividing

    Returns one slice where there is nothing to gain, and while somebody listens to taps: only the thread that
    listens is heard.
    """
    if rows < FEWEST_ROWS or listening():
        return [slice(0, count)]
    _, _, threads = _machine()
    parts = min(threads, count)
    return [slice(a, b) for a, b in pairwise(count * i // parts for i in range(parts + 1))]


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
