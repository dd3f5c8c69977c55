"""Text to token ids and back, from the tokenizer files that lie beside a checkpoint.

A byte-level BPE tokenizer (GPT-2, Radford et al. 2019; Llama 3, Falcon, Granite) writes a text as UTF-8
bytes and joins frequent neighbours, so that any text at all can be written with its vocabulary. A
sentencepiece one (Llama 1 and 2) joins characters, the space being one of them, and writes as bytes what it
has no piece for. With a `tokenizer.json` either is run by the `tokenizers` package. This module finds the
files, decides what begins and ends a text, and turns what can go wrong into sentences.
"""

from collections.abc import Callable, Iterable
from functools import cached_property
from operator import index
from pathlib import Path
from typing import Any, TypeVar

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import download_again, one_line, read_json_object, shown
from tinystar_np.errors import CheckpointError, InputError, TokenizerError
from tinystar_np.text.chat_template import ChatTemplate, load_chat_template
from tinystar_np.text.sentencepiece import SentencePiece
from tinystar_np.text.sentencepiece_file import read_sentencepiece
from tinystar_np.text.tokenizer_check import problem_before_loading, problem_of
from tinystar_np.text.tokenizer_settings import TokenizerSettings, read_settings

END_OF_TEXT = "<|endoftext|>"
SIZE_LIMIT = 64_000_000  # bytes of a file; the largest of real models have 35 MB

Backend = tokenizers.Tokenizer | SentencePiece
T = TypeVar("T")


