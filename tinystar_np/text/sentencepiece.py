"""A tokenizer from a `tokenizer.model` alone, as Llama's first releases came.

    text → special tokens cut out → normalised → merged, or cut → pieces → ids

What no piece covers is written byte by byte where the model has byte tokens (€ is `<0xE2><0x82><0xAC>`), and
becomes the one unknown token elsewhere. Special tokens are not part of the language that was trained:
sentencepiece itself reads the text `<s>` as three letters. Here it is the token, as in every other tokenizer.

`SentencePiece` offers what `Tokenizer` asks of the `tokenizers` package, which cannot read such files.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import AddedToken

from tinystar_np.text.bpe import merge_pieces
from tinystar_np.text.byte_run import ByteRun
from tinystar_np.text.sentencepiece_file import (
    BPE,
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    SentencePieceModel,
    byte_piece,
)
from tinystar_np.text.sentencepiece_normalizer import SPACE, Normalizer
from tinystar_np.text.unigram import likeliest_pieces


@dataclass(frozen=True)
class Encoding:
    """The result of encoding."""

    ids: list[int]


class SentencePiece:
    """Text to ids and back, with a sentencepiece model.

    model          the parsed file
    added          {id: token} that other files add; it may also give a piece of the model another name, as is
                   done with those that are kept for this
    begin, end     tokens to put before and behind a text
    prefix_again   put a space in front of what follows a special token, and not only in front of the text
    split_special  the text of a special token is text like any other
    """

    def __init__(
        self,
        model: SentencePieceModel,
        added: Mapping[int, AddedToken] | None = None,
        begin: str = "",
        end: str = "",
        prefix_again: bool = False,
        split_special: bool = False,
    ) -> None:
        added = dict(added or {})
        byte_ids = {model.pieces[id]: id for id in model.ids_of(BYTE)}
        self._bytes = [byte_ids[byte_piece(byte)] for byte in range(256)] if model.byte_fallback else []
        self._byte_of = {id: byte for byte, id in enumerate(self._bytes) if id not in added}
        model = _renamed(model, added)
        self._prefix_again = prefix_again
        self._strip = model.add_dummy_prefix or model.remove_extra_whitespaces
        self._strip_all = model.remove_extra_whitespaces

        reserved = {
            id: AddedToken(model.pieces[id], special=True, normalized=False)
            for id in model.ids_of(CONTROL, UNKNOWN)
        }
        self._added = reserved | added
        self._tokens = dict(enumerate(model.pieces)) | {
            id: token.content for id, token in self._added.items()
        }
        self._ids = {token: id for id, token in self._tokens.items()}
        self._begin = [self._ids[begin]] if begin in self._ids else []
        self._end = [self._ids[end]] if end in self._ids else []
        (self._unknown_id,) = model.ids_of(UNKNOWN)

        whole = [model.pieces[id] for id in model.ids_of(USER_DEFINED)]
        pattern = re.compile("|".join(map(re.escape, longest_first(whole)))) if whole else None
        self._normalise = Normalizer(
            model.charsmap,
            model.add_dummy_prefix,
            model.remove_extra_whitespaces,
            model.escape_whitespaces,
            pattern,
        )
        self._cut, self._piece_ids = _cutter(model, pattern)
        self._special = _special_pattern(
            token for token in self._added.values() if not (split_special and token.special)
        )

    def encode(self, text: str, add_special_tokens: bool = True) -> Encoding:
        """Cut a text into tokens, with what begins and ends a text unless told otherwise."""
        ids = [id for part in self._parts(text) for id in part]
        return Encoding([*self._begin, *ids, *self._end] if add_special_tokens else ids)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Join tokens to text, without the space that was put in front; unknown ids give nothing."""
        text, strip = "", self._strip
        byte_run = ByteRun()
        for id in ids:
            added = self._added.get(id)
            if id not in self._tokens or (added and added.special and skip_special_tokens):
                continue
            if id in self._byte_of:
                text += byte_run.push(self._byte_of[id])
                continue
            text += byte_run.flush()
            piece = self._tokens[id]
            if strip and not text and piece.startswith(SPACE):
                piece, strip = piece[1:], self._strip_all
            text += piece.replace(SPACE, " ")
        return text + byte_run.flush()

    def id_to_token(self, id: int) -> str | None:
        """Give the token of an id, or None."""
        return self._tokens.get(id)

    def token_to_id(self, token: str) -> int | None:
        """Give the id of a token, or None."""
        return self._ids.get(token)

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        """Count the tokens."""
        return len(self._tokens)

    def get_added_tokens_decoder(self) -> dict[int, AddedToken]:
        """List the tokens that are found in a text before it is cut."""
        return self._added

    def _parts(self, text: str) -> Iterator[list[int]]:
        position = 0
        for match in self._special.finditer(text):
            yield self._ids_of(text[position : match.start()], first=position == 0)
            yield [self._ids[match[match.lastindex or 0]]]
            position = match.end()
        yield self._ids_of(text[position:], first=position == 0)

    def _ids_of(self, text: str, first: bool) -> list[int]:
        ids: list[int] = []
        after_unknown = False
        for piece in self._cut(self._normalise(text, prefix=first or self._prefix_again)):
            id = self._piece_ids.get(piece)
            if id is not None:
                ids.append(id)
            elif self._bytes:
                ids += [self._bytes[byte] for byte in piece.encode()]
            elif not after_unknown:  # a run of unknown characters is one token
                ids.append(self._unknown_id)
            after_unknown = id is None
        return ids


