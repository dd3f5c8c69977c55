"""Text to token ids and back, from the tokenizer files that lie beside a checkpoint.

A byte-level BPE tokenizer (Radford et al. 2019, GPT-2) writes a text as UTF-8 bytes and joins frequent
neighbours, so that any text at all can be written with its vocabulary. The merging itself is done by the
`tokenizers` package; this module finds the files, and turns what can go wrong into sentences.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tinystar_np.errors import InputError, TokenizerError

END_OF_TEXT = "<|endoftext|>"


class Tokenizer:
    """Strings to token ids and back, for one model.

    backend  a tokenizer of the `tokenizers` package
    path     the file it came from, for messages
    """

    def __init__(self, backend: tokenizers.Tokenizer, path: Path) -> None:
        # Some files carry the truncation and padding of a training run. A prompt is neither cut nor padded.
        backend.no_truncation()
        backend.no_padding()
        added = backend.get_added_tokens_decoder()
        self._backend = backend
        self.path = path
        self.special_ids = frozenset(id for id, token in added.items() if token.special)

    def encode(self, text: str) -> list[int]:
        """Cut a text into tokens.

        text  any text; where it holds the text of a special token (`<|endoftext|>`), that token is meant

        Returns the token ids, with a begin-of-text token only where the tokenizer's own files put one.
        Raises InputError where the text is not valid Unicode.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"The text is not valid Unicode: position {error.start} is {text[error.start]!r}, half of a "
                "surrogate pair. It was read in a wrong encoding; read it as UTF-8."
            ) from None
        return self._backend.encode(text).ids

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Join tokens to text; bytes that are no valid UTF-8 become U+FFFD.

        ids                  token ids; those that the vocabulary does not know give no text
        skip_special_tokens  leave out `<|endoftext|>` and its like

        Returns the text.
        Raises InputError for a negative id.
        """
        try:
            return self._backend.decode([int(id) for id in ids], skip_special_tokens=skip_special_tokens)
        except OverflowError:
            raise InputError("A token id is negative or too large; ids count from 0.") from None

    def token(self, id: int) -> str:
        """Give the token of an id in the vocabulary's own spelling (`Ġthe`, `▁the`, `<0x0A>`).

        Returns the empty string where there is none: many models have a few rows more than tokens.
        """
        return self._backend.id_to_token(id) or ""

    @property
    def vocab_size(self) -> int:
        """The number of tokens, special ones included."""
        return self._backend.get_vocab_size(with_added_tokens=True)


def load_tokenizer(directory: Path) -> Tokenizer | None:
    """Load the tokenizer of a model's directory.

    directory  holds `tokenizer.json`, or `vocab.json` with `merges.txt` as GPT-2's first releases do

    Returns None where there are no tokenizer files: a model can be run on ids alone.
    Raises TokenizerError where a file is damaged or missing from its pair.
    """
    directory = Path(directory)
    for name, load in LOADERS.items():
        path = directory / name
        if path.exists():
            return Tokenizer(load(path), path)
    return None


def _from_tokenizer_json(path: Path) -> tokenizers.Tokenizer:
    """Load the complete description of a tokenizer that current models ship."""
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises bare Exceptions
        raise _damaged(path, error) from error


def _from_vocab_and_merges(path: Path) -> tokenizers.Tokenizer:
    """Build GPT-2's byte-level BPE from `vocab.json` and the `merges.txt` beside it."""
    merges = path.with_name("merges.txt")
    if not merges.exists():
        raise TokenizerError(
            f"{path} has no merges.txt beside it; the two belong together. Download the model again."
        )
    try:
        backend = tokenizers.Tokenizer(models.BPE.from_file(str(path), str(merges)))
    except Exception as error:
        raise _damaged(f"{path} or {merges.name}", error) from error
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    # Only where the vocabulary has it: a new token would get an id for which the model has no embedding.
    if backend.token_to_id(END_OF_TEXT) is not None:
        backend.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return backend


# The files that can hold a tokenizer, the most complete first.
LOADERS: dict[str, Callable[[Path], tokenizers.Tokenizer]] = {
    "tokenizer.json": _from_tokenizer_json,
    "vocab.json": _from_vocab_and_merges,
}


def _damaged(path: Path | str, error: Exception) -> TokenizerError:
    return TokenizerError(f"{path} cannot be read as a tokenizer: {error}. Download the model again.")