class Tokenizer:
    """Strings to token ids and back, for one model.

    backend   a tokenizer of the `tokenizers` package, or a sentencepiece model
    path      the file it came from, for messages
    settings  what the files beside it say
    rows      how many tokens the model knows, where that is known: ids beyond are refused
    """

    def __init__(
        self,
        backend: Backend,
        path: Path,
        settings: TokenizerSettings | None = None,
        rows: int | None = None,
    ) -> None:
        added = backend.get_added_tokens_decoder()
        self._backend = backend
        self.path = path
        self.rows = rows
        self.settings = settings or TokenizerSettings()
        self.special_ids = frozenset(id for id, token in added.items() if token.special)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Cut a text into tokens.

        text                any text; the text of a special token (`<|endoftext|>`) within it means the token
        add_special_tokens  put what begins and ends a text around it, where the tokenizer's files say so

        Returns the token ids.
        Raises InputError where the text is none, or not valid Unicode; TokenizerError where the tokenizer is
        damaged, or has a token for it that the model does not know.
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
        ids = self._run(lambda: self._backend.encode(text, add_special_tokens=add_special_tokens).ids)
        if self.rows is not None and max(ids, default=0) >= self.rows:
            id = next(id for id in ids if id >= self.rows)
            raise TokenizerError(
                f"{self.path}: the token {shown(self.token(id))} has the id {id}, but the model knows only "
                f"{self.rows} tokens.\nThe tokenizer is of another model, or was extended without it: leave "
                "that token out, or download both again."
            )
        return ids

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Join tokens to text; bytes that are no valid UTF-8 become U+FFFD.

        ids                  token ids; those that the vocabulary does not know give no text
        skip_special_tokens  leave out `<|endoftext|>` and its like

        Returns the text.
        Raises InputError for what is no id.
        """
        numbers = _ids(ids)
        if numbers and not 0 <= min(numbers) <= max(numbers) < 2**32:
            raise InputError("A token id is negative or too large; ids count from 0.")
        return self._run(lambda: self._backend.decode(numbers, skip_special_tokens=skip_special_tokens))

    def token(self, id: int) -> str:
        """Give the token of an id in the vocabulary's own spelling (`Ġthe`, `▁the`, `<0x0A>`).

        Returns the empty string where there is none: many models have a few rows more than tokens.
        """
        (number,) = _ids([id])
        return (self._backend.id_to_token(number) or "") if 0 <= number < 2**32 else ""

    @property
    def vocab_size(self) -> int:
        """The number of tokens, special ones included."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def end_id(self) -> int | None:
        """The id of eos_token, which ends a text, or None where the files name none."""
        name = self.settings.special_tokens.get("eos_token")
        return None if name is None else self._backend.token_to_id(name)

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The form of conversations that the model was taught, or None; looking may raise TokenizerError."""
        return load_chat_template(self.path.parent, self.settings)

    def _run(self, step: Callable[[], T]) -> T:
        """Let the backend work, and turn what can go wrong into our error."""
        try:
            return step()
        except BaseException as error:
            if isinstance(error, Exception) or _is_panic(error):
                raise _damaged(self.path, error) from error
            raise


def load_tokenizer(directory: Path) -> Tokenizer | None:
    """Load the tokenizer of a model's directory.

    directory  holds `tokenizer.json`, `tokenizer.model`, or `vocab.json` with `merges.txt` as GPT-2's first
               releases do; and perhaps settings in `tokenizer_config.json`

    Returns None where there are no tokenizer files: a model can be run on ids alone.
    Raises TokenizerError where a file is damaged or missing from its pair.
    """
    directory = Path(directory)
    for name, load in LOADERS.items():
        if (directory / name).exists():
            path = _small_file(directory, name)
            settings = read_settings(directory)
            try:
                return Tokenizer(load(path, settings), path, settings)
            except OverflowError as error:  # an added token's id that the package cannot hold
                raise _damaged(path, error) from error
    return None


def _small_file(directory: Path, name: str) -> Path:
    """Check that a file lies in the directory, and is no larger than such files are."""
    try:
        path = file_inside(directory, name)
    except CheckpointError as error:
        raise TokenizerError(str(error)) from error
    if path.stat().st_size > SIZE_LIMIT:
        raise TokenizerError(
            f"{path}: larger than {SIZE_LIMIT // 1_000_000} MB, which no tokenizer is.\n"
            f"{download_again(path)}"
        )
    return path


def _from_tokenizer_json(path: Path, settings: TokenizerSettings) -> tokenizers.Tokenizer:
    """Load the complete description of a tokenizer that current models ship.

    It says itself what begins and ends a text: `add_bos_token` beside it counts for nothing, nor does it in
    transformers.
    """
    try:
        data = path.read_bytes()
        problem = problem_before_loading(data)
        backend = None if problem else tokenizers.Tokenizer.from_buffer(data)
        problem = problem or problem_of(backend)
    except BaseException as error:  # the package raises bare Exceptions, and others where it fails itself
        if isinstance(error, Exception) or _is_panic(error):
            raise _damaged(path, error) from error
        raise
    if problem or backend is None:
        raise _damaged(path, problem)
    # Some files carry the truncation and padding of a training run. A prompt is neither cut nor padded.
    backend.no_truncation()
    backend.no_padding()
    _add_special_tokens(backend, settings)
    return backend


def _from_sentencepiece(path: Path, settings: TokenizerSettings) -> SentencePiece:
    """Read `tokenizer.model`, the only file of Llama's first releases."""
    model = read_sentencepiece(path)
    begin, end = _ends(settings, model.bos_piece, model.eos_piece)
    ids = {piece: id for id, piece in enumerate(model.pieces)}
    named = {
        ids[name]: tokenizers.AddedToken(name, special=True)
        for name in settings.special_tokens.values()
        if name in ids
    }
    return SentencePiece(model, named | dict(settings.added), begin, end, prefix_again=settings.legacy)


