"""Bytes to text, one byte at a time: UTF-8 as it comes out of a model that writes bytes."""

UNKNOWN = "\ufffd"


class ByteRun:
    """A UTF-8 decoder for one byte at a time; a byte that belongs to no character becomes U+FFFD."""

    def __init__(self) -> None:
        self._waiting = b""  # the beginning of a character, at most three bytes

    def push(self, byte: int) -> str:
        """Take one more byte and return the text that is now final."""
        self._waiting += bytes([byte])
        text = ""
        while self._waiting:
            try:
                text += self._waiting.decode()
                self._waiting = b""
            except UnicodeDecodeError as error:
                if error.reason == "unexpected end of data":
                    break
                text += UNKNOWN
                self._waiting = self._waiting[1:]
        return text

    @property
    def unfinished(self) -> str:
        """An incomplete character: a U+FFFD per byte, as in `decode`."""
        return UNKNOWN * len(self._waiting)

    def flush(self) -> str:
        """End the run and return what is incomplete."""
        text, self._waiting = self.unfinished, b""
        return text
