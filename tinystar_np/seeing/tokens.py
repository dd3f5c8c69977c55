"""A text cut into tokens: their ids, their bytes, and how the tokenizer came to them.

    " lower"  →  Ġ l o w er  →  Ġl o w er  →  Ġl ow er  →  Ġl ower  →  Ġlower        (GPT-2)

Byte-pair encoding joins neighbours within a word, and its vocabulary says in which order: by a list of
merges, or by the scores of the pieces. Unigram takes the pieces whose scores have the largest sum. Others,
and tokenizers in a process of their own (text/isolated.py), say which pieces there are, but not how they
came.

Words and ids are those of the tokenizer itself. Only the order of the merges is not among what the packages
tell, so it is found anew within each word; where it does not lead to the tokenizer's own pieces none is
given.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import tokenizers

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.text import Tokenizer
from tinystar_np.text.byte_tokenizer import byte_letters
from tinystar_np.text.joining import Join, join
from tinystar_np.text.scored_pieces import SPACE, Joining, ScoredPieces
from tinystar_np.text.tokenizer_faults import package_faults

BYTE = re.compile("<0x([0-9A-F]{2})>")
CONTINUES = "##"
BYTES_OF_LETTERS = {letter: byte for byte, letter in enumerate(byte_letters())}


@dataclass(frozen=True)
class Token:
    """A token.

    id       its id
    piece    its spelling in the vocabulary: `Ġthe`, `▁the`, `<0x0A>`
    bytes    what it stands for in a text, which need not be a whole character; None where that is not known,
             as in a tokenizer that runs in a process of its own
    special  whether decoding leaves it out, as `<|endoftext|>`
    added    whether it was found in the text, or put around it, before the text was cut
    score    its score in a vocabulary with scores: in Unigram the logarithm of its probability
    """

    id: int
    piece: str
    bytes: bytes | None
    special: bool
    added: bool
    score: float | None


@dataclass(frozen=True)
class Word:
    """A stretch of the text within which neighbours are joined.

    start, end  its tokens: from which index on, and before which
    parts       what the joins begin with: characters, or letters that stand for bytes
    merges      the joins in their order; ``order`` is the merge's rank in the vocabulary's list, or minus the
                score of the joined piece. None where they are not known; empty too where the whole word is a
                token and the vocabulary says that it then stays whole
    """

    start: int
    end: int
    parts: tuple[str, ...]
    merges: tuple[Join, ...] | None


@dataclass(frozen=True)
class Tokens:
    """A text as its tokenizer cuts it.

    kind    of the vocabulary: "BPE", "Unigram", "WordPiece", "WordLevel"; None where it is not known
    by      what orders the merges: "rank" or "score"; None where there are none
    tokens  all of them, those around the text included
    words   the stretches between added tokens within which pieces are joined, in order
    """

    kind: str | None
    by: str | None
    tokens: tuple[Token, ...]
    words: tuple[Word, ...]


class _Rules(NamedTuple):
    """What a BPE model of the `tokenizers` package says of its merges."""

    ranks: dict[tuple[str, str], int]
    keeps_words: bool
    ending: str
    unknown: str | None


class TokenizerView:
    """A tokenizer looked into: its vocabulary is read once, which takes up to a second for the largest.

    tokenizer  any
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        backend = tokenizer.backend
        self._added = backend.get_added_tokens_decoder()
        self.kind: str | None = None
        """Of the vocabulary: "BPE", "Unigram", "WordPiece" or "WordLevel"; None where it is not known."""
        self._rules: _Rules | None = None
        self._scores: Sequence[float] = ()
        self._byte_level = self._falls_back = False
        if isinstance(backend, ScoredPieces):
            self.kind = "BPE" if isinstance(backend.cut, Joining) else "Unigram"
            self._scores = backend.vocabulary.scores
        elif isinstance(backend, tokenizers.Tokenizer):
            model = json.loads(backend.model.__getstate__())
            self.kind = str(model["type"])
            decoder = "" if backend.decoder is None else backend.decoder.__getstate__().decode()
            self._byte_level = '"ByteLevel"' in decoder
            self._falls_back = '"ByteFallback"' in decoder or bool(model.get("byte_fallback"))
            if self.kind == "Unigram":
                self._scores = [score for _, score in model["vocab"]]
            elif self.kind == "BPE":
                self._rules = _rules_of(model)

    def cut(self, text: str, add_special_tokens: bool = True) -> Tokens:
        """Cut a text into tokens, and say how.

        text                any text
        add_special_tokens  with the tokens that begin and end a text, as in ``Tokenizer.encode``

        Returns the tokens, whose ids are those of ``encode``; raises its errors.
        """
        ids = self._tokenizer.encode(text, add_special_tokens)
        backend = self._tokenizer.backend
        words: Iterator[Word] = iter(())
        by = "score" if isinstance(backend, ScoredPieces) and self.kind == "BPE" else None
        if isinstance(backend, tokenizers.Tokenizer):
            by = None if self._rules is None else "rank"
            words = self._words(backend, text, add_special_tokens)
        elif isinstance(backend, ScoredPieces) and isinstance(backend.cut, Joining):
            first = _index_after_beginning(ids, backend.encode(text, add_special_tokens=False).ids)
            words = _scored_words(backend, backend.cut, text, first)
        return Tokens(self.kind, by, self.tokens(ids), tuple(words))

    def tokens(self, ids: Iterable[int]) -> tuple[Token, ...]:
        """Describe tokens by their ids, such as those that a model generated."""
        return tuple(map(self._token, ids))

    def _token(self, id: int) -> Token:
        piece = self._tokenizer.token(id)
        special, added = id in self._tokenizer.special_ids, id in self._added
        score = float(self._scores[id]) if id < len(self._scores) else None
        return Token(id, piece, self._bytes_of(id, piece, added), special, added, score)

    def _bytes_of(self, id: int, piece: str, added: bool) -> bytes | None:
        """Return what a token stands for in a text."""
        backend = self._tokenizer.backend
        if added:
            return piece.encode()
        if isinstance(backend, ScoredPieces):
            pieces = backend.vocabulary
            return bytes([pieces.bytes[id]]) if id in pieces.bytes else piece.replace(SPACE, " ").encode()
        if not isinstance(backend, tokenizers.Tokenizer):
            return None
        if self._byte_level:
            letters = [BYTES_OF_LETTERS.get(letter) for letter in piece]
            whole = [byte for byte in letters if byte is not None]
            return bytes(whole) if len(whole) == len(letters) else piece.encode()
        if self._is_byte(piece):
            return bytes([int(piece[3:5], 16)])
        return piece.removeprefix(CONTINUES if self.kind == "WordPiece" else "").replace(SPACE, " ").encode()

    def _is_byte(self, piece: str) -> bool:
        """Say whether a piece stands for one byte (`<0x0A>`)."""
        return self._falls_back and BYTE.fullmatch(piece) is not None

    def _words(self, backend: tokenizers.Tokenizer, text: str, add_special_tokens: bool) -> Iterator[Word]:
        """Yield the words of a tokenizer of the `tokenizers` package, each with its merges."""
        with package_faults(self._tokenizer.path):
            encoding = backend.encode(text, add_special_tokens=add_special_tokens)
        end = 0
        for word, group in groupby(encoding.word_ids):
            start, end = end, end + len(list(group))
            pieces = encoding.tokens[start:end]
            if word is None or (end - start == 1 and encoding.ids[start] in self._added):
                continue
            parts = tuple(self._first_parts(pieces))
            yield Word(start, end, *_merged(parts, pieces, self._rules))

    def _first_parts(self, pieces: Sequence[str]) -> Iterator[str]:
        """Yield what the pieces of a word were before any were joined: their characters.

        A byte (`<0x0A>`) and the unknown token stand for characters without a piece.
        """
        for piece in pieces:
            if self._is_byte(piece) or (self._rules is not None and piece == self._rules.unknown):
                yield piece
            else:
                yield from piece


