"""A tokenizer from a `tokenizer.model` alone, as in Llama's first releases.

    text → special tokens cut out → normalised and cut into pieces by the sentencepiece package → ids

To sentencepiece the text `<s>` is three letters, since it was not trained on special tokens. Here it is the
token, as in every other tokenizer. `SentencePiece` has the methods of the `tokenizers` package that
`Tokenizer` uses; that package cannot read such files. Kudo & Richardson 2018, arXiv:1808.06226.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers
from tokenizers import AddedToken, models

from tinystar_np.errors import TokenizerError
from tinystar_np.text.added_tokens import flags_of, resolve_added_tokens
from tinystar_np.text.tokenizer_faults import NotOrdinaryError, damaged
from tinystar_np.text.tokenizer_settings import TokenizerSettings

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

NOT_SPECIAL = 0  # the id of what lies between special tokens

# normalizer_spec { add_dummy_prefix }: whether a space is put before a text. If a protocol buffer has a field
# twice, the last counts, so that these bytes after a model change it.
PREFIX = {True: b"\x1a\x02\x18\x01", False: b"\x1a\x02\x18\x00"}


@dataclass(frozen=True)
class Encoding:
    """The result of encoding."""

    ids: list[int]


class SentencePiece:
    """Text to ids and back, with a sentencepiece model.

    processor  the package's own, which has read the model
    added      {id: token} that other files add; a token with the id of a piece renames it, as is done with
               pieces that are reserved for this
    settings   of the files beside the model
    """

    def __init__(
        self,
        processor: "SentencePieceProcessor",
        added: Mapping[int, AddedToken],
        settings: TokenizerSettings,
    ) -> None:
        pieces = _pieces(processor)
        reserved = [id for id in range(len(pieces)) if processor.is_control(id) or processor.is_unknown(id)]
        self._processor = processor
        self._added = {id: AddedToken(pieces[id], special=True) for id in reserved} | dict(added)
        self._tokens = dict(enumerate(pieces)) | {id: token.content for id, token in self._added.items()}
        self._ids = {token: id for id, token in self._tokens.items()}
        special = settings.special_tokens
        begin = special.get("bos_token") if settings.add_bos else None
        end = special.get("eos_token") if settings.add_eos else None
        self._begin = [self._ids[begin]] if begin in self._ids else []
        self._end = [self._ids[end]] if end in self._ids else []
        self._prefix_again = settings.legacy
        in_text = [
            token for token in self._added.values() if not (settings.split_special_tokens and token.special)
        ]
        self._finder = _finder(in_text)
        self._special = {
            self._finder.token_to_id(token.content): self._ids[token.content] for token in in_text
        }
        # The former name of a renamed piece is ordinary text: it is encoded letter by letter.
        kept = {processor.unk_id(), *(id for id in range(len(pieces)) if processor.is_byte(id))}
        renamed = {id for id, piece in enumerate(pieces) if piece != self._tokens[id]} - kept
        self._letters: dict[int, list[int]] = {}
        for id in renamed:
            letters = [part for letter in pieces[id] for part in self._without_prefix.encode(letter)]
            self._letters[id] = [processor.unk_id() if part in renamed else part for part in letters]

    def encode(self, text: str, add_special_tokens: bool = True) -> Encoding:
        """Cut a text into tokens, with bos_token and eos_token where the settings say so."""
        ids: list[int] = []
        found = self._finder.encode(text, add_special_tokens=False)
        for number, (start, end) in zip(found.ids, found.offsets, strict=True):
            if number == NOT_SPECIAL:
                ids += self._ids_of(text[start:end], first=start == 0)
            else:
                ids.append(self._special[number])
        return Encoding([*self._begin, *ids, *self._end] if add_special_tokens else ids)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Join tokens to text, without the space that was put before it; unknown ids give nothing."""
        special = self._added if skip_special_tokens else {}
        known = [id for id in ids if id in self._tokens and not (id in special and special[id].special)]
        text = ""
        for is_added, group in groupby(known, self._added.__contains__):
            if is_added:
                text += "".join(self._tokens[id] for id in group).replace("▁", " ")
            elif not text:
                text = self._processor.decode(list(group))
            else:  # sentencepiece drops the first space of a text: the unknown token before it prevents that
                unknown = [self._processor.unk_id()]
                text += self._processor.decode([*unknown, *group])[len(self._processor.decode(unknown)) :]
        return text

    def id_to_token(self, id: int) -> str | None:
        """Return the token of an id, or None."""
        return self._tokens.get(id)

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a token, or None."""
        return self._ids.get(token)

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        """Count the tokens."""
        return len(self._tokens)

    def get_added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Return the tokens that are found in a text before it is cut."""
        return self._added

    @cached_property
    def _without_prefix(self) -> "SentencePieceProcessor":
        return _processor(self._processor.serialized_model_proto() + PREFIX[False])

    def _ids_of(self, text: str, first: bool) -> list[int]:
        processor = self._processor if first or self._prefix_again else self._without_prefix
        ids: list[int] = processor.encode(text)
        return [part for id in ids for part in self._letters.get(id, [id])] if self._letters else ids


def load_sentencepiece(
    path: Path, settings: TokenizerSettings, ordinary_only: bool, kind: type[SentencePiece] = SentencePiece
) -> tuple[SentencePiece, TokenizerSettings]:
    """Load a `tokenizer.model` and the tokens that the files beside it add.

    kind  the class of what runs it

    Raises the package's errors where the file is damaged, TokenizerError where the package is missing, and
    NotOrdinaryError: which such a file is ordinary cannot be seen.
    """
    if ordinary_only:
        raise NotOrdinaryError
    data = path.read_bytes()
    if not data:
        raise damaged(path, "it is empty")
    if settings.add_prefix_space is not None:
        data += PREFIX[settings.add_prefix_space]
    try:
        processor = _processor(data)
    except ImportError as error:
        raise TokenizerError(
            f"{path}: this repository has only {path.name}, for which the sentencepiece package is "
            "needed.\nInstall it: pip install 'tinystar_np[sentencepiece]'"
        ) from error
    pieces = _pieces(processor)
    # An added token with the id of a piece renames it.
    renamed = {token.content: id for id, token in settings.added.items() if id < len(pieces)}
    taken = set(renamed.values())
    ids = {piece: id for id, piece in enumerate(pieces) if id not in taken} | renamed
    ends = {"bos_token": processor.bos_id(), "eos_token": processor.eos_id()}
    settings = settings.with_defaults(
        {role: pieces[id] for role, id in ends.items() if id >= 0 and pieces[id] in ids}
    )
    return kind(processor, resolve_added_tokens(settings, ids, {}), settings), settings


def _processor(data: bytes) -> "SentencePieceProcessor":
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_proto=data)


def _pieces(processor: "SentencePieceProcessor") -> list[str]:
    return processor.id_to_piece(list(range(processor.vocab_size())))


def _finder(tokens: Iterable[AddedToken]) -> tokenizers.Tokenizer:
    """Make a tokenizer that finds added tokens in a text: of several that begin at one place the longest.

    Whatever is between them is one token, ``NOT_SPECIAL``.
    """
    finder = tokenizers.Tokenizer(models.WordLevel({"": NOT_SPECIAL}, unk_token=""))
    finder.add_tokens(
        [AddedToken(token.content, **flags_of(token) | {"normalized": False}) for token in tokens]
    )
    return finder
