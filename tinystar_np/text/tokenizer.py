"""The tokenizer: text to token ids and back; tokenizer_files.py loads it.

A byte-level BPE tokenizer (GPT-2, Radford et al. 2019; Llama 3, Falcon, Granite) writes a text as UTF-8 bytes
and joins frequent neighbours, so that any text can be encoded. A sentencepiece one (Llama 1 and 2) joins
characters, the space being one of them, and encodes characters without a piece as bytes. Most are run by the
`tokenizers` package.
"""

from collections.abc import Iterable
from functools import cached_property
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, SupportsIndex, TypeAlias

import tokenizers

from tinystar_np.checkpoints.json_file import one_line, shown
from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.text.chat_template import ChatTemplate, load_chat_template
from tinystar_np.text.isolated import IsolatedTokenizer
from tinystar_np.text.sentencepiece import SentencePiece
from tinystar_np.text.tokenizer_faults import is_unknown, package_faults
from tinystar_np.text.tokenizer_settings import TokenizerSettings

if TYPE_CHECKING:
    from tinystar_np.text.japanese_pieces import JapanesePieces
    from tinystar_np.text.marked_pieces import MarkedPieces
    from tinystar_np.text.scored_pieces import ScoredPieces

Backend: TypeAlias = (
    "tokenizers.Tokenizer | SentencePiece | ScoredPieces | MarkedPieces | JapanesePieces | IsolatedTokenizer"
)

FEW = 10  # tokens, which an error lists


class Tokenizer:
    """The tokenizer of one model.

    backend   a tokenizer of the `tokenizers` package, a sentencepiece model, pieces with scores or marks, or
              one in a worker
    path      the file it came from, for messages
    settings  of the files beside it
    rows      the model's vocabulary size, where it is known: larger ids are refused
    """

    def __init__(
        self, backend: Backend, path: Path, settings: TokenizerSettings | None = None, rows: int | None = None
    ) -> None:
        added = backend.get_added_tokens_decoder()
        # tokenizers 0.23 renames a token that is searched for in the normalised text: "▁<s>".
        self._renamed = {
            id: token.content for id, token in added.items() if backend.id_to_token(id) != token.content
        }
        self.backend = backend
        self.path = path
        self.rows = rows
        self.settings = settings or TokenizerSettings()
        self.special_ids = frozenset(id for id, token in added.items() if token.special)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Cut a text into tokens.

        text                any text; the text of a special token (`<|endoftext|>`) within it means the token
        add_special_tokens  add the tokens that begin and end a text, where the tokenizer's files say so

        Returns the token ids.
        Raises InputError where it is no str, not valid Unicode, or has a character without a token;
        TokenizerError where the tokenizer is damaged, or an id is beyond the model's vocabulary.
        """
        if not isinstance(text, str):
            raise InputError(f"A text must be a str; found {type(text).__name__}: {shown(text)}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"The text is not valid Unicode: position {error.start} is {text[error.start]!r}, half of a "
                "surrogate pair. It was read in a wrong encoding; read it as UTF-8."
            ) from None
        with package_faults(self.path):
            try:
                ids = self.backend.encode(text, add_special_tokens=add_special_tokens).ids
            except Exception as error:
                if not is_unknown(error):
                    raise
                raise self._no_token(text) from error
        if self.rows is not None and max(ids, default=0) >= self.rows:
            id = next(id for id in ids if id >= self.rows)
            raise TokenizerError(
                f"{self.path}: the token {shown(self.token(id))} has the id {id}, but the model knows only "
                f"{self.rows} tokens.\nThe tokenizer is of another model, or was extended without it: leave "
                "that token out, or download both again."
            )
        return ids

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Join tokens to text; invalid UTF-8 becomes U+FFFD.

        ids                  token ids; those beyond the vocabulary give no text
        skip_special_tokens  leave out `<|endoftext|>` and its like

        Returns the text.
        Raises InputError for what is no id.
        """
        numbers = _ids(ids)
        if numbers and not 0 <= min(numbers) <= max(numbers) < 2**32:
            raise InputError("A token id is negative or too large; ids count from 0.")
        with package_faults(self.path):
            if not isinstance(self.backend, tokenizers.Tokenizer) or self._renamed.keys().isdisjoint(numbers):
                return self.backend.decode(numbers, skip_special_tokens=skip_special_tokens)
            left_out = self.special_ids if skip_special_tokens else ()
            tokens = [token for id in numbers if id not in left_out and (token := self.token(id))]
            decoder = self.backend.decoder
            return " ".join(tokens) if decoder is None else decoder.decode(tokens)

    def token(self, id: int) -> str:
        """Return the token of an id in the vocabulary's own spelling (`Ġthe`, `▁the`, `<0x0A>`).

        Returns the empty string where there is none: many models have a few more rows than tokens.
        """
        (number,) = _ids([id])
        if not 0 <= number < 2**32:
            return ""
        return self._renamed.get(number) or self.backend.id_to_token(number) or ""

    def _no_token(self, text: str) -> InputError:
        """Return the error for a text with a character that no token stands for."""
        for letter in dict.fromkeys(text):
            try:
                self.backend.encode(letter)
            except Exception:
                found = repr(letter)
                break
        else:
            found = "a part of this text"
        problem = f"This model's tokenizer has no token for {found}, and none for unknown characters."
        if self.vocab_size <= FEW:
            problem += f" Its tokens are {', '.join(map(self.token, range(self.vocab_size)))}."
        return InputError(problem)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, special ones included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @property
    def begin_id(self) -> int | None:
        """The id of bos_token, which begins a text, or None where the files name none."""
        name = self.settings.special_tokens.get("bos_token")
        return None if name is None else self.backend.token_to_id(name)

    @property
    def end_id(self) -> int | None:
        """The id of eos_token, which ends a text, or None where the files name none."""
        name = self.settings.special_tokens.get("eos_token")
        return None if name is None else self.backend.token_to_id(name)

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The model's chat template, or None; raises TokenizerError where its file is damaged."""
        return load_chat_template(self.path, self.settings)

    def __repr__(self) -> str:
        try:
            template = "no chat template" if self.chat_template is None else "a chat template"
        except TokenizerError:
            template = "a damaged chat template"
        counts = f"{self.vocab_size} tokens, {len(self.special_ids)} of them special"
        return f"{type(self).__name__}({one_line(self.path.name)}: {counts}, {template})"


def _ids(ids: Iterable[SupportsIndex]) -> list[int]:
    """Convert token ids to Python's ints; raises InputError for anything else."""
    try:
        given = list(ids)
        if not any(isinstance(id, bool) for id in given):  # to Python True is 1
            return [index(id) for id in given]
    except TypeError:
        pass
    raise InputError(f"Token ids must be a list of whole numbers; found {shown(ids)}")
