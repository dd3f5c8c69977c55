"""Attention in chunks: ``attend``, called once for each chunk that the new tokens stand in."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Seen, Span
from tinystar_np.kernels.chunked_attention import chunked_mask, pieces
from tinystar_np.layers_old.attending import attend
from tinystar_np.tap import listening


class _Piece(NamedTuple):
    """Queries that stand in one chunk, and the keys that they see.

    rows       of the batch
    queries    which of the T
    keys       which of the S
    positions  those of the keys, as in ``Seen``
    span       those of the queries
    """

    rows: slice
    queries: slice
    keys: slice
    positions: NDArray[np.int64]
    span: Span


ALL = slice(None)


def attend_in_chunks(q: NDArray, seen: Seen, span: Span, *, chunk: int, **settings: Any) -> NDArray:
    """Let queries attend within their chunks: at once and under a mask where somebody looks.

    q         (B, H, T, K)
    seen      keys (B, G, S, K), values (B, G, S, K_v) and their positions, which in each row are in order; of
              every query's chunk, all up to the query are there
    span      the positions of the T queries
    chunk     C
    settings  as of ``attend``, causal and without a window

    Returns (B, H, T, K_v).
    """
    if listening():
        return attend(q, seen, _Chunked(span, chunk), **settings)
    parts = span.once(("chunks", chunk, seen.keys.shape[2]), lambda: _pieces(span, seen.positions, chunk))
    mixed = np.empty_like(q, shape=(*q.shape[:-1], seen.values.shape[-1])) if len(parts) > 1 else q
    for rows, queries, keys, positions, own in parts:
        near = Seen(seen.keys[rows, :, keys], seen.values[rows, :, keys], positions)
        part = attend(q[rows, :, queries], near, own, **settings)
        if len(parts) == 1:
            return part
        mixed[rows, :, queries] = part
    return mixed


def _pieces(span: Span, positions: NDArray[np.int64], chunk: int) -> list[_Piece]:
    """Cut a call where chunks end; a call within one chunk stays whole, however its rows stand."""
    if (positions[..., 0] // chunk == (span.start + span.length - 1) // chunk).all():
        return [_Piece(ALL, ALL, ALL, positions, Span(span.start, span.length))]
    found = []
    for b, start in enumerate(span.start[:1] if span.uniform else span.start):
        rows = ALL if span.uniform else slice(b, b + 1)
        held = positions if span.uniform else positions[b]
        for piece in pieces(int(start), int(start) + span.length, chunk):
            queries = slice(piece.start - int(start), piece.stop - int(start))
            first, end = np.searchsorted(held, (piece.start // chunk * chunk, piece.stop))
            own = Span(span.start[rows] + queries.start, len(piece))
            found.append(_Piece(rows, queries, slice(first, end), held[first:end], own))
    return found


class _Chunked(Span):
    """A span whose tokens see their own chunk."""

    def __init__(self, span: Span, chunk: int):
        super().__init__(span.start, span.length)
        self.chunk = chunk

    def mask(self, keys: NDArray[np.int64], window: int | None = None) -> NDArray[np.bool_]:
        """Say which keys each new token may see: (B, 1, T, S)."""
        return chunked_mask(self.positions[:, None], np.atleast_2d(keys)[:, None], self.chunk)
