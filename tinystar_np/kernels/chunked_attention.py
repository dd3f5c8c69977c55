"""Chunked attention: the text is cut into chunks of C tokens, and a token attends only within its own chunk.

    query t attends to key s    where s ≤ t and ⌊s / C⌋ = ⌊t / C⌋

A window moves along with the token (kernels/masks.py); chunks are fixed. A chunk's first token attends to
itself alone, its last one to C tokens. So every chunk is a text of its own: the work for T tokens is T/C
times that for C, and once a chunk is full its keys and values can be dropped. Unlike with windows, no
information crosses from one chunk to the next, however many such layers there are; some layers must attend to
the whole text. Meta 2025 (Llama 4, C = 8192); blocks of this kind are in Qiu et al. 2020, arXiv:1911.02972.

By definition it is attention under a mask (``Mask.chunk``), which computes T·S scores and throws most away.
``pieces`` cuts the queries where chunks end instead; each piece is then causal attention over its chunk's
keys.
"""

from collections.abc import Iterator


def pieces(start: int, stop: int, chunk: int) -> Iterator[range]:
    """Cut the positions ``start``, …, ``stop − 1`` where chunks end: ranges, each in one chunk.

    >>> list(pieces(2, 7, 4))
    [range(2, 4), range(4, 7)]
    """
    for first in range(start - start % chunk, stop, chunk):
        yield range(max(first, start), min(first + chunk, stop))
