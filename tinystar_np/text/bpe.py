"""Byte-pair encoding as sentencepiece does it: merge the best pair of neighbours, again and again.

The text begins as single characters. Of all neighbours that together are a piece of the vocabulary, the
two whose piece has the highest score become one; among equals the leftmost do. Training gives each piece
minus the number of its merge as its score, so that what was merged first there is merged first here.

    ▁ h e l l o  →  ▁ he l l o  →  ▁ he ll o  →  ▁he ll o  →  ▁hello

The candidates wait in a heap, so that n characters cost n · log n. A candidate is not looked for in the heap
when one of its symbols changes, but recognised as outdated when it comes up.
Sennrich et al. 2016, arXiv:1508.07909.
"""

import re
from collections.abc import Collection, Mapping
from heapq import heapify, heappop, heappush


def merge_pieces(
    text: str,
    scores: Mapping[str, float],
    whole: re.Pattern[str] | None = None,
    unused: Collection[str] = (),
) -> list[str]:
    """Cut a text into pieces by merging.

    text    prepared: spaces are ▁
    scores  {piece: its score}
    whole   matches what is one piece from the beginning and never merged: user-defined pieces
    unused  pieces that may be built on the way to others, but are taken apart where they remain

    Returns the pieces, which together are the text; single characters need not be in the vocabulary.
    """
    symbols, frozen = _symbols(text, whole)
    left_of = list(range(-1, len(symbols) - 1))
    right_of = [*range(1, len(symbols)), -1]
    parts: dict[str, tuple[str, str]] = {}  # what an unused piece was merged from

    candidates: list[tuple[float, int, int, str]] = []

    def candidate(left: int, right: int) -> tuple[float, int, int, str] | None:
        if left < 0 or right < 0 or left in frozen or right in frozen:
            return None
        piece = symbols[left] + symbols[right]
        if piece not in scores:
            return None
        if piece in unused:
            parts[piece] = symbols[left], symbols[right]
        return -scores[piece], left, right, piece

    candidates = [found for i in range(1, len(symbols)) if (found := candidate(i - 1, i))]
    heapify(candidates)
    while candidates:
        _, left, right, piece = heappop(candidates)
        # The right symbol became part of another one, or one of the two has grown: outdated.
        if not symbols[left] or not symbols[right] or symbols[left] + symbols[right] != piece:
            continue
        symbols[left], symbols[right] = piece, ""
        right_of[left] = right_of[right]
        if right_of[right] >= 0:
            left_of[right_of[right]] = left
        for found in (candidate(left_of[left], left), candidate(left, right_of[left])):
            if found:
                heappush(candidates, found)
    pieces = [symbol for symbol in symbols if symbol]
    return pieces if not parts else [part for piece in pieces for part in _taken_apart(piece, parts)]


def _symbols(text: str, whole: re.Pattern[str] | None) -> tuple[list[str], set[int]]:
    """Cut a text into characters and what is whole; returns them and which of them are whole."""
    symbols: list[str] = []
    frozen: set[int] = set()
    position = 0
    for match in whole.finditer(text) if whole else ():
        symbols += text[position : match.start()]
        frozen.add(len(symbols))
        symbols.append(match[0])
        position = match.end()
    symbols += text[position:]
    return symbols, frozen


def _taken_apart(piece: str, parts: Mapping[str, tuple[str, str]]) -> list[str]:
    if piece not in parts:
        return [piece]
    return [smaller for part in parts[piece] for smaller in _taken_apart(part, parts)]
