"""Ranks over MPI, the standard by which programs on many machines exchange messages; mpi4py speaks it.

MPI's own calls that wait keep a core busy while they do. A rank that follows waits for minutes while a person
types, and where layers are divided, a rank waits while another computes with all cores of their machine. So
nothing here blocks: what has not come is asked for again, at once, and then after sleeping until the sender
rings (bell.py), or on another machine after longer and longer times. While a rank waits for anything, it
also learns that another has failed, or that rank 0 has ended: none is left waiting for a message that does
not come.

Sending does not wait. MPI hands over all but the smallest messages in several steps, in which both ranks must
take part: a receiver that slept between them held the sender up for 1 to 3 ms. Hence a rank does not sleep
while what it has sent is on its way.

Two ranks on one machine of two cores, microseconds for a sum of n numbers, medians of 5 rounds:

    n           all to all, then added   a part each, then gathered   Allreduce   Allgather, then added
    576                            11                           21           5                       8
    2 048                          14                           28          10                      11
    32 768                         37                           54          40                      35
    131 072                       205                          140         182                     228
    2 097 152                    4347                         2607        4061                    6181

Allreduce gives the same on all ranks, but in which order it adds is left to the MPI, the array's length and
the machines. In both ways here numbers are added in the order of the ranks, so that a sum is the same under
each MPI. Between machines a byte costs more beside a message, and the border is lower.
"""

import os
import pickle
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import RanksError
from tinystar_np.processes import started_together
from tinystar_np.ranks.bell import Bell
from tinystar_np.ranks.cores import cores_before_binding, share_cores
from tinystar_np.ranks.ranks import PROMPTS, RanksEndedError
from tinystar_np.ranks.team import to_its_end

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

MESSAGE, END, PART, TOTAL = range(4)
"""Tags: a message; the last of rank 0, or a rank's failure; what is added up, and its sum."""
POLLS = 32
"""How often to ask at once: some 20 µs, in which a rank answers that had only to send."""
FEW_POLLS = 4
"""The same after each sleep: Open MPI looks for what has arrived after it has said that there is nothing."""
POLLS_IN_STEP = 2000
"""The same, about a millisecond, where ranks with cores of their own arrive at nearly the same time, and
while something that was sent is on its way."""
SLEEP, LONGEST_SLEEP = 20e-6, 1e-3
"""Seconds to sleep between later questions: a hundredth of the time waited, within these."""
UNTIL_RUNG = 0.02
"""Seconds to sleep where the sender rings, if it does not."""
MOST_AT_ONCE = 65_536
"""The most numbers of others that each rank adds up itself; above it each adds up a part."""
MOST_BETWEEN_MACHINES = 8192
"""The same between machines: about as many as a wire of 1 Gbit/s carries while a message is on its way."""

NO_PACKAGES = (
    "{count} processes were started together, and need MPI to share a model, which is not here ({error}).\n"
    "Install it: pip install 'tinystar_np[ranks]'"
)
OTHER_MPI = (
    "{count} processes were started together, but mpi4py's MPI ({library}) sees this one alone: what started "
    "them belongs to another MPI.\nUse that one's mpiexec; with Slurm, srun --mpi=pmix may help."
)

Found = TypeVar("Found")