def _rules_of(model: JsonObject) -> _Rules | None:
    """Read a BPE model of the `tokenizers` package, in either spelling of its merges."""
    # With a prefix for what continues a word, pieces are not joined as they are spelled.
    if model["continuing_subword_prefix"] or model["dropout"] is not None:
        return None
    merges = (tuple(one.split(" ", 1)) if isinstance(one, str) else tuple(one) for one in model["merges"])
    ranks = {(left, right): rank for rank, (left, right) in enumerate(merges)}
    return _Rules(ranks, bool(model["ignore_merges"]), model["end_of_word_suffix"] or "", model["unk_token"])


def _merged(
    parts: tuple[str, ...], pieces: Sequence[str], rules: _Rules | None
) -> tuple[tuple[str, ...], tuple[Join, ...] | None]:
    """Join the parts of a word by the ranks; the joins are None where that does not give its pieces."""
    if rules is None:
        return parts, None
    if rules.ending and "".join(parts).endswith(rules.ending):  # the suffix belongs to the last character
        last = len(parts) - len(rules.ending) - 1
        parts = (*parts[:last], "".join(parts[last:]))
    if rules.keeps_words and len(pieces) == 1:
        return parts, ()
    found, merges = join(parts, lambda left, right: rules.ranks.get((left, right)))
    return parts, tuple(merges) if found == list(pieces) else None


def _scored_words(backend: ScoredPieces, joining: Joining, text: str, first: int) -> Iterator[Word]:
    """Yield the stretches of a text between added tokens; the first token has the index ``first``."""
    for stretch in backend.stretches(text):
        if isinstance(stretch, int):
            first += 1
        elif stretch:
            start, first = first, first + len(joining(stretch))
            yield Word(start, first, tuple(joining.characters(stretch)), tuple(joining.joins(stretch)))


def _index_after_beginning(ids: Sequence[int], inside: Sequence[int]) -> int:
    """Return how many of the ids were put before the text, whose own are ``inside``."""
    extra = len(ids) - len(inside)
    return next(start for start in range(extra + 1) if ids[start : start + len(inside)] == inside)
