"""Streaming detokenisation: text as the tokens come, in whole characters.

A token is a piece of bytes, not of text: an emoji is four bytes and may be spread over four tokens. Decoded
one by one they are four times U+FFFD, the replacement character. And a token's text depends on its place:
`▁the` is "the" at the beginning of a text and " the" within it.

So each token is decoded together with the tokens whose characters are not yet complete, after one token of
context, so that it is not at the beginning. At most three U+FFFD at the end are kept back, since an
incomplete character has at most three bytes; everything before them is final. Where the text ends in a
complete character the window is emptied, and the cost of a token does not depend on how many came before.

Sentencepiece vocabularies have tokens for single bytes (`<0xF0>`), which are decoded separately: the
`tokenizers` package decodes a run of them as a whole, and if any byte is invalid replaces all of them by
U+FFFD, valid characters too. A stream has printed those by then, and keeps them: only here its text differs
from `decode`'s.
"""

import re
from collections.abc import Sequence

from tinystar_np.errors import InputError
from tinystar_np.text.byte_run import UNKNOWN, ByteRun
from tinystar_np.text.tokenizer import Tokenizer

HOLD = 3  # the most bytes, and so U+FFFD, of an incomplete character
WINDOW = 16  # the most tokens of a run of invalid bytes before its beginning is dropped
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TextStream:
    """A detokeniser for one id at a time; all its pieces together are `tokenizer.decode` of all ids.

    tokenizer  the tokenizer of the ids
    after      ids of the text that the stream continues, if any: they decide whether a first space is kept
    """

    def __init__(self, tokenizer: Tokenizer, after: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._bytes = ByteRun()
        self._window: list[int] = []  # the tokens since the last complete character
        self._given = 0  # how many characters of the window's text have been returned
        self._set_context(self._context_after(after) if tokenizer.decode(after) else [])

    def push(self, token_id: int) -> str:
        """Take one more token and return the text that is now final; it may be empty."""
        token = self._tokenizer.token(token_id)
        if not token or token_id in self._tokenizer.special_ids:
            return ""  # decoding leaves it out, so that the window holds only tokens with a text
        byte = self._byte(token_id)
        if byte is not None:
            return self._end_window() + self._bytes.push(byte)
        return self._bytes.flush() + self._push_to_window(token_id)

    @property
    def unfinished(self) -> str:
        """The text that is kept back, as ``flush`` would return it: mostly none."""
        return self._bytes.unfinished + self._window_text()[self._given :]

    def flush(self) -> str:
        """End the text: return what is still kept back, incomplete characters as U+FFFD."""
        return self._bytes.flush() + self._end_window()

    def _push_to_window(self, token_id: int) -> str:
        self._window.append(token_id)
        text = self._window_text()
        tail = text[-HOLD:]
        held = len(tail) - len(tail.rstrip(UNKNOWN))
        final = max(self._given, len(text) - held)
        piece = text[self._given : final]
        self._given = final
        if text and not held:
            self._end_window()
        elif len(self._window) > WINDOW:
            # Only the last bytes can still become a character, and half a window holds more than these.
            self._window = self._window[-WINDOW // 2 :]
            self._given = len(self._window_text()) - held
        return piece

    def _window_text(self) -> str:
        return self._tokenizer.decode(self._context + self._window)[self._context_length :]

    def _end_window(self) -> str:
        """Empty the window, set the context of the next one, and return what was still kept back."""
        piece = self._window_text()[self._given :]
        if self._window or not self._context:
            self._set_context(self._context_after(self._context + self._window))
        self._window, self._given = [], 0
        return piece

    def _set_context(self, ids: list[int]) -> None:
        self._context = ids
        self._context_length = len(self._tokenizer.decode(ids))

    def _context_after(self, ids: Sequence[int]) -> list[int]:
        """Return one token as context for what follows a text: its last complete one, or else a word."""
        return self._last_complete(ids) or self._last_complete(self._a_word())

    def _last_complete(self, ids: Sequence[int]) -> list[int]:
        for id in reversed(ids):
            text = self._tokenizer.decode([id])  # a context's text must be complete by itself
            if text and not text.endswith(UNKNOWN) and self._byte(id) is None:
                return [id]
        return []

    def _a_word(self) -> list[int]:
        try:
            return self._tokenizer.encode("a")
        except InputError:  # a vocabulary of a few letters, without that one
            return []

    def _byte(self, token_id: int) -> int | None:
        """Return the byte of a byte token; None for every other token."""
        token = self._tokenizer.token(token_id)
        match = BYTE_TOKEN.fullmatch(token)
        # In a vocabulary without byte tokens `<0x41>` is six letters like any others.
        return int(match[1], 16) if match and self._tokenizer.decode([token_id]) != token else None
