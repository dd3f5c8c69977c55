"""A tokenizer that runs in a worker: what a file does to the library that reads it stays there.

Each call goes to the worker and back, which takes about 0.1 ms. One that takes too long ends in an error, and
the next loads the tokenizer anew.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.text.sentencepiece import Encoding
from tinystar_np.text.worker import Worker, WorkerError

PACKAGES = ("tinystar_np", "numpy", "tokenizers", "sentencepiece")
MEMORY = 2_000_000_000  # bytes; the largest real tokenizers take 0.5 GB

# Seconds that loading and a call may take, each with so many bytes or characters more per second.
SECONDS = 5.0
LOADED, ENCODED = 20_000_000, 50_000
# Bytes of an answer: such a number, and so many for each character or id of the question. An id has up to 8.
SHORTEST, GROWTH = 1_000_000, 100


class IsolatedTokenizer:
    """A tokenizer in a worker, with the methods of the `tokenizers` package that ``Tokenizer`` uses.

    source  what isolated_process.py loads it from: plain data
    path    the tokenizer's file
    size    the bytes that are read

    Raises TokenizerError where the file is damaged, or takes too long or too much memory to load.
    """

    def __init__(self, source: Mapping[str, Any], path: Path, size: int) -> None:
        self._path = path
        self._worker = Worker(
            Path(__file__).with_name("isolated_process.py"),
            PACKAGES,
            MEMORY,
            first=dict(source),
            seconds=SECONDS + size / LOADED,
        )
        try:
            loaded = self._checked(self._worker.start())
        except WorkerError as error:
            raise self._stopped("To load it failed", error) from error
        self.special_tokens: dict[str, str] = loaded["special_tokens"]
        self._size: int = loaded["size"]
        self._added = {id: AddedToken(text, special=special) for id, text, special in loaded["added"]}
        known = {token.content: id for id, token in self._added.items()}
        self._ids: dict[str, int | None] = known | loaded["ids"]
        self._tokens: dict[int, str | None] = {id: token.content for id, token in self._added.items()}

    def encode(self, text: str, add_special_tokens: bool = True) -> Encoding:
        """Cut a text into tokens."""
        return Encoding(self._ask("encode", text, add_special_tokens))

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Join tokens to text."""
        return str(self._ask("decode", ids, skip_special_tokens))

    def id_to_token(self, id: int) -> str | None:
        """Return the token of an id, or None."""
        if id not in self._tokens:
            self._tokens[id] = self._ask("token", id) or None
        return self._tokens[id]

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a token, or None."""
        if token not in self._ids:
            self._ids[token] = self._ask("id", token)
        return self._ids[token]

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        """Count the tokens."""
        return self._size

    def get_added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Return the tokens that are found in a text before it is cut."""
        return self._added

    def _ask(self, what: str, *given: Any) -> Any:
        size = len(given[0]) if isinstance(given[0], str | list) else 1
        try:
            return self._checked(
                self._worker.ask((what, *given), SECONDS + size / ENCODED, SHORTEST + GROWTH * size)
            )
        except WorkerError as error:
            raise self._stopped(f"To {what} failed", error) from error

    def _checked(self, answer: Any) -> Any:
        if "error" in answer:
            raise (InputError if answer.get("of_input") else TokenizerError)(answer["error"])
        return answer["result"]

    def _stopped(self, what: str, error: WorkerError) -> TokenizerError:
        return TokenizerError(
            f"{self._path}: this tokenizer runs in a process of its own, with limits. {what}: {error}.\n"
            "Use another model; or, if the text is very long, shorten it."
        )
