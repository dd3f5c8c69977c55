"""A program for three ranks: what messages, sums and gatherings give, and the Python interface.

It prints a line for each thing that is as it should be.
"""

import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

import tinystar_np as ts
from tinystar_np.ranks.mpi import MOST_AT_ONCE

ranks = ts.MpiRanks()
assert ranks.size == 3
assert len(ranks.hosts) == 3


def numbers(rank: int, count: int) -> np.ndarray:
    return np.random.default_rng(rank).standard_normal(count).astype(np.float32)


# In the order of the ranks, to the last bit, whether all is added at once or in parts.
for count in (1, 7, 1000, MOST_AT_ONCE // 2, MOST_AT_ONCE // 2 + 1, 300_001):
    expected = numbers(0, count) + numbers(1, count) + numbers(2, count)
    assert np.array_equal(ranks.sum(numbers(ranks.rank, count)), expected), count
mine = numbers(ranks.rank, 12).reshape(3, 4)
assert ranks.sum(mine.T).shape == (4, 3)
assert np.array_equal(ranks.sum(mine.T), sum(numbers(r, 12).reshape(3, 4).T for r in range(3)))
widths = (3, 0, 2)
parts = [numbers(rank, 2 * width).reshape(2, 1, width) for rank, width in enumerate(widths)]
gathered = ranks.gather(parts[ranks.rank])
assert np.array_equal(gathered, parts[ranks.rank] if ranks.rank else np.concatenate(parts, axis=-1))
# A message larger than what MPI keeps for a receiver that is busy elsewhere.
big = np.arange(3_000_000)
if ranks.rank == 1:
    ranks.send((big, "first"), 2)
    ranks.send("second", 2)
elif ranks.rank == 2:
    received, words = ranks.receive(1)
    assert np.array_equal(received, big)
    assert (words, ranks.receive(1)) == ("first", "second")
print("sums" if ranks.rank == 0 else "", end="\n" if ranks.rank == 0 else "", flush=True)

if ranks.rank > 0:
    ts.follow(ranks)
    sys.exit()

alone, tokenizer = ts.load("stories")
ids = tokenizer.encode("Once upon a time, there was a little girl")
with ranks:
    model, _ = ts.load("stories", ranks=ranks, parallel="layers")
    assert np.array_equal(model(ids), alone(ids))
    by_heads, _ = ts.load("stories", ranks=ranks)
    np.testing.assert_allclose(by_heads(ids), alone(ids), rtol=1e-5, atol=1e-5)
    print("logits", flush=True)
    rounded, _ = ts.load("stories", dtype="int8", ranks=ranks, parallel="layers")
    assert np.array_equal(rounded(ids), ts.load("stories", dtype="int8")[0](ids))
    print("two models", flush=True)
    cache, its_own = model.new_cache(), alone.new_cache()
    model(ids, cache=cache)
    alone(ids, cache=its_own)
    assert cache.nbytes == its_own.nbytes
    with tempfile.TemporaryDirectory() as directory:
        cache.save(Path(directory) / "cache")
        again = model.load_cache(Path(directory) / "cache")
    copy = cache.copy()
    cache.truncate(3)
    its_own.truncate(3)
    assert np.array_equal(model(ids[3:], cache=cache), alone(ids[3:], cache=its_own))
    assert np.array_equal(model([5], cache=again), model([5], cache=copy))
    print("caches", flush=True)
    try:
        model([10**6])
    except ts.TinyStarError:  # before anything was sent
        assert np.array_equal(model(ids), alone(ids))
        print("errors", flush=True)
    del model, cache, again, copy
    found = []
    thread = threading.Thread(target=lambda: found.append(rounded(ids)))
    thread.start()
    thread.join()
    assert np.array_equal(found[0], rounded(ids))
    third, _ = ts.load("stories", dtype="bfloat16", ranks=ranks, parallel="layers")
    assert np.array_equal(third(ids), ts.load("stories", dtype="bfloat16")[0](ids))
    print("threads", flush=True)
