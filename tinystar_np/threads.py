"""All cores for a prompt: heads and hidden units divided among Python threads.

NumPy's matrix products use every core by themselves, but what stands between them (softmax, activations,
additions) runs on one. NumPy releases Python's lock while it computes, so threads can share all of it, as
long as single calls are long (0.1 ms) beside the handing over of the lock.

What is divided are not the tokens but the insides of a layer: heads do not see each other before the output
product, nor do hidden units. A thread takes some of them all the way from the layer's input to its share of
the layer's output, and the shares are added up. Each weight is then read by one thread only. That is tensor
parallelism (Shoeybi et al. 2019, arXiv:1909.08053), with cores for GPUs.

Each thread uses one core's worth of BLAS: threads that all start many-threaded products wait for each other
more than they compute. On a quiet machine with two cores this reads 512 tokens as fast as BLAS's own threads
do, and fewer tokens more slowly, which is why those are left to BLAS; where another program keeps one of the
two cores busy, it is 1.6 times as fast.
"""

import threading
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

from numpy.typing import NDArray

from tinystar_np.tap import listening

Piece = TypeVar("Piece")
Result = TypeVar("Result")

FEWEST_ROWS = 512  # below, BLAS's own threads are the faster ones on a quiet machine


def shares(count: int, rows: int) -> list[slice]:
    """Divide ``count`` heads or hidden units into one run of neighbours per thread.

    rows  how many tokens they have to work on; few are not worth dividing

    Returns one share where there is nothing to gain, and while somebody listens to taps: they want whole
    arrays.
    """
    if rows < FEWEST_ROWS or listening():
        return [slice(0, count)]
    _, _, threads = _machine()
    parts = min(threads, count)
    return [slice(a, b) for a, b in pairwise(count * i // parts for i in range(parts + 1))]


def summed(function: Callable[[Piece], NDArray], pieces: Sequence[Piece]) -> NDArray:
    """Call a function on every piece, each in a thread of its own, and add up the results."""
    first, *others = divided(function, pieces)
    for other in others:
        first += other
    return first


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
