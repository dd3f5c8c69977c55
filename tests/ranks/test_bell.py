"""Bells: who waits wakes when somebody rings, and not again for the same ring."""

import time

from tinystar_np.ranks.bell import Bell


def test_a_ring_wakes_once() -> None:
    waiting, other = Bell(), Bell()
    assert waiting.address is not None
    assert waiting.address != other.address
    assert not waiting.wait(0)
    for _ in range(2):
        other.ring(waiting.address)
    begun = time.perf_counter()
    assert waiting.wait(30)
    assert time.perf_counter() - begun < 10
    assert not waiting.wait(0)
