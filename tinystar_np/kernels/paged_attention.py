"""Paged attention: the keys and values of many texts in the blocks of one pool.

Keys and values of a text are most simply one array, which must have room for the longest that the text may
become. A server does not know how long its texts will be. It reserves room that is never used, or moves what
it holds as texts grow, and the space between texts that end at different times is lost. So memory is cut into
blocks of equal size, as an operating system cuts it into pages: P places in all. Each text has a table of its
blocks, and token t of row b stands at

    place(b, t) = tables[b, ⌊t / size⌋] · size + t mod size

A block is taken when the one before it is full, and given back when the text ends. What is lost is at most
part of one block for each text, wherever the blocks are. Kwon et al. 2023, arXiv:2309.06180 (vLLM).

**A shared prefix is stored once.** A key depends on the tokens up to its own and on nothing else. Texts that
begin alike have the same keys as far as they agree, and their tables may name the same blocks: a system
prompt of a hundred conversations is computed once and takes the room of one.

``paged_attention`` is the definition: collect the keys and values of a row, and attend to them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.latent_attention import latent_attention
from tinystar_np.kernels.masks import Mask


class Paged(NamedTuple):
    """Keys, or values, of the rows of a batch, in the blocks of a pool.

    pool     (G, P, K), P = blocks · size places; what stands in places that no token has counts for nothing
    tables   (B, n), the numbers of each row's blocks, in the order of the text
    lengths  (B,), how many tokens each row has, at most n · size; what a table says beyond counts for nothing
    size     places of a block

    >>> pool = np.arange(8.0).reshape(1, 8, 1)  # four blocks of two places
    >>> gathered(Paged(pool, np.array([[3, 1]]), np.array([3]), 2)).ravel().tolist()
    [6.0, 7.0, 2.0]
    """

    pool: NDArray
    tables: NDArray[np.integer]
    lengths: NDArray[np.integer]
    size: int


def gathered(paged: Paged, first: int = 0) -> NDArray:
    """Collect the keys or values of every row: (B, G, S − first, K), S being the longest row's length.

    first  the first token to collect

    Rows that are shorter have zeros after their last token.

    >>> pool = np.arange(8.0).reshape(1, 8, 1)
    >>> paged = Paged(pool, np.array([[3, 1], [0, 1]]), np.array([2, 3]), 2)
    >>> gathered(paged)[:, 0, :, 0].tolist()
    [[6.0, 7.0, 0.0], [0.0, 1.0, 2.0]]
    >>> gathered(paged, first=1)[:, 0, :, 0].tolist()
    [[7.0, 0.0], [1.0, 2.0]]
    """
    pool, tables, lengths, size = paged
    t = np.arange(first, lengths.max())  # (S − first,)
    held = t < lengths[:, None]  # (B, S − first)
    places = np.where(held, tables[:, t // size] * size + t % size, 0)
    return np.where(held[..., None], pool[:, places], 0).swapaxes(0, 1)


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
    """Attend to keys and values in pools, row by row.

    q         (B, H, T, K), the last T tokens of each row, whose keys and values are in the pools
    k         with pool (G, P, K), where G divides H
    v         with pool (G, P, K), or of another width than q and k; tables and lengths as those of k
    scale     what the products q·k are multiplied by
    window    W, how many tokens a token attends to, its own included; None for no limit
    chunk     C, the length of the chunks within which tokens attend; None for no chunks
    bias      added to the scaled scores by the position of the key: (H, S) or (B, H, S), for every query
              alike, or broadcastable to (B, H, T, S) with as many axes; None for nothing
    soft_cap  c, within which scaled scores are kept; None for no cap
    sinks     (H,), one more score for every query of a head; None for none

    Returns (B, H, T, K), as wide as the values.

    >>> keys, values = np.log([[[1.0], [1], [1], [3]]]), np.array([[[0.0], [9], [9], [4]]])
    >>> tables, lengths = np.array([[0, 3], [3, 0]]), np.array([2, 1])  # of blocks with one place
    >>> k, v = Paged(keys, tables, lengths, 1), Paged(values, tables, lengths, 1)
    >>> paged_attention(np.ones((2, 1, 1, 1)), k, v, scale=1.0).round(6).ravel().tolist()
    [3.0, 4.0]
    """
    T, rows = q.shape[2], []
    for b in range(len(q)):
        mask = _mask_of_row(k.lengths[b], T, window, chunk)
        row = attention(
            q[b : b + 1], gathered(_row(k, b)), gathered(_row(v, b)), mask,
            scale=scale, bias=_bias_of_row(bias, b, k.lengths[b]), soft_cap=soft_cap, sinks=sinks,
        )  # (1, H, T, K)  # fmt: skip
        rows.append(row)
    return np.concatenate(rows)


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
    """Attend to the keys and values computed from latents in a pool, row by row.

    q           (B, H, T, K + K_r), the last T tokens of each row
    memory      with pool (1, P, R + K_r): each token's latent and, after it, its rotated key
    up_k, up_v  (H, R, K), (H, R, K_v), as of ``latent_attention``
    others      as of ``paged_attention``

    Returns (B, H, T, K_v).

    >>> memory = Paged(np.array([[[np.log(3), 4, 0], [0, 0, 0]]]), np.array([[1, 0]]), np.array([2]), 1)
    >>> q, up_k, up_v = np.array([[[[1.0, 0.0]]]]), np.array([[[1], [0]]]), np.array([[[0], [1]]])
    >>> paged_latent_attention(q, memory, up_k, up_v, scale=1.0).round(6).tolist()
    [[[[3.0]]]]
    """
    T, rows = q.shape[2], []
    for b in range(len(q)):
        mask = _mask_of_row(memory.lengths[b], T, window, chunk)
        own_bias = _bias_of_row(bias, b, memory.lengths[b])
        latents = gathered(_row(memory, b))  # (1, 1, S, R + K_r)
        rows.append(latent_attention(q[b : b + 1], latents, up_k, up_v, mask, scale=scale, bias=own_bias))
    return np.concatenate(rows)


def _row(paged: Paged, b: int) -> Paged:
    """Return one row."""
    return paged._replace(tables=paged.tables[b : b + 1], lengths=paged.lengths[b : b + 1])


def _mask_of_row(length: int, queries: int, window: int | None, chunk: int | None) -> Mask:
    """Return the mask of the last tokens of a row."""
    return Mask(np.arange(length - queries, length), np.arange(length), window, chunk)


def _bias_of_row(bias: NDArray | None, b: int, length: int) -> NDArray | None:
    """Return what is added to the scores of one row, with its axis: (1, H, S) or (1, H, 1 or T, S)."""
    if bias is None:
        return None
    if bias.ndim == 2:
        return bias[None, :, :length]
    return (bias if len(bias) == 1 else bias[b : b + 1])[..., :length]