def _renamed(model: SentencePieceModel, added: Mapping[int, AddedToken]) -> SentencePieceModel:
    """Give pieces the names that added tokens have for them; what they were called is no piece any more."""
    names = {id: token.content for id, token in added.items() if id < len(model.pieces)}
    names = {id: name for id, name in names.items() if model.pieces[id] != name}
    return replace(
        model,
        pieces=[names.get(id, piece) for id, piece in enumerate(model.pieces)],
        types=[CONTROL if id in names and type != UNKNOWN else type for id, type in enumerate(model.types)],
    )


def _cutter(
    model: SentencePieceModel, whole: re.Pattern[str] | None
) -> tuple[Callable[[str], list[str]], dict[str, int]]:
    """Build what cuts a normalised text, and the ids of the pieces that it may give."""
    usable = model.ids_of(NORMAL, USER_DEFINED)
    ids = {model.pieces[id]: id for id in usable}
    if model.model_type == BPE:
        unused = {model.pieces[id]: model.scores[id] for id in model.ids_of(UNUSED)}
        scores = {model.pieces[id]: model.scores[id] for id in usable} | unused
        return lambda text: merge_pieces(text, scores, whole, unused), ids
    ordinary = {model.pieces[id]: model.scores[id] for id in model.ids_of(NORMAL)}
    # No piece costs less than those of the user: they are taken wherever they stand.
    wanted = [model.pieces[id] for id in model.ids_of(USER_DEFINED)]
    scores = ordinary | {piece: float(np.float32(0.1 * (len(piece.encode()) - 1))) for piece in wanted}
    lowest, longest = min(ordinary.values(), default=0.0), max(map(len, scores), default=1)
    return lambda text: likeliest_pieces(text, scores, lowest, longest), ids


def _special_pattern(tokens: Iterable[AddedToken]) -> re.Pattern[str]:
    """Build a pattern with a group for each token; of several that begin at one place the longest matches."""
    by_text = {token.content: token for token in tokens if token.content}
    alternatives = []
    for text in longest_first(by_text):
        token = by_text[text]
        before = (r"\s*" if token.lstrip else "") + (r"(?<!\w)" if token.single_word else "")
        behind = (r"(?!\w)" if token.single_word else "") + (r"\s*" if token.rstrip else "")
        alternatives.append(f"{before}({re.escape(text)}){behind}")
    return re.compile("|".join(alternatives) or r"(?!)")


def longest_first(texts: Iterable[str]) -> list[str]:
    """Sort texts so that none stands behind its own beginning."""
    return sorted(texts, key=len, reverse=True)
