"""Sentencepiece's Unigram, from pieces and their scores: the most probable way to cut a text into pieces.

    best(0) = 0        best(end) = max over pieces that end there of best(where it starts) + score

A score is the logarithm of a piece's probability. A character that is no piece costs as much as the rarest
piece and 10 more; it is written as its UTF-8 bytes where they are pieces, and else as one unknown token
together with its unknown neighbours. Kudo 2018, arXiv:1804.10959.

A text is normalised first: by a table of the file's (NFKC and the like), and spaces as its settings say. The
table is a trie in a double array (Kanda 2018): from a node with the base b the byte c leads to the unit
b ^ c, if that says c. A node that ends a key has a further unit, with the place of what replaces the key.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinystar_np.text.scored_pieces import SPACE, Vocabulary

UNKNOWN_COSTS = 10.0
LONGEST_REPLACEMENT = 100  # bytes; the longest that NFKC has are 33
LONGEST_KEY = 64  # bytes; longer ones are not found


class Charsmap:
    """A table of texts that are replaced before a text is cut.

    data  the file's: how many bytes the units take, the units (4 bytes each), the replacements

    Raises ValueError where its parts do not fit.
    """

    def __init__(self, data: bytes) -> None:
        size = int.from_bytes(data[:4], "little")
        if len(data) < 4 or size % 4 or not 4 <= size <= len(data) - 4:
            raise ValueError("its units do not fit into it")
        units = np.frombuffer(data, "<u4", size // 4, 4)
        self._bases = ((units >> 10) << ((units & 1 << 9) >> 6)).tolist()
        self._labels = (units & (1 << 31 | 0xFF)).tolist()
        self._ends = ((units >> 8) & 1).tolist()
        self._values = (units & (1 << 31) - 1).tolist()
        self._texts = data[4 + size :]
        if self._texts and self._texts[-1]:
            raise ValueError("its last replacement does not end")

    @property
    def is_ordinary(self) -> bool:
        """Whether no replacement is longer than those of known models."""
        return max(map(len, self._texts.split(b"\0"))) <= LONGEST_REPLACEMENT

    def replaced(self, text: str) -> str:
        """Replace the longest keys, from left to right."""
        data, out, place = text.encode(), bytearray(), 0
        while place < len(data):
            found = self._longest(data, place)
            if found is None:
                length = 1
                while place + length < len(data) and data[place + length] & 0xC0 == 0x80:
                    length += 1
                out += data[place : place + length]
            else:
                length, start = found
                out += self._texts[start : self._texts.find(b"\0", start)]
            place += length
        return out.decode(errors="replace")

    def _longest(self, data: bytes, place: int) -> tuple[int, int] | None:
        """Return the length of the longest key at a place, and where its replacement begins, or None."""
        found = None
        node = self._bases[0]
        for length, byte in enumerate(data[place : place + LONGEST_KEY], 1):
            node ^= byte
            if not byte or node >= len(self._labels) or self._labels[node] != byte:
                break
            ends = self._ends[node]
            node ^= self._bases[node]
            if ends and node < len(self._values) and self._values[node] < len(self._texts):
                found = length, self._values[node]
        return found


@dataclass(frozen=True)
class Normalizer:
    """What is done to a text before it is cut.

    charsmap  the file's table; None for none
    prefix    whether a space is put before it
    one_space whether several spaces become one, and those at both ends none
    """

    charsmap: Charsmap | None
    prefix: bool
    one_space: bool

    def __call__(self, text: str) -> str:
        """Return the text that is cut, with ▁ for a space."""
        if self.charsmap is not None:
            text = self.charsmap.replaced(text)
        if self.one_space:
            text = re.sub(" +", " ", text.strip(" "))
        if text and self.prefix:
            text = " " + text
        return text.replace(" ", SPACE)


class Unigram:
    """Cuts a text into the most probable pieces.

    vocabulary  the pieces
    ids         {piece: id} of those that a text may be cut into
    normalizer  what is done to a text first
    """

    def __init__(self, vocabulary: Vocabulary, ids: Mapping[str, int], normalizer: Normalizer) -> None:
        self._vocabulary, self._ids, self._scores = vocabulary, ids, vocabulary.scores
        self._normalizer = normalizer
        self._unknown_score = min((vocabulary.scores[id] for id in ids.values()), default=0.0) - UNKNOWN_COSTS
        lengths: dict[str, set[int]] = {}
        for piece in ids:
            lengths.setdefault(piece[0], set()).add(len(piece))
        self._lengths = {first: sorted(those) for first, those in lengths.items()}

    def __call__(self, text: str) -> list[int]:
        """Return the ids of a text without added tokens."""
        text = self._normalizer(text)
        starts, found = self._best(text)
        pieces: list[tuple[int | None, str]] = []
        end = len(text)
        while end:
            pieces.append((found[end], text[starts[end] : end]))
            end = starts[end]
        return self._vocabulary.written(reversed(pieces))

    def _best(self, text: str) -> tuple[Sequence[int], Sequence[int | None]]:
        """Return for every place where the piece that ends there starts, and its id; None is no piece."""
        count = len(text)
        scores = [0.0] + [-np.inf] * count
        starts = [0] * (count + 1)
        found: list[int | None] = [None] * (count + 1)
        for start in range(count):
            before, alone = scores[start], False
            for length in self._lengths.get(text[start], ()):
                end = start + length
                if end > count:
                    break
                id = self._ids.get(text[start:end])
                if id is None:
                    continue
                alone = alone or length == 1
                if before + self._scores[id] > scores[end]:
                    scores[end], starts[end], found[end] = before + self._scores[id], start, id
            if not alone and before + self._unknown_score > scores[start + 1]:
                scores[start + 1], starts[start + 1] = before + self._unknown_score, start
                found[start + 1] = None
        return starts, found
