"""All cores for what NumPy does on one: heads and rows divided among Python threads.

NumPy's large matrix products use every core by themselves, but what stands between them in a prompt (the
small products and the softmax of attention, activations) runs on one. NumPy releases Python's lock while it
computes, so threads can share that work, as long as single calls are long (0.1 ms) beside the handing over of
the lock. Each thread uses one core's worth of BLAS meanwhile: threads that all start many-threaded products
wait for each other more than they compute.

OpenBLAS's own threads stand in the way at first: after a product they watch for the next one for 2²⁶ clock
ticks, 24 ms, and keep a core busy with it, so that all of ours share what is left.
``tinystar_np/__init__.py`` asks for 2²³ ticks, 3 ms, unless the environment already says something. A prompt
of 512 tokens is read in 0.92 of the time (GPT-2 124M, two cores). Less would harm where tokens are generated:
a thread that has fallen asleep between two products must be woken for the second, and with 2²⁰ ticks, 0.4 ms,
a token took up to 1.2 times as long, the more so the busier the machine. Whoever imports NumPy first keeps
the 24 ms, which cost prompts that 0.08 and tokens nothing.

How many threads there are is BLAS's number, and everything here follows it. BLAS counts the cores that this
process may run on. It does not see that a container may be given many cores, but only so much time on them:
threads beyond that time are stopped in turn while the others wait for them. ``use_threads`` looks.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from tinystar_np.errors import InputError
from tinystar_np.tap import listening
from tinystar_np.usable import allowed_cores, usable_cores

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Piece = TypeVar("Piece")
Result = TypeVar("Result")

# Processors, as OpenBLAS names them, for which it has products of small matrices that copy neither of them.
DIRECT = ("SkylakeX", "Cooperlake", "SapphireRapids")
FEWEST_ROWS = 512  # at 256 and below BLAS's own threads were as fast or faster
NAMED_IN = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def use_threads(count: int | None = None) -> None:
    """Compute with so many threads from now on, in the whole process; work in hand is waited for.

    To be called in the main thread: OpenBLAS 0.3.31 does not obey others.

    count  None: no more than this process is given time for (``usable_cores``), unless the environment or an
           earlier call has named a number

    Raises InputError for a number below 1.
    """
    global _chosen
    if count is not None and count < 1:
        raise InputError(f"{count} threads: there must be 1 or more.")
    if count is None:
        if _named() or usable_cores() >= allowed_cores():
            return  # BLAS has counted right, and threadpoolctl need not be imported
        most = usable_cores()
    with _one_at_a_time:
        for library in _blas_libraries():
            # Whoever has asked BLAS for less in another way is not given more.
            library.set_num_threads(min(most, library.get_num_threads()) if count is None else count)
        _chosen = count is not None
        _machine.cache_clear()


_chosen = False  # whether use_threads was given a number


def are_fixed() -> bool:
    """Say whether the number of threads must stay as it is.

    So it is where the user has named one, in a thread that OpenBLAS does not obey, and while somebody listens
    to taps: what is compared shall be computed in one way.
    """
    return _named() or listening() or threading.current_thread() is not threading.main_thread()


def _named() -> bool:
    """Say whether the environment or a call of ``use_threads`` has named a number."""
    return _chosen or any(os.environ.get(name) for name in NAMED_IN)


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Compute with no more than so many threads inside the ``with`` block, in the whole process.

    To be used in the main thread, as ``use_threads``.
    """
    machine = _machine()
    with _one_at_a_time:
        found = [(library, library.get_num_threads()) for library in machine.blas]
        threads = machine.threads
        for library, number in found:
            library.set_num_threads(min(count, number))
        machine.threads = min(count, threads)
    try:
        yield
    finally:
        with _one_at_a_time:
            for library, number in found:
                library.set_num_threads(number)
            machine.threads = threads


def slices(count: int, rows: int) -> list[slice]:
    """Divide ``count`` heads or rows into one run of neighbours per thread, where that is worth it.

    rows  how many tokens the work is for; few are not worth dividing

    Returns one slice where there is nothing to gain, and while somebody listens to taps: only the thread that
    listens is heard.
    """
    if rows < FEWEST_ROWS or listening():
        return [slice(0, count)]
    return shares(count)


def head_slices(heads: int, groups: int, rows: int) -> list[tuple[slice, slice]]:
    """Divide heads among threads as ``slices`` does, each with the groups that they share.

    heads   H
    groups  G, which divides H: neighbouring heads share one

    Returns (a run of heads, its run of groups) per thread. Where all heads share one group they are divided
    themselves; elsewhere no group is.
    """
    if groups == 1:
        return [(part, slice(0, 1)) for part in slices(heads, rows)]
    size = heads // groups
    return [(slice(part.start * size, part.stop * size), part) for part in slices(groups, rows)]


def shares(count: int) -> list[slice]:
    """Divide ``count`` things into one run of neighbours per thread."""
    parts = min(_machine().threads, count)
    return [slice(a, b) for a, b in pairwise(count * i // parts for i in range(parts + 1))]


def divided(function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """Call a function on every piece, each in a thread of its own with one BLAS thread; results in order.

    The calling thread takes the first piece itself: nobody is woken for that.
    """
    if len(pieces) < 2:
        return [function(piece) for piece in pieces]
    others: list[Future[Result]] = []
    with _one_at_a_time:  # the number of BLAS threads is the whole process's
        machine = _machine()
        try:
            for library in machine.blas:
                library.set_num_threads(1)
            others = [machine.pool.submit(function, piece) for piece in pieces[1:]]
            first = function(pieces[0])
            return [first, *(other.result() for other in others)]
        finally:
            for other in others:  # where this thread was interrupted: they still write into its arrays
                other.exception()
            for library in machine.blas:
                library.set_num_threads(machine.threads)


def blas_multiplies_directly() -> bool:
    """Say whether BLAS multiplies small matrices from where they lie, without copying them first."""
    return any(getattr(library, "architecture", None) in DIRECT for library in _machine().blas)


_one_at_a_time = threading.RLock()


@dataclass
class Machine:
    """A pool of threads, the BLAS libraries whose threads can be set, and how many threads there are."""

    pool: "ThreadPoolExecutor"
    blas: list[Any]
    threads: int


@cache
def _machine() -> Machine:
    """Look at BLAS's threads, of which ours are as many."""
    # Imported late: a token after another never comes here.
    from concurrent.futures import ThreadPoolExecutor

    with _one_at_a_time:  # while another thread divides its work, BLAS says 1
        blas = _blas_libraries()
        threads = max((library.get_num_threads() for library in blas), default=1)
    return Machine(ThreadPoolExecutor(threads, thread_name_prefix="tinystar_np"), blas, threads)


def _blas_libraries() -> list[Any]:
    """Find the BLAS libraries in this process: NumPy's, and perhaps others'."""
    from threadpoolctl import ThreadpoolController

    libraries: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return libraries