class MpiRanks:
    """The processes that share a model, by MPI.

    comm  mpi4py's communicator; None for all processes that were started together

    rank   this process's number, from 0; rank 0 leads
    size   how many there are
    hosts  the name of each rank's machine
    fault  why they can no longer work together; "" while they can
    turn   a lock, see ``Ranks``

    ``with ranks:`` on rank 0 lets the others end, too, however the block ends.

    All ranks make one at the same time. Raises RanksError where MPI is missing, or another one than that
    which started them.
    """

    def __init__(self, comm: "Comm | None" = None):
        started = started_together()
        try:
            from mpi4py import MPI  # late: it is an extra, and starts MPI
        except (ImportError, RuntimeError) as error:
            words = str(error).splitlines()[0]
            raise RanksError(NO_PACKAGES.format(count=started.size, error=words)) from error
        if comm is None:
            comm = MPI.COMM_WORLD
            if started.size > 1 and comm.size == 1:
                library = MPI.Get_library_version().splitlines()[0].split(",")[0].strip()
                raise RanksError(OTHER_MPI.format(count=started.size, library=library))
        self._mpi = MPI
        self._comm = comm.Dup()  # so that nobody else's messages are among these
        self.rank, self.size = self._comm.rank, self._comm.size
        self._bell = Bell()
        places = self._comm.allgather((socket.gethostname(), cores_before_binding(), self._bell.address))
        self.hosts: tuple[str, ...] = tuple(host for host, _, _ in places)
        self._here = [rank for rank, host in enumerate(self.hosts) if host == self.hosts[self.rank]]
        self._cores = frozenset[int]().union(*(places[rank][1] for rank in self._here))
        self._is_crowded = len(self._here) > len(self._cores)
        self._most_at_once = MOST_AT_ONCE if len(self._here) == self.size else MOST_BETWEEN_MACHINES
        self.fault = ""
        self.turn: AbstractContextManager[object] = threading.RLock()
        self._ended = False
        self._unfinished: list[Request] = []
        self._is_in_step = False
        bells = {rank: places[rank][2] for rank in self._here}
        self._bells = {rank: address for rank, address in bells.items() if all(bells.values())}

    def share_cores(self, parallel: str) -> None:
        """Take this rank's cores of its machine, and as many threads, unless a number was asked for.

        parallel  how they share a model, or texts
        """
        self._is_in_step = parallel == "heads"
        share_cores(self._here, self.rank, self._cores, together=parallel in ("heads", PROMPTS))

    def send(self, message: object, to: int) -> None:
        """Send anything to another rank; the message may be changed afterwards."""
        if self.fault:
            raise RanksError(self.fault)
        self._unfinished = [each for each in self._unfinished if not each.Test()]
        self._unfinished.append(self._begin(message, to, MESSAGE))

    def receive(self, source: int) -> Any:
        """Wait for the next message of another rank; those of one rank come in the order of sending."""
        self._wait(lambda: self._comm.iprobe(source, MESSAGE) or None, self._is_in_step, source)
        with to_its_end(self):  # Ctrl-C while one waits loses no message, but here it may
            return self._comm.recv(None, source, MESSAGE)

    def ready(self, source: int) -> bool:
        """Say whether a message of another rank has come; raises as ``receive`` does where one has failed."""
        if self.fault:
            raise RanksError(self.fault)
        if self._comm.iprobe(source, MESSAGE):
            return True
        self._look_for_end()
        return False

    def sum(self, x: NDArray) -> NDArray:
        """Add up arrays of the same shape, one of each rank: the same sum, to the last bit, on all of them.

        All ranks call it, in the same order as other sums and gatherings.
        """
        own = np.ascontiguousarray(x).reshape(-1)
        if (self.size - 1) * own.size <= self._most_at_once:
            return _added(self._exchange([own] * self.size, [own.size] * self.size, PART)).reshape(x.shape)
        ends = [own.size * rank // self.size for rank in range(self.size + 1)]
        parts = [own[a:b] for a, b in pairwise(ends)]
        mine = _added(self._exchange(parts, [parts[self.rank].size] * self.size, PART))
        total = self._exchange([mine] * self.size, [part.size for part in parts], TOTAL)
        return np.concatenate(total).reshape(x.shape)

    def gather(self, x: NDArray) -> NDArray:
        """Put arrays (..., n) side by side, one of each rank, in their order: (..., Σ n) on rank 0.

        The ranks may have different n. The others get their own back.
        """
        if self.rank:
            self.send(x, to=0)
            return x
        return np.concatenate([x, *(self.receive(source) for source in range(1, self.size))], axis=-1)

    def _exchange(self, outgoing: list[NDArray], lengths: list[int], tag: int) -> list[NDArray]:
        """Send an array to each rank, and return those that come from each, of these lengths."""
        found = [np.empty(length, outgoing[0].dtype) for length in lengths]
        found[self.rank] = outgoing[self.rank]
        others = [rank for rank in range(self.size) if rank != self.rank]
        byte = self._mpi.BYTE
        requests = [self._comm.Irecv((found[rank], byte), rank, tag) for rank in others]
        requests += [self._comm.Isend((outgoing[rank], byte), rank, tag) for rank in others]
        self._complete(requests, in_step=True)
        return found

    def _begin(self, message: object, to: int, tag: int) -> "Request":
        """Begin to send a message."""
        request = self._comm.Isend((pickle.dumps(message, protocol=5), self._mpi.BYTE), to, tag)
        if to in self._bells:
            self._bell.ring(self._bells[to])
        return request

    def _complete(self, requests: "list[Request]", in_step: bool) -> None:
        """Wait until all is sent and received; raises as ``_wait`` does."""
        try:
            self._wait(lambda: self._mpi.Request.Testall(requests) or None, in_step)
        except BaseException:
            self._unfinished += requests  # and with them the memory that MPI still reads or writes
            raise

    def _wait(self, asked: Callable[[], Found | None], in_step: bool, source: int | None = None) -> Found:
        """Ask until there is something, and return it.

        in_step  whether it comes soon, and this rank has a core of its own to wait with
        source   the rank whose message it is, if any

        Raises RanksError on rank 0 where another has failed, RanksEndedError elsewhere where that has ended.
        """
        if self.fault:
            raise RanksError(self.fault)
        begun = time.perf_counter()
        for times in range(POLLS_IN_STEP):
            found = asked()
            if found is not None:
                return found
            if times >= POLLS and not in_step and self._mpi.Request.Testall(self._unfinished):
                break
            if self._is_crowded:
                os.sched_yield()
        while True:
            for _ in range(FEW_POLLS):
                found = asked()
                if found is not None:
                    return found
            self._look_for_end()
            if source in self._bells:
                self._bell.wait(UNTIL_RUNG)
            else:
                waited = time.perf_counter() - begun
                time.sleep(min(max(SLEEP, waited / 100), LONGEST_SLEEP))

    def _look_for_end(self) -> None:
        message = self._comm.improbe(self._mpi.ANY_SOURCE, END)
        if message is None:
            return
        error = message.recv()
        if self.rank == 0:
            self.fault = str(error)
            raise error
        self._ended = True
        raise RanksEndedError

    def fail(self, error: RanksError) -> None:
        """Tell rank 0 that this one cannot go on, and wait until all end."""
        try:
            self._complete([self._begin(error, 0, END)], in_step=False)
            self._wait(lambda: None, in_step=False)
        except RanksEndedError:
            pass

    def end(self) -> None:
        """Let the other ranks end; on rank 0, which takes no part in anything afterwards."""
        if not self._ended:
            self._ended = True
            self._unfinished += [self._begin(None, to, END) for to in range(1, self.size)]

    def __enter__(self) -> Self:
        """Return these ranks."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the others end."""
        self.end()


def _added(arrays: list[NDArray]) -> NDArray:
    """Add up arrays in their order."""
    total = arrays[0] + arrays[1]
    for other in arrays[2:]:
        total += other
    return total
