"""What followers are told: everything once, in its order, whichever thread it comes from."""

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinystar_np.cache.elsewhere import PooledElsewhere, StatesElsewhere
from tinystar_np.ranks import Team

THREADS, EACH = 4, 300


class Sent:
    """Ranks, of which the other hears what it is told."""

    rank, size, hosts, fault = 0, 2, ("here", "here"), ""

    def __init__(self) -> None:
        self.turn = threading.RLock()
        self.heard: list[tuple[Any, ...]] = []

    def send(self, message: Any, to: int) -> None:
        number, waiting, what = message
        assert (number, to) == (3, 1)
        self.heard += [*waiting, what]

    def receive(self, source: int) -> int:
        assert source == 1
        return len(self.heard)


@contextmanager
def threads_change_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_states_come_and_go_in_many_threads() -> None:
    ranks = Sent()
    team = Team(ranks, 3)  # type: ignore[arg-type]

    def work() -> None:
        for i in range(EACH):
            states = StatesElsewhere(team, team.new_states(1, 0))
            chosen = states.select(np.array([0]))
            ring: list[Any] = [chosen]
            ring.append(ring)  # goes when garbage is collected, wherever that is
            del chosen, ring
            if i % 50 == 0:
                assert states.nbytes > 0

    with threads_change_often():
        workers = [threading.Thread(target=work) for _ in range(THREADS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    gc.collect()
    team.tell("last")
    alive: set[int] = set()
    made = []
    for what, *how in ranks.heard:
        if what == "new_states":
            alive.add(how[0])
            made.append(how[0])
        elif what == "select":
            assert how[1] in alive
            alive.add(how[0])
            made.append(how[0])
        elif what == "drop":
            alive.remove(how[0])
        elif what == "nbytes":
            assert how[0] in alive
    assert len(made) == len(set(made)) == 2 * THREADS * EACH
    assert not alive
    assert ranks.heard[-1] == ("last",)


def test_texts_of_a_pool_without_recurrences_need_no_message() -> None:
    """The blocks are named by the call that needs them."""
    ranks = Sent()
    team = Team(ranks, 3)  # type: ignore[arg-type]
    pool = PooledElsewhere(StatesElsewhere(team, 7), 100, recurrent=False)
    table = [4]
    first, second = pool.of([table], np.array([0])), pool.of([[2, 9, 5]], np.array([0]))
    batch = PooledElsewhere.join([first, second])
    table.append(6)  # it grows while it is generated
    batch.commit()
    assert batch.rows.number == 7
    assert batch.rows.tables is not None
    assert batch.rows.tables.tolist() == [[4, 6, 0], [2, 9, 5]]
    alone = batch.select(np.array([1]))
    assert alone.nbytes == 300
    del batch, first, second, alone
    gc.collect()
    team.tell("last")
    assert ranks.heard == [("last",)]
    del pool
    gc.collect()
    team.tell("last")
    assert ranks.heard == [("last",), ("drop", 7), ("last",)]
