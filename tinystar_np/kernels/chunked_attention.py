"""Chunked attention: a text is cut into chunks, and a token sees no further back than its own chunk begins.

    query t sees key s    where s ≤ t and ⌊s / C⌋ = ⌊t / C⌋

A window moves along with the token (kernels/masks.py); a chunk stands still. Its first token sees itself
alone, its last one C tokens. So every chunk is a text of its own: the work for T tokens is T/C times that of
C, any form of causal attention does it, and once a chunk is full its keys and values can be forgotten. What
windows do have, chunks have not: no news crosses a border, however many layers there are. Some layers must
see everything, or the text falls apart. Meta 2025 (Llama 4, C = 8192); blocks of this kind are in Qiu et al.
2020, arXiv:1911.02972.

By definition it is attention under a mask (``Mask.chunk``), which computes T·S scores and throws most away.
``pieces`` cuts the queries where chunks end instead. A piece sees the keys of its chunk up to its own last
position, and among these the mask hides nothing but the future: causal attention, as it is.
"""

from collections.abc import Iterator


def pieces(start: int, stop: int, chunk: int) -> Iterator[range]:
    """Cut the positions ``start``, …, ``stop − 1`` where chunks end: ranges, each in one chunk."""
    for first in range(start - start % chunk, stop, chunk):
        yield range(max(first, start), min(first + chunk, stop))
