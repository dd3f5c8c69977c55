"""UTF-8 put together byte by byte."""

UNKNOWN = "\ufffd"


class ByteRun:
    """Puts UTF-8 together byte by byte; a byte that belongs to no character becomes U+FFFD."""

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

    def flush(self) -> str:
        """End the run: the beginning of a character without its end is a U+FFFD per byte, as in `decode`."""
        text = UNKNOWN * len(self._waiting)
        self._waiting = b""
        return text
