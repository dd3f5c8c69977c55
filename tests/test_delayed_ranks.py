"""benchmarks/delayed_ranks.py: messages are as late as a wire's, and not later."""

import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from thread_ranks import Rooms, ThreadRanks

from tinystar_np.inspection.wire import Wire, adding, collecting

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
WIRE = Wire(latency=0.3, bandwidth=1e5)
LATE = 0.25
"""Seconds that a busy machine may add."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("delayed_ranks")


def at_once(script: Any, size: int, work: Callable[[Any], Any]) -> list[Any]:
    """Let ranks do the same, each in a thread: their results."""
    rooms, found = Rooms(size), [None] * size

    class DelayedThreads(script.Delayed, ThreadRanks):  # type: ignore[name-defined, misc]
        wire = WIRE

    def run(rank: int) -> None:
        found[rank] = work(DelayedThreads(rooms, rank))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_message_is_seen_when_its_bytes_have_come(script: Any) -> None:
    def work(ranks: Any) -> Any:
        if ranks.rank:
            return [(ranks.receive(0), time.perf_counter()) for _ in range(2)]
        begun = time.perf_counter()
        for number in (1, 2):  # the second leaves when the first has left
            ranks.send((number, np.zeros(5000, np.float32)), 1)
        return begun, time.perf_counter()

    (begun, sent), ((first, soon), (second, later)) = at_once(script, 2, work)
    assert (first[0], second[0]) == (1, 2)
    assert sent - begun < LATE  # who sends does not wait
    assert 0.5 < soon - begun < 0.5 + LATE
    assert 0.7 < later - begun < 0.7 + LATE


def test_sums_wait_for_the_last_rank_and_for_the_wire(script: Any) -> None:
    x = np.arange(1000, dtype=np.float32)

    def work(ranks: Any) -> Any:
        time.sleep(0.03 * ranks.rank)
        come = time.perf_counter()
        total = ranks.sum(x + ranks.rank)
        summed = time.perf_counter()
        beside = ranks.gather(x[None, :10])
        return total, come, summed, beside, time.perf_counter()

    found = at_once(script, 3, work)
    last = max(come for _, come, *_ in found)
    for rank, (total, _, summed, beside, gathered) in enumerate(found):
        np.testing.assert_array_equal(total, 3 * x + 3)
        assert beside.shape == ((1, 10) if rank else (1, 30))
        assert 0 <= summed - last - adding(1000, 3).seconds(WIRE) < LATE
        if not rank:
            assert -LATE < gathered - summed - collecting(10, 3).seconds(WIRE) < LATE


def test_followers_have_the_leaders_wire(script: Any) -> None:
    def work(ranks: Any) -> Any:
        if ranks.rank:
            ranks.receive(0)
            return ranks.wire
        ranks.wire = script.WIRES["1 ms, 1 Gbit/s"]
        ranks.send("call", 1)
        return ranks.wire

    leader, follower = at_once(script, 2, work)
    assert leader == follower == Wire(1e-3, 0.125e9)
