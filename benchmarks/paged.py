"""Measure forms of paged attention for one new token of each row: microseconds for one layer.

    python benchmarks/paged.py smollm2-135m llama-1.1b gpt2

    gathered  keys and values copied into arrays (B, G, S, K), and attention to these; one row that is one run
              is not copied: that is attention to a contiguous array
    running   each row by itself, run by run, with a running softmax (kernels/blockwise_attention.py)
    paged     ``fast.paged_attention``

The forms take turns, each going through as many pools as the model has layers, with one thread. Times are
that thread's own, the best of all rounds: other processes cost it less than they cost the clock.
"""

import argparse
from collections.abc import Callable
from time import thread_time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from shapes import SHAPES

from tinystar_np import fast
from tinystar_np.cli.streams import say
from tinystar_np.fast.threads import use_threads
from tinystar_np.inspection.machine import describe_machine
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.paged_attention import Paged

SIZE = 16
MOST_BYTES = 1 << 28  # of the pools of a model, many times what a processor caches


class Batch(NamedTuple):
    """Texts in a pool.

    rows       B
    tokens     up to so many of each row, a fifth fewer at least
    shared     tokens that all rows have before those
    scattered  whether blocks lie anywhere in the pool
    """

    rows: int
    tokens: int
    shared: int = 0
    scattered: bool = False

    def __str__(self) -> str:
        before = f"{self.shared} shared + " if self.shared else ""
        return f"{self.rows} × {before}{self.tokens}{', scattered' if self.scattered else ''}"

    def tables(self) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Return the tables, the lengths, and how many blocks there are."""
        draw = np.random.default_rng(0)
        own = draw.integers(self.tokens * 4 // 5, self.tokens + 1, self.rows)
        common, each = self.shared // SIZE, -(-self.tokens // SIZE)
        after = common + np.arange(self.rows)[:, None] * each + np.arange(each)
        tables = np.concatenate([np.tile(np.arange(common), (self.rows, 1)), after], axis=1)
        blocks = common + self.rows * each
        return draw.permutation(blocks)[tables] if self.scattered else tables, self.shared + own, blocks


BATCHES = [Batch(rows, tokens) for rows in (1, 4, 16) for tokens in (100, 500, 2000)]
BATCHES += [Batch(16, 1124), Batch(16, 100, shared=1024), Batch(4, 500, scattered=True)]
BATCHES += [Batch(16, 500, scattered=True)]


def gathered(q: NDArray, k: Paged, v: Paged, scale: float) -> NDArray:
    """Copy all keys and values, then attend."""
    mask = Mask(k.lengths[:, None] - 1, np.arange(k.lengths.max()))
    return fast.attention(q, fast.gathered(k), fast.gathered(v), mask, scale=scale)


def running(q: NDArray, k: Paged, v: Paged, scale: float) -> NDArray:
    """Attend run by run, with the sums of blockwise attention."""
    B, H, _, K = q.shape
    G = len(k.pool)
    out = np.empty((B, G, H // G, v.pool.shape[-1]), q.dtype)
    for b, (table, length) in enumerate(zip(k.tables, k.lengths.tolist(), strict=True)):
        queries = q[b].reshape(G, H // G, K) * q.dtype.type(scale)
        table = table[: -(-length // SIZE)]
        ends = [*(np.flatnonzero(np.diff(table) != 1) + 1).tolist(), len(table)]
        first, largest, total, mean = 0, np.float32(-np.inf), np.float32(0), np.float32(0)
        for end in ends:
            tokens = min(end * SIZE, length) - first * SIZE
            places = slice(table[first] * SIZE, table[first] * SIZE + tokens)
            scores = queries @ k.pool[:, places].swapaxes(1, 2)
            previous, largest = largest, np.maximum(largest, scores.max(axis=-1, keepdims=True))
            scores -= largest
            np.exp(scores, out=scores)
            rebase = np.exp(previous - largest)
            total = rebase * total + scores.sum(axis=-1, keepdims=True)
            mean = rebase * mean + scores @ v.pool[:, places]
            first = end
        out[b] = mean / total
    return out.reshape(B, H, 1, -1)


def paged(q: NDArray, k: Paged, v: Paged, scale: float) -> NDArray:
    """Attend as ``fast`` does."""
    return fast.paged_attention(q, k, v, scale=scale)


FORMS: dict[str, Callable[[NDArray, Paged, Paged, float], NDArray]] = {
    "gathered": gathered,
    "running": running,
    "paged": paged,
}


def measure(name: str, batch: Batch, rounds: int) -> dict[str, float]:
    """Return the microseconds that each form takes for one layer of a shape."""
    shape = SHAPES[name]
    layers, width, H = (
        int(str(shape[next(key for key in keys if key in shape)]))
        for keys in (
            ("n_layer", "num_hidden_layers"), ("n_embd", "hidden_size"), ("n_head", "num_attention_heads")
        )
    )  # fmt: skip
    G, K = int(str(shape.get("num_key_value_heads", H))), width // H
    tables, lengths, blocks = batch.tables()
    draw = np.random.default_rng(1)
    layers = max(2, min(layers, MOST_BYTES // (2 * G * blocks * SIZE * K * 4)))
    pools = draw.standard_normal((layers, 2, G, blocks * SIZE, K), dtype=np.float32)
    q = draw.standard_normal((batch.rows, H, 1, K), dtype=np.float32)
    best = dict.fromkeys(FORMS, np.inf)
    for _ in range(rounds):
        for form, attend in FORMS.items():
            now = lengths.copy()  # as in a new step
            start = thread_time()
            for keys, values in pools:
                attend(q, Paged(keys, tables, now, SIZE), Paged(values, tables, now, SIZE), K**-0.5)
            best[form] = min(best[form], 1e6 * (thread_time() - start) / layers)
    return best


def main() -> None:
    """Print a table for each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("shapes", nargs="+", choices=list(SHAPES), metavar="SHAPE", help="of shapes.py")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    use_threads(1)
    say(", ".join(f"{name}: {value}" for name, value in describe_machine().items()))
    for name in given.shapes:
        say(f"\n{name:28}" + "".join(f"{form:>10}" for form in FORMS))
        for batch in BATCHES:
            found = measure(name, batch, given.rounds)
            say(f"{batch!s:28}" + "".join(f"{found[form]:10.0f}" for form in FORMS))


if __name__ == "__main__":
    main()
