"""Sentencepiece's BPE, from pieces and their scores: what a GGUF file has of a `tokenizer.model`.

    "▁the cat"  →  ▁ t h e ▁ c a t  →  ▁ t he ▁ c a t  →  ▁ the ▁ c at  →  ▁the ▁ c at  →  ▁the ▁cat

A text is cut into characters. Of all neighbours that together are a piece those with the highest score are
joined, the leftmost of several first, until none are left; training gave an earlier piece a higher score. A
character that is no piece is written as its UTF-8 bytes (`<0xE2>`), or is the unknown token where bytes are
no pieces. joining.py has the loop. Sennrich et al. 2016, arXiv:1508.07909; Kudo & Richardson 2018,
arXiv:1808.06226; the details are llama.cpp's.

It is Python's own code, unlike other tokenizers: there is nothing in it that a file could keep busy.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tokenizers import AddedToken

from tinystar_np.text.byte_run import ByteRun
from tinystar_np.text.joining import Join, join
from tinystar_np.text.sentencepiece import Encoding

SPACE = "▁"


@dataclass(frozen=True)
class Vocabulary:
    """The pieces of a vocabulary.

    pieces  each id's text; of bytes too (`<0x0A>`)
    ids     the same, the other way round
    scores  each id's; the pair with the highest is joined first
    bytes   {id: byte}: the pieces that stand for one byte
    silent  the ids that have no text: unused and empty ones
    unknown the id for what is neither a piece nor bytes; None leaves it out
    """

    pieces: Sequence[str]
    ids: Mapping[str, int]
    scores: Sequence[float]
    bytes: Mapping[int, int]
    silent: frozenset[int]
    unknown: int | None

    @cached_property
    def _ids_of_bytes(self) -> dict[int, int]:
        return {byte: id for id, byte in self.bytes.items()}

    def written(self, parts: Iterable[tuple[int | None, str]]) -> list[int]:
        """Return the ids of a text's parts.

        parts  each with its id; None for one that is no piece: it is written as bytes where they are pieces,
               or else is unknown, as one token together with unknown neighbours
        """
        ids: list[int] = []
        after_unknown = False
        for id, part in parts:
            spelled = [id] if id is not None else [self._ids_of_bytes.get(byte) for byte in part.encode()]
            known = [one for one in spelled if one is not None]
            unknown = len(known) < len(spelled)
            if not unknown:
                ids += known
            elif self.unknown is not None and not after_unknown:
                ids.append(self.unknown)
            after_unknown = unknown
        return ids


class ScoredPieces:
    """Text to ids and back; it has the methods of the `tokenizers` package that ``Tokenizer`` uses.

    vocabulary  the pieces
    cut         cuts a text without added tokens into ids: ``Joining``, or Unigram's (unigram.py)
    added       {id: token}: those that are found in a text before it is cut
    ends        the ids before and after every text
    prefix      whether ``cut`` puts a space before a text
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        cut: Callable[[str], list[int]],
        added: Mapping[int, AddedToken],
        ends: tuple[Sequence[int], Sequence[int]],
        prefix: bool,
    ) -> None:
        self.encode_special_tokens = False
        self.vocabulary = vocabulary
        self._ids = vocabulary.ids
        self.cut = cut
        self._added = dict(added)
        self._begin, self._end = map(list, ends)
        self._prefix = prefix
        self._all = AddedTokens(self._added)
        self._ordinary = AddedTokens({id: token for id, token in added.items() if not token.special})

    def encode(self, text: str, add_special_tokens: bool = True) -> Encoding:
        """Cut a text into tokens.

        With ``encode_special_tokens`` the text of a special token is like any other, as in the package.
        """
        ids: list[int] = []
        for part in self.stretches(text):
            ids += [part] if isinstance(part, int) else self.cut(part)
        return Encoding([*self._begin, *ids, *self._end] if add_special_tokens else ids)

    def stretches(self, text: str) -> Iterator[str | int]:
        """Yield the ids of added tokens and the texts between them, which are cut each by itself."""
        return (self._ordinary if self.encode_special_tokens else self._all).cut_out(text)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Join tokens to text, without the space that was put before it; unknown ids give nothing."""
        text, run = "", ByteRun()
        strips = self._prefix
        for id in ids:
            if id in self.vocabulary.bytes:
                text += run.push(self.vocabulary.bytes[id])
                strips = False
                continue
            text += run.flush()
            token = self._added.get(id)
            if token is not None:
                shown = "" if token.special and skip_special_tokens else token.content
                strips = strips and not shown
            elif 0 <= id < len(self.vocabulary.pieces) and id not in self.vocabulary.silent:
                shown = self.vocabulary.pieces[id].replace(SPACE, " ")
                if strips:
                    shown, strips = shown.removeprefix(" "), False
            else:
                shown = ""
            text += shown
        return text + run.flush()

    def id_to_token(self, id: int) -> str | None:
        """Return the token of an id, or None."""
        inside = 0 <= id < len(self.vocabulary.pieces) and id not in self.vocabulary.silent
        return self.vocabulary.pieces[id] if inside else None

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a token, or None."""
        return self._ids.get(token)

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        """Count the tokens."""
        return len(self.vocabulary.pieces)

    def get_added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Return the tokens that are found in a text before it is cut."""
        return self._added


class Joining:
    """Cuts a text by joining neighbours; a space is put before every text where there is a ``prefix``."""

    def __init__(self, vocabulary: Vocabulary, prefix: bool) -> None:
        self._vocabulary, self._ids = vocabulary, vocabulary.ids
        self._prefix = prefix

    def __call__(self, text: str) -> list[int]:
        """Return the ids of a text without added tokens."""
        pieces, _ = join(self.characters(text), self._order)
        return self._vocabulary.written((self._ids.get(piece), piece) for piece in pieces)

    def characters(self, text: str) -> str:
        """Return what a text is before any are joined: its characters, and ▁ for each space."""
        return (" " + text if text and self._prefix else text).replace(" ", SPACE)

    def joins(self, text: str) -> list[Join]:
        """Return the joins that lead to the pieces of a text, in their order: by falling scores."""
        return join(self.characters(text), self._order)[1]

    @cached_property
    def _order(self) -> Callable[[str, str], float | None]:
        orders = {piece: -self._vocabulary.scores[id] for piece, id in self._ids.items()}.get
        return lambda left, right: orders(left + right)


class AddedTokens:
    """A search for added tokens in a text; of several that begin at one place the longest is found."""

    def __init__(self, tokens: Mapping[int, AddedToken]) -> None:
        self._ids = {token.content: id for id, token in tokens.items()}
        self._swallows = {id for id, token in tokens.items() if token.rstrip}
        lengths: dict[str, set[int]] = {}
        for text in self._ids:
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: sorted(those, reverse=True) for first, those in lengths.items()}
        self._first = re.compile(f"[{re.escape(''.join(lengths))}]" if lengths else "(?!)")

    def cut_out(self, text: str) -> Iterator[str | int]:
        """Yield the ids of added tokens and the texts between them, in order."""
        begin = position = 0
        while match := self._first.search(text, position):
            position = match.start()
            for length in self._lengths[match[0]]:
                id = self._ids.get(text[position : position + length])
                if id is not None:
                    yield text[begin:position]
                    yield id
                    begin = position = position + length
                    if id in self._swallows:
                        begin = position = len(text) - len(text[begin:].lstrip())
                    break
            else:
                position += 1
        yield text[begin:]
