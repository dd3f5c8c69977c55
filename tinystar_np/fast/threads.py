"""Threads: heads and rows divided among Python threads where NumPy alone would use one core.

NumPy's large matrix products use every core by themselves, but the work between them in a prompt (the small
products and the softmax of attention, activations) runs on one. NumPy releases Python's lock while it
computes, so threads can share that work, as long as single calls are long (0.1 ms) beside the handing over of
the lock. Each thread's products use one BLAS thread meanwhile: threads that all start many-threaded products
wait for each other more than they compute.

OpenBLAS's own threads stand in the way at first: after a product they wait for the next one for 2²⁶ clock
ticks, 26 ms, without sleeping, and keep a core busy. They also yield the core to any other process that wants
it, and the next product then waits for that process. ``tinystar_np/__init__.py`` sets 2¹⁶ ticks, 25 µs,
unless the environment already says something. A thread that has fallen asleep must be woken for the next
product, which costs a token a little on a quiet machine. If NumPy was imported before this package, the 26 ms
stay.

    tokens/s, one at a time            2⁴   2¹²   2¹⁴   2¹⁶   2¹⁸   2²⁰   2²³   2²⁶   one thread
    SmolLM2 135M, quiet                54    56    57    60    62    63    64    62           51
      beside one busy process          39    36    36    32    25    19    15    18           52
    GPT-2 124M, quiet                  62    62    62    63    65    65    64    65           50
      beside one busy process          39    37    36    33    31    22    14    23           50
    Llama 1.1B, 6 layers, quiet        39    39    39    39    40    40    40    40           30
      beside one busy process          26    26    24    24    20    16    10    14           30

(random weights, two cores of 2.6 GHz, medians of 4 to 7 runs.) 2¹⁶ is the largest that keeps half of the
quiet speed in all of them. But beside a busy process no number reaches the speed of a single thread: a
product is done when the last of its threads is, and one of two shares its core. So ``beside_others`` measures
how many cores others keep busy, and uses no more threads than are left: beside about one busy process
SmolLM2's shape then generated 39 tokens/s where one thread made 38 and two made 23, and read a prompt of 128
at 604 where one thread reached 567 and two 249 (medians of 5 or 6 runs).

A thread that is woken may be put on the core of the one that woke it, and stay there while another core is
idle: work of a millisecond is over before Linux moves it. So a thread looks where it is, and goes elsewhere.
On two cores the products of one vector by matrices in Q8_0 then took 0.62 of the time (medians; 0.6 – 1.0 of
neighbouring runs).

The number of threads is BLAS's. BLAS counts the cores that this process may run on. It does not see that a
container may be given many cores, but only so much time on them, and that threads beyond that time are
stopped while the others wait for them; ``use_threads`` does.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from tinystar_np.errors import InputError
from tinystar_np.fast.machine import CoresTaken, allowed_cores, current_core, leave_cores, usable_cores
from tinystar_np.tap import listening

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from threadpoolctl import LibController

Piece = TypeVar("Piece")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Processors, as OpenBLAS names them, for which it has products of small matrices that copy neither of them.
DIRECT = ("SkylakeX", "Cooperlake", "SapphireRapids")
FEWEST_ROWS = 512  # at 256 and below BLAS's own threads were as fast or faster
LEAST_TAKEN = 0.4  # of a core, from which it is left to others: beside a busy process it was 0.5 and more
NAMED_IN = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def use_threads(count: int | None = None) -> None:
    """Set the number of threads of the whole process, after waiting for work in progress.

    To be called in the main thread: OpenBLAS 0.3.31 ignores calls from others.

    count  None: at most ``usable_cores``, unless the environment or an earlier call has set a number

    Raises InputError for a number below 1.
    """
    global _chosen
    if count is not None and count < 1:
        raise InputError(f"{count} threads: there must be 1 or more.")
    if count is None:
        _cores_taken()  # begins to measure, so that something is known before the first prompt
        if _chosen is not None or are_named() or usable_cores() >= allowed_cores():
            return  # BLAS's number is right, and threadpoolctl need not be imported
        most = usable_cores()
    with _one_at_a_time:
        for library in _blas_libraries():
            # Where BLAS was set to fewer threads in another way, it stays so.
            library.set_num_threads(min(most, library.get_num_threads()) if count is None else count)
        _chosen = count
        _machine.cache_clear()


_chosen: int | None = None  # the number that use_threads was given


def chosen_threads() -> int | None:
    """Return the number that ``use_threads`` was given; None for none."""
    return _chosen


def are_fixed() -> bool:
    """Say whether the number of threads must stay as it is.

    So it is where the user has set one, in a thread whose calls OpenBLAS ignores, and while a listener reads
    taps: activations that are compared must be computed in the same way.
    """
    return (
        _chosen is not None
        or are_named()
        or listening()
        or threading.current_thread() is not threading.main_thread()
    )


def are_named() -> bool:
    """Say whether the environment has set the number."""
    return any(os.environ.get(name) for name in NAMED_IN)


def beside_others(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Limit the threads of each call of a function to the cores that other processes leave free.

    Returns the function itself where the number of threads must stay.
    """
    most = usable_cores()
    if most < 2 or are_fixed():
        return function
    taken = _cores_taken()

    def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        free = max(1, allowed_cores() - int(taken() + 1 - LEAST_TAKEN))
        if free >= most:
            return function(*arguments, **named)
        with at_most(free):
            return function(*arguments, **named)

    return call


