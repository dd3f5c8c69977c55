"""Paged attention for one new token of each row: runs of blocks as views, and all rows' scores in one array.

Blocks with consecutive numbers are a slice of the pool, and the pool's owner gives them out so where it can.
So a row is a few runs, and nothing is copied: a product for the scores of each run, one softmax for all rows,
a product for the values of each run. Rows that share a run, a common prefix, are multiplied by it together,
which reads it once. Where runs are short, blocks are copied side by side first.

The scores of all rows are (G, B · H/G, S): one array, in which the scores of neighbouring rows of a batch for
a run of keys are a matrix that BLAS writes to directly. Rows are sorted by their tables, so that those that
share a run are neighbours. A row that is shorter than the longest has scores −∞ at its end.

Where the runs are is found once for all layers of a step, by the identity of tables and lengths
(fast/remembered.py): these must not be written to afterwards.

No Python threads divide the work. Single products take some 20 µs: with 16 rows of 500 tokens in SmolLM2's
shape two threads took 3.2 ms by rows and 2.7 ms by heads where one took 1.8 (two cores, busy with other work
too). BLAS uses its own threads where a product is large enough.

    µs for a layer                                  gathered   running    here
    SmolLM2 135M: H 9, G 3     1 row of 100               33        24      24
      (K 64, as in the others)          500              116       108      61
                                       2000              389       354     182
                              16 rows of 100             311       470     316
                                         500            1693      1699     772
                                        2000           13185      5091    2679
                                        1124            4103      3118    1487
                      1024 shared + 100 each            4408      2534     788
                     500, blocks of 16 anywhere         3723      5316    2169
    Llama 1.1B: H 32, G 4      1 row of 500              143       123     106
                              16 rows of 500            2824      2366    1669
                                        1124            6766      4466    3270
                      1024 shared + 100 each            6574      3601    1772
    GPT-2: H 12, G 12          1 row of 500              144       124     122
                              16 rows of 500            4976      2120    1976
                                        1124           15097      4103    3951
                      1024 shared + 100 each           14998      2904    1715

"gathered" copies keys and values of all rows into one array and attends to that; of one row, which is one
run, it attends to the view, as without a pool. "running" attends to each run with the running softmax of
kernels/blockwise_attention.py. (benchmarks/paged.py: one thread's own time, the best of 15 rounds, on a busy
machine; rows have up to a fifth fewer tokens than named.) What one row gains is the size of the products
(``_parts``): with three or eight queries to a key/value head, BLAS would copy the keys before it multiplies.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast.attention_forms import attention, bias_by_row, cap
from tinystar_np.fast.attention_variants import latent_attention
from tinystar_np.fast.direct import MOST_DIRECT_VECTORS, MOST_MULTIPLICATIONS, MOST_RESULTS
from tinystar_np.fast.remembered import remembered
from tinystar_np.fast.threads import blas_multiplies_directly
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.paged_attention import Paged

Integers = NDArray[np.integer]
SHORTEST_RUN = 32
"""Places; shorter runs that follow one another are copied into one."""


class Run(NamedTuple):
    """Tokens of one row, or shared by several, that are multiplied together.

    rows     of the sorted batch
    columns  of the scores
    places   in the pool: a slice, or the number of each
    """

    rows: slice
    columns: slice
    places: slice | Integers


class Layout(NamedTuple):
    """Where the tokens stand that the last token of each row attends to.

    order   (B,), the rows sorted by their tables; None where they are sorted
    firsts  the first token that each sorted row attends to, in column 0
    counts  how many tokens each sorted row attends to
    runs    of all rows, those of a row in the order of its tokens
    """

    order: Integers | None
    firsts: list[int]
    counts: list[int]
    runs: list[Run]


def gathered(paged: Paged, first: int = 0) -> NDArray:
    """Collect the keys or values of every row: (B, G, S − first, K); a view where they are one run."""
    layout = _layout(paged.tables, paged.lengths, paged.size, None, None)
    B, (G, _, K), S = len(paged.tables), paged.pool.shape, max(layout.counts)
    runs = [run for run in layout.runs if run.columns.stop > first]
    if B == len(runs) == 1 and isinstance(places := runs[0].places, slice):
        return paged.pool[None, :, places.start + max(0, first - runs[0].columns.start) : places.stop]
    collected = np.zeros((B, G, S - first, K), dtype=paged.pool.dtype)
    for rows, columns, places in runs:
        start, stop = max(0, columns.start - first), columns.stop - first
        held = paged.pool[:, places][:, start - stop :]
        for row in range(rows.start, rows.stop):
            b = row if layout.order is None else layout.order[row]
            collected[b, :, start:stop] = held
    return collected


def paged_attention(
    q: NDArray,
    k: Paged,
    v: Paged,
    *,
    scale: float,
    window: int | None = None,
    chunk: int | None = None,
    bias: NDArray | None = None,
    soft_cap: float | None = None,
    sinks: NDArray | None = None,
) -> NDArray:
    """Attend to keys and values in pools: (B, H, T, K) → (B, H, T, K_v)."""
    if q.shape[2] > 1:
        mask = _mask(k.tables, k.lengths, q.shape[2], window, chunk)
        first = int(mask.key_positions[0])
        bias = None if bias is None else bias[..., first:]
        keys, values = gathered(k, first), gathered(v, first)
        return attention(q, keys, values, mask, scale=scale, bias=bias, soft_cap=soft_cap, sinks=sinks)
    layout = _layout(k.tables, k.lengths, k.size, window, chunk)
    B, H, _, K = q.shape
    G, S, K_v = len(k.pool), max(layout.counts), v.pool.shape[-1]
    n = H // G
    grouped = (q * q.dtype.type(scale)).reshape(B, G, n, K)
    if layout.order is not None:
        grouped = grouped[layout.order]
    scores = np.empty((G, B * n, S), dtype=q.dtype)
    _compare(grouped.swapaxes(0, 1).reshape(G, B * n, K), k.pool, layout, scores)
    if soft_cap is not None:
        _fill_ends(scores, layout, 0)
        cap(scores, soft_cap)
    _fill_ends(scores, layout, -np.inf)
    if bias is not None:
        by_group = _bias_by_column(bias, layout).reshape(-1, G, n, S).swapaxes(0, 1)
        by_row = scores.reshape(G, B, n, S)
        by_row += by_group
    largest = np.maximum.reduce(scores, axis=-1, keepdims=True)
    sink = None if sinks is None else np.tile(sinks.reshape(G, n), B)[..., None]  # (G, B · n, 1)
    if sink is not None:
        np.maximum(largest, sink, out=largest)
    scores -= largest
    weights = np.exp(scores, out=scores)
    total = np.add.reduce(weights, axis=-1, keepdims=True)
    if sink is not None:
        total += np.exp(sink - largest)
    mean = np.empty((G, B * n, K_v), dtype=q.dtype)
    _weigh(weights, v.pool, layout, mean)
    mean /= total
    sorted_rows = mean.reshape(G, B, n, K_v).swapaxes(0, 1)  # (B, G, n, K_v)
    if layout.order is None:
        return sorted_rows.reshape(B, H, 1, K_v)
    out = np.empty((B, H, 1, K_v), dtype=q.dtype)
    out.reshape(B, G, n, K_v)[layout.order] = sorted_rows
    return out


def paged_latent_attention(
    q: NDArray,
    memory: Paged,
    up_k: NDArray,
    up_v: NDArray,
    *,
    scale: float,
    window: int | None = None,
    chunk: int | None = None,
    bias: NDArray | None = None,
) -> NDArray:
    """Attend to latents in a pool: (B, H, T, K + K_r) → (B, H, T, K_v)."""
    if q.shape[2] > 1:
        mask = _mask(memory.tables, memory.lengths, q.shape[2], window, chunk)
        first = int(mask.key_positions[0])
        bias = None if bias is None else bias[..., first:]
        return latent_attention(q, gathered(memory, first), up_k, up_v, mask, scale=scale, bias=bias)
    _, R, K = up_k.shape
    absorbed = np.empty((*q.shape[:-1], memory.pool.shape[-1]), dtype=q.dtype)  # (B, H, 1, R + K_r)
    np.matmul(q[..., :K], up_k.swapaxes(-1, -2), out=absorbed[..., :R])
    absorbed[..., R:] = q[..., K:]
    latents = memory._replace(pool=memory.pool[..., :R])
    return (
        paged_attention(absorbed, memory, latents, scale=scale, window=window, chunk=chunk, bias=bias) @ up_v
    )


def _compare(q: NDArray, pool: NDArray, layout: Layout, scores: NDArray) -> None:
    """Multiply scaled queries (G, B · n, K) by the keys of their rows, into (G, B · n, S)."""
    n = q.shape[1] // len(layout.counts)
    for rows, columns, places in layout.runs:
        some = slice(rows.start * n, rows.stop * n)
        queries, keys, result = q[:, some], pool[:, places].swapaxes(1, 2), scores[:, some, columns]
        vectors = some.stop - some.start
        most = min(MOST_RESULTS // vectors, MOST_MULTIPLICATIONS // (vectors * q.shape[2]))
        for part in _parts(keys.shape[2], vectors, most):
            np.matmul(queries, keys[..., part], out=result[..., part])


def _weigh(weights: NDArray, pool: NDArray, layout: Layout, mean: NDArray) -> None:
    """Add up the values of each row, weighted by (G, B · n, S), into (G, B · n, K_v)."""
    n = mean.shape[1] // len(layout.counts)
    for rows, columns, places in layout.runs:
        some = slice(rows.start * n, rows.stop * n)
        own, values, result = weights[:, some, columns], pool[:, places], mean[:, some]
        vectors = some.stop - some.start
        for part in _parts(values.shape[1], vectors, MOST_MULTIPLICATIONS // (vectors * mean.shape[2])):
            if columns.start == part.start == 0:
                np.matmul(own[..., part], values[:, part], out=result)
            else:
                result += own[..., part] @ values[:, part]


def _parts(tokens: int, vectors: int, most: int) -> Iterator[slice]:
    """Cut a product into parts that BLAS multiplies without copying, where it does so (fast/direct.py)."""
    if not 1 < vectors <= MOST_DIRECT_VECTORS or not blas_multiplies_directly():
        most = tokens
    for start in range(0, tokens, max(1, most)):
        yield slice(start, min(start + most, tokens))


def _fill_ends(scores: NDArray, layout: Layout, value: float) -> None:
    """Write a value where rows have no token."""
    n = scores.shape[1] // len(layout.counts)
    for row, count in enumerate(layout.counts):
        if count < scores.shape[2]:
            scores[:, row * n : (row + 1) * n, count:] = value


def _bias_by_column(bias: NDArray, layout: Layout) -> NDArray:
    """Arrange a bias (H, S), (B, H, S) or (1 or B, H, 1, S) as the scores are: (1 or B, H, columns)."""
    first, width = layout.firsts[0], max(layout.counts)
    by_row = bias_by_row(bias, len(bias) if bias.ndim > 2 else 1)[:, :, 0]
    if layout.order is not None and len(by_row) > 1:
        by_row = by_row[layout.order]
    if all(other == first for other in layout.firsts):
        return by_row[..., first : first + width]
    columns = np.array(layout.firsts)[:, None] + np.arange(width)
    columns = np.minimum(columns, by_row.shape[-1] - 1)[:, None]  # (B, 1, columns)
    return np.take_along_axis(np.broadcast_to(by_row, (len(columns), *by_row.shape[1:])), columns, axis=2)


@remembered
def _mask(tables: Integers, lengths: Integers, queries: int, window: int | None, chunk: int | None) -> Mask:
    """Return the mask of the last T tokens of each row, with the keys that any of them may attend to."""
    starts = lengths - queries
    first = int(_firsts(starts, window, chunk).min())
    return Mask(starts[:, None] + np.arange(queries), np.arange(first, lengths.max()), window, chunk)


def _firsts(positions: Integers, window: int | None, chunk: int | None) -> Integers:
    """Return the first token that each token attends to."""
    firsts = np.zeros_like(positions)
    if window is not None:
        firsts = np.maximum(firsts, positions - window + 1)
    if chunk is not None:
        firsts = np.maximum(firsts, positions // chunk * chunk)
    return firsts


@remembered
def _layout(tables: Integers, lengths: Integers, size: int, window: int | None, chunk: int | None) -> Layout:
    """Cut the rows into runs, shared where their tables agree."""
    B, n = tables.shape
    firsts = _firsts(lengths - 1, window, chunk)
    block = np.arange(n)
    inside = (block >= firsts[:, None] // size) & (block < -(-lengths[:, None] // size))
    blocks = np.where(inside, tables, -1)
    order = np.lexsort((*blocks.T[::-1], firsts)) if B > 1 else np.zeros(1, dtype=np.int64)
    blocks, firsts, lengths = blocks[order], firsts[order], lengths[order]
    # How many of their first blocks each row and the next one share; the last block of a row is its own.
    alike = blocks[1:] == blocks[:-1]
    shared = np.where(alike.all(axis=1), n, alike.argmin(axis=1))
    shared = np.minimum(shared, np.minimum(lengths[1:], lengths[:-1]) // size)
    shared[firsts[1:] != firsts[:-1]] = 0
    rows = Rows(blocks, firsts.tolist(), lengths.tolist(), shared.tolist(), size)
    runs = [
        run for some, first, stop in _shared_blocks(rows, 0, B, 0) for run in _runs(rows, some, first, stop)
    ]
    counts = [length - first for length, first in zip(rows.lengths, rows.firsts, strict=True)]
    in_order = bool((order == np.arange(B)).all())
    return Layout(None if in_order else order, rows.firsts, counts, runs)


class Rows(NamedTuple):
    """The rows of a batch, sorted by their blocks.

    blocks   (B, n), the table of each row
    firsts   the first token that each row attends to
    lengths  how many tokens each row has
    shared   how many of their first blocks each row and the next one have in common
    size     places of a block
    """

    blocks: Integers
    firsts: list[int]
    lengths: list[int]
    shared: list[int]
    size: int


def _shared_blocks(rows: Rows, low: int, high: int, first: int) -> Iterator[tuple[slice, int, int]]:
    """Find which blocks from the first on the rows low … high − 1 share, all or some of them.

    Yields (rows, their first block, the block after their last).
    """
    if high - low == 1:
        yield slice(low, high), first, -(-rows.lengths[low] // rows.size)
        return
    between = rows.shared[low : high - 1]
    stop = max(first, min(between))
    yield slice(low, high), first, stop
    ends = [low + i + 1 for i, blocks in enumerate(between) if blocks <= stop]
    for start, end in zip([low, *ends], [*ends, high], strict=True):
        yield from _shared_blocks(rows, start, end, stop)


def _runs(rows: Rows, some: slice, first: int, stop: int) -> Iterator[Run]:
    """Cut the blocks ``first`` … ``stop − 1`` that some rows share into runs."""
    row, size = some.start, rows.size
    zero, length = rows.firsts[row], rows.lengths[row]
    first = max(first, zero // size)
    if first >= stop:
        return
    table = rows.blocks[row, first:stop]
    edges = [0, *(np.flatnonzero(np.diff(table) != 1) + 1).tolist(), len(table)]
    short: list[Run] = []
    for start, end in pairwise(edges):
        token, last = max((first + start) * size, zero), min((first + end) * size, length)
        place = int(table[start]) * size + token - (first + start) * size
        run = Run(some, slice(token - zero, last - zero), slice(place, place + last - token))
        if last - token < SHORTEST_RUN:
            short.append(run)
            continue
        yield from _joined(short)
        short = []
        yield run
    yield from _joined(short)


def _joined(short: list[Run]) -> Iterator[Run]:
    """Join runs that follow one another into one."""
    if len(short) < 2:
        yield from short
        return
    columns = slice(short[0].columns.start, short[-1].columns.stop)
    places = [np.arange(run.places.start, run.places.stop) for run in short if isinstance(run.places, slice)]
    yield Run(short[0].rows, columns, np.concatenate(places))
