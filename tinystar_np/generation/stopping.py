"""Stop strings in text that comes piece by piece."""


class StopFilter:
    """Passes text on until a stop string occurs, and nothing of the stop string.

    A stop string may begin in one piece and end in a later one. So the end of the text is kept back as long
    as it is the beginning of a stop string; nothing else is.

    stops  the stop strings, none of them empty
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._kept = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Take more text and return what can be passed on; ``stopped`` tells whether a stop string came."""
        text = self._kept + text
        found = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if found:
            # The one that ends first, as if characters came one by one: token borders must not decide.
            _, start = min(found)
            self._kept, self.stopped = "", True
            return text[:start]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._kept = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """End the text and return what was kept back."""
        text, self._kept = self._kept, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of the text begin the stop string without being all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
