"""Tokens in answers: the text and the bytes of each, and where in the whole text it begins."""

import threading
from collections.abc import Sequence
from functools import cached_property

from tinystar_np.seeing.shown_tokens import text_alone
from tinystar_np.seeing.tokens import TokenizerView
from tinystar_np.text import TextStream, Tokenizer


class TokenTexts:
    """The tokens of one tokenizer, each as a text of its own."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()

    @cached_property
    def _view(self) -> TokenizerView:
        return TokenizerView(self._tokenizer)  # reads the vocabulary: only when somebody asks for tokens

    def bytes_of(self, id: int) -> bytes:
        """Return the bytes that a token stands for."""
        with self._lock:
            view = self._view
        found = view.tokens([id])[0].bytes
        return text_alone(self._tokenizer, id).encode() if found is None else found

    def text_of(self, id: int) -> str:
        """Return the text of a token; bytes that are no whole character are spelled as OpenAI does."""
        data = self.bytes_of(id)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def offsets(self, text: str = "", after: Sequence[int] = ()) -> "Offsets":
        """Return a counter of characters; its arguments are those of ``Offsets``."""
        return Offsets(self._tokenizer, text, after)


class Offsets:
    """Where in a text each token begins, in characters.

    tokenizer  of the text
    text       the text, where it is known: a special token counts if it is spelled out there
    after      the ids before the text
    """

    def __init__(self, tokenizer: Tokenizer, text: str = "", after: Sequence[int] = ()) -> None:
        self._tokenizer, self._text = tokenizer, text
        self._stream = TextStream(tokenizer, after)
        self._count = 0

    def of(self, id: int) -> int:
        """Take one more token, and return where it begins."""
        start = self._count
        if id in self._tokenizer.special_ids:
            start += len(self._stream.flush())
            spelled = self._tokenizer.token(id)
            self._count = start + (len(spelled) if self._text.startswith(spelled, start) else 0)
        else:
            self._count += len(self._stream.push(id))
        return start