@cache
def _cores_taken() -> CoresTaken:
    """Return the measurement of what others use, which begins when the first model is loaded."""
    return CoresTaken()


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Limit the whole process's threads inside the ``with`` block; in the main thread, as ``use_threads``."""
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

    Returns one slice where nothing is gained, and while a listener reads taps, which are its thread's alone.
    """
    if rows < FEWEST_ROWS or listening():
        return [slice(0, count)]
    return shares(count)


def head_slices(heads: int, groups: int, rows: int) -> list[tuple[slice, slice]]:
    """Divide heads among threads as ``slices`` does, each run with its key/value heads, or groups of an SSM.

    heads   H
    groups  G, which divides H: neighbouring heads share one

    Returns (a run of heads, its run of groups) per thread. Heads that share a group stay together, unless
    there is only one.
    """
    if groups == 1:
        return [(part, slice(0, 1)) for part in slices(heads, rows)]
    size = heads // groups
    return [(slice(part.start * size, part.stop * size), part) for part in slices(groups, rows)]


def shares(count: int) -> list[slice]:
    """Divide ``count`` items into one run of neighbours per thread."""
    parts = min(_machine().threads, count)
    return [slice(a, b) for a, b in pairwise(count * i // parts for i in range(parts + 1))]


def divided(function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """Call a function on every piece, each in a thread of its own with one BLAS thread; results in order.

    The calling thread takes the first piece itself, which saves waking another.
    """
    if len(pieces) < 2:
        return [function(piece) for piece in pieces]
    others: list[Future[Result]] = []
    with _one_at_a_time:  # the number of BLAS threads is the whole process's
        machine = _machine()
        taken = {current_core()}

        def elsewhere(piece: Piece) -> Result:
            core = current_core()
            if core in taken:
                leave_cores(taken)
                core = current_core()
            taken.add(core)
            return function(piece)

        try:
            for library in machine.blas:
                library.set_num_threads(1)
            # In copies of this thread's context, where NumPy keeps whether overflow warns.
            others = [machine.pool.submit(copy_context().run, elsewhere, piece) for piece in pieces[1:]]
            first = function(pieces[0])
            return [first, *(other.result() for other in others)]
        finally:
            for other in others:  # where this thread was interrupted: they still write into its arrays
                other.exception()
            for library in machine.blas:
                library.set_num_threads(machine.threads)


@cache
def blas_multiplies_directly() -> bool:
    """Say whether BLAS multiplies small matrices without copying them first."""
    return any(getattr(library, "architecture", None) in DIRECT for library in _machine().blas)


_one_at_a_time = threading.RLock()


@dataclass
class Machine:
    """A pool of threads, the BLAS libraries whose threads can be set, and how many threads there are."""

    pool: "ThreadPoolExecutor"
    blas: "list[LibController]"
    threads: int


@cache
def _machine() -> Machine:
    """Return the pool, with as many threads as BLAS has."""
    # Imported late: generating one token at a time does not need it.
    from concurrent.futures import ThreadPoolExecutor

    with _one_at_a_time:  # while another thread divides its work, BLAS says 1
        blas = _blas_libraries()
        threads = max((library.get_num_threads() for library in blas), default=1)
    return Machine(ThreadPoolExecutor(threads, thread_name_prefix="tinystar_np"), blas, threads)


def _blas_libraries() -> "list[LibController]":
    """Find the BLAS libraries in this process: NumPy's, and perhaps others'."""
    from threadpoolctl import ThreadpoolController

    libraries: list[LibController] = ThreadpoolController().select(user_api="blas").lib_controllers
    return libraries
