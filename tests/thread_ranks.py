"""Ranks that are threads of one process: what a divided model computes, without MPI."""

import pickle
import threading
import weakref
from collections.abc import Callable
from queue import Queue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinystar_np.generation.copied import Copied
from tinystar_np.models import Decoder
from tinystar_np.models.base import in_silence
from tinystar_np.models.divided import Follower
from tinystar_np.ranks import Part, Team

MOST_SECONDS = 60
"""After which a test that waits for a rank has failed."""


class Rooms:
    """What threads share: a queue from each rank to each, and a place where they meet."""

    def __init__(self, size: int):
        self.size = size
        self.queues: dict[tuple[int, int], Queue[bytes]] = {
            (a, b): Queue() for a in range(size) for b in range(size)
        }
        self.barrier = threading.Barrier(size, timeout=MOST_SECONDS)
        self.table: list[Any] = [None] * size
        self.followers: list[Any] = []

    def fail(self, error: BaseException) -> None:
        """Wake all that wait, for they would wait in vain."""
        for queue in self.queues.values():
            queue.put(pickle.dumps(RuntimeError(f"another rank failed: {error!r}")))
        self.barrier.abort()


class ThreadRanks:
    """One of several threads that share a model; see tinystar_np/ranks/ranks.py."""

    def __init__(self, rooms: Rooms, rank: int):
        self.rooms, self.rank, self.size = rooms, rank, rooms.size
        self.hosts = ("here",) * rooms.size
        self.fault = ""
        self.turn = threading.RLock()
        self.added: list[tuple[int, ...]] = []
        """The shapes of what was summed."""

    def send(self, message: object, to: int) -> None:
        self.rooms.queues[self.rank, to].put(pickle.dumps(message))

    def receive(self, source: int) -> Any:
        message = pickle.loads(self.rooms.queues[source, self.rank].get(timeout=MOST_SECONDS))
        if isinstance(message, RuntimeError):
            self.fault = str(message)
            raise message
        return message

    def ready(self, source: int) -> bool:
        return not self.rooms.queues[source, self.rank].empty()

    def sum(self, x: NDArray) -> NDArray:
        self.added.append(x.shape)
        all_of_them = self._all(x)
        total = all_of_them[0].copy()
        for other in all_of_them[1:]:
            total += other
        return total

    def gather(self, x: NDArray) -> NDArray:
        all_of_them = self._all(x)
        return x if self.rank else np.concatenate(all_of_them, axis=-1)

    def _all(self, x: NDArray) -> list[NDArray]:
        self.rooms.table[self.rank] = x
        self.rooms.barrier.wait()
        found = list(self.rooms.table)
        self.rooms.barrier.wait()
        return found


def divided(build: Callable[[Part], Any], size: int, layers: list[range] | None = None) -> Any:
    """Build a model in ``size`` threads, of which the others follow; returns the leader's.

    build   makes a rank's part of the model
    layers  of each rank; None where each has a share of every layer

    The followers end when the leader's model is no more.
    """
    rooms = Rooms(size)
    parts = [Part(ThreadRanks(rooms, rank), layers) for rank in range(size)]
    models = [build(part) for part in parts]  # one after the other: building needs no other rank

    rooms.followers = [Follower(model, part) for model, part in zip(models[1:], parts[1:], strict=True)]
    _follow(rooms, models[0])
    return models[0]


def copied(model: Decoder, build: Callable[[], tuple[Decoder, Any]], size: int) -> Rooms:
    """Let ``size`` threads share texts: each has the whole model, the leader this one.

    build  makes a follower's model and its tokenizer

    Returns what the ranks share; the followers end when the leader's model is no more.
    """
    rooms = Rooms(size)
    rooms.followers = [Copied(*build(), ThreadRanks(rooms, rank)) for rank in range(1, size)]
    model.copies = Team(ThreadRanks(rooms, 0))
    _follow(rooms, model)
    return rooms


def _follow(rooms: Rooms, leader: Decoder) -> None:
    """Start the threads of the followers, which end with the leader's model."""

    @in_silence
    def follow(rank: int) -> None:
        follower = rooms.followers[rank - 1]
        try:
            while (message := pickle.loads(rooms.queues[0, rank].get())) is not None:
                _, waiting, what = message
                follower.do(waiting, what)
        except BaseException as error:
            rooms.fail(error)
            raise

    for rank in range(1, rooms.size):
        threading.Thread(target=follow, args=(rank,), daemon=True).start()
        weakref.finalize(leader, rooms.queues[0, rank].put, pickle.dumps(None))


def shared(whole: Decoder, layers: list[range] | None = None) -> Decoder:
    """Divide a model among ranks.

    layers  of each rank; None for one each
    """
    own = [range(i, i + 1) for i in range(len(whole.blocks))] if layers is None else layers

    def build(part: Part) -> Decoder:
        return type(whole)(whole.config, whole.weights, whole.end_ids, part)

    model: Decoder = divided(build, len(own), own)
    return model