def _from_vocab_and_merges(path: Path, settings: TokenizerSettings) -> tokenizers.Tokenizer:
    """Build GPT-2's byte-level BPE from `vocab.json` and the `merges.txt` beside it."""
    merges = path.with_name("merges.txt")
    if merges.exists():
        _small_file(merges.parent, merges.name)
    else:
        raise TokenizerError(
            f"{path} has no merges.txt beside it; the two belong together.\n"
            "The model is incomplete: download it again."
        )
    try:
        ids = read_json_object(path, SIZE_LIMIT)
    except CheckpointError as error:
        raise TokenizerError(str(error)) from error
    # The package leaves out what it does not understand.
    wrong = next((token for token, id in ids.items() if type(id) is not int or not 0 <= id < 2**32), None)
    if wrong is not None:
        raise _damaged(path, f"the id of {shown(wrong)} is {shown(ids[wrong])}")
    try:
        backend = tokenizers.Tokenizer(models.BPE.from_file(str(path), str(merges)))
    except BaseException as error:
        if isinstance(error, Exception) or _is_panic(error):
            raise _damaged(path, error, merges) from error
        raise
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    # Only where the vocabulary has it: a new token would get an id for which the model has no embedding.
    if backend.token_to_id(END_OF_TEXT) is not None:
        backend.add_special_tokens([tokenizers.AddedToken(END_OF_TEXT, special=True, normalized=False)])
    _add_special_tokens(backend, settings)
    begin, end = _ends(settings, END_OF_TEXT, END_OF_TEXT)
    end_ids = {token: backend.token_to_id(token) for token in (begin, end)}
    backend.post_processor = processors.TemplateProcessing(
        single=[token for token in (begin, "$A", end) if token == "$A" or end_ids[token] is not None],
        special_tokens=[(token, id) for token, id in end_ids.items() if id is not None],
    )
    return backend


def _ends(settings: TokenizerSettings, bos: str, eos: str) -> tuple[str, str]:
    """Say what begins and ends every text, or ""; bos and eos are the names where none are set."""
    names = {"bos_token": bos, "eos_token": eos} | dict(settings.special_tokens)
    return (
        names["bos_token"] if settings.add_bos else "",
        names["eos_token"] if settings.add_eos else "",
    )


def _add_special_tokens(backend: tokenizers.Tokenizer, settings: TokenizerSettings) -> None:
    """Make special what the settings call so and the vocabulary has as ordinary tokens."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    added = [token for token in settings.added.values() if token.content not in known]
    known |= {token.content for token in added}
    named = [name for name in dict.fromkeys(settings.special_tokens.values()) if name not in known]
    tokens = added + [tokenizers.AddedToken(name, special=True) for name in named]
    # A token that the vocabulary has not would get an id for which the model may have no embedding.
    backend.add_tokens([token for token in tokens if backend.token_to_id(token.content) is not None])


# The files that can hold a tokenizer, the most complete first.
LOADERS: dict[str, Callable[[Path, TokenizerSettings], Backend]] = {
    "tokenizer.json": _from_tokenizer_json,
    "tokenizer.model": _from_sentencepiece,
    "vocab.json": _from_vocab_and_merges,
}


def _ids(ids: Any) -> list[int]:
    """Turn token ids into Python's ints, and nothing else into them."""
    try:
        given = list(ids)
        if not any(isinstance(id, bool) for id in given):  # to Python True is 1
            return [index(id) for id in given]
    except TypeError:
        pass
    raise InputError(f"Token ids must be a list of whole numbers; found {shown(ids)}")


def _is_panic(error: BaseException) -> bool:
    """Tell a fault within the `tokenizers` package, which is no Exception, from Ctrl-C."""
    return type(error).__name__ == "PanicException"


def _damaged(path: Path, error: BaseException | str | None, beside: Path | None = None) -> TokenizerError:
    """Say what is wrong with a tokenizer's file, or with it and one that belongs to it."""
    named, again = str(path), download_again(path)
    if beside is not None:
        named, again = f"{named} or {beside.name}", f"{again}\n{download_again(beside)}"
    return TokenizerError(f"{named} cannot be read as a tokenizer: {one_line(str(error))}.\n{again}")
