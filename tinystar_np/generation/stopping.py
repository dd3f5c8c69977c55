"""Stop strings in a stream of text."""

from itertools import compress


class StopFilter:
    """A filter that passes text on up to a stop string.

    A stop string may begin in one piece and end in a later one. So the end of the text is kept back as long
    as it is the beginning of a stop string. Stop strings are searched for in hidden text too, that of special
    tokens such as `<|im_end|>`, which is never passed on.

    stops  the stop strings, none of them empty
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._kept = ""
        self._visible: list[bool] = []  # which characters of the kept text may be passed on
        self.stopped = False

    def push(self, text: str, hidden: bool = False) -> str:
        """Take more text and return what can be passed on; ``stopped`` is set by a stop string."""
        if self.stopped:
            return ""
        self._kept += text
        self._visible += [not hidden] * len(text)
        found = [(start + len(stop), start) for stop in self._stops if (start := self._kept.find(stop)) >= 0]
        if found:
            # The one that ends first, as if characters came one by one, whatever the tokens are.
            _, start = min(found)
            self.stopped = True
            return self._pass_on(start)
        keep = max((_overlap(self._kept, stop) for stop in self._stops), default=0)
        return self._pass_on(len(self._kept) - keep)

    def would_stop(self, text: str) -> bool:
        """Say whether a stop string would be completed by this text."""
        return any(stop in self._kept + text for stop in self._stops)

    def flush(self) -> str:
        """End the text and return what was kept back."""
        return "" if self.stopped else self._pass_on(len(self._kept))

    def _pass_on(self, count: int) -> str:
        """Remove so many characters from the beginning of the kept text, and return the visible ones."""
        text = "".join(compress(self._kept[:count], self._visible))
        self._kept, self._visible = self._kept[count:], self._visible[count:]
        return text


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of the text that is a proper beginning of the stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
