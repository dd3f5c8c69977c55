"""Metrics: what the server has done, in the text form of Prometheus."""

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tinystar_np.serving.served import Served

Labels = tuple[tuple[str, str], ...]
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the histograms' buckets."""
MEDIA_TYPE = "text/plain; version=0.0.4"

STATISTICS = (
    # name, kind, field of Statistics, words
    ("requests_waiting", "gauge", "waiting", "Texts of which nothing is read yet."),
    ("requests_reading", "gauge", "reading", "Texts whose prompts are being read."),
    ("requests_generating", "gauge", "generating", "Texts that are being generated."),
    ("engine_steps_total", "counter", "steps", "Calls of the model."),
    ("preemptions_total", "counter", "preempted", "Texts that lost their place, and were read again."),
    ("prompt_tokens_total", "counter", "prompt_tokens", "Tokens of prompts."),
    ("cached_tokens_total", "counter", "cached_tokens", "Those of them that were in the cache already."),
    ("generated_tokens_total", "counter", "generated_tokens", "New tokens."),
    ("cache_blocks", "gauge", "blocks", "Blocks of the cache."),
    ("cache_blocks_in_use", "gauge", "blocks_in_use", "Blocks that hold running texts."),
    ("cache_blocks_kept", "gauge", "blocks_kept", "Blocks that hold earlier texts."),
)


class Histogram:
    """Counts of durations by buckets, for each set of labels.

    name   of the metric
    words  what it measures
    """

    def __init__(self, name: str, words: str) -> None:
        self.name, self.words = name, words
        self._counts: dict[Labels, list[int]] = {}
        self._sums: defaultdict[Labels, float] = defaultdict(float)

    def add(self, labels: Labels, seconds: float) -> None:
        """Count a duration."""
        counts = self._counts.setdefault(labels, [0] * (len(SECONDS) + 1))
        counts[bisect_left(SECONDS, seconds)] += 1
        self._sums[labels] += seconds

    def lines(self) -> Iterator[str]:
        """Yield the lines of Prometheus' text form."""
        yield from _head(self.name, "histogram", self.words)
        for labels, counts in sorted(self._counts.items()):
            total = 0
            for border, count in zip([*map(str, SECONDS), "+Inf"], counts, strict=True):
                total += count
                yield f"{self.name}_bucket{_spelled((*labels, ('le', border)))} {total}"
            yield f"{self.name}_sum{_spelled(labels)} {self._sums[labels]}"
            yield f"{self.name}_count{_spelled(labels)} {total}"


class Metrics:
    """What the server has done since it began; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[Labels] = Counter()
        self._durations = Histogram("tinystar_request_seconds", "From a request to the end of its answer.")
        self._first = Histogram("tinystar_time_to_first_token_seconds", "From a request to the first token.")
        self._next = Histogram("tinystar_time_per_output_token_seconds", "Between two tokens of a text.")

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request that has been answered."""
        with self._lock:
            self._requests[(("endpoint", endpoint), ("status", str(status)))] += 1
            self._durations.add((("endpoint", endpoint),), seconds)

    def first_token(self, model: str, seconds: float) -> None:
        """Count a first token."""
        with self._lock:
            self._first.add((("model", model),), seconds)

    def next_token(self, model: str, seconds: float) -> None:
        """Count a further token."""
        with self._lock:
            self._next.add((("model", model),), seconds)

    def written(self, models: Iterable[tuple[str, Served]]) -> str:
        """Return all metrics as text, with the statistics of the engines.

        models  each with the name under which it is listed
        """
        lines: list[str] = []
        with self._lock:
            lines += _counter("tinystar_requests_total", "Requests that were answered.", self._requests)
            for histogram in (self._durations, self._first, self._next):
                lines += histogram.lines()
        said = [(name, served.engine.statistics()) for name, served in models]
        for name, kind, field, words in STATISTICS:
            lines += _head(f"tinystar_{name}", kind, words)
            for model, statistics in said:
                value = getattr(statistics, field)
                lines.append(f"tinystar_{name}{_spelled((('model', model),))} {value}")
        finished: dict[Labels, int] = {
            (("model", model), ("reason", reason)): count
            for model, statistics in said
            for reason, count in statistics.finished.items()
        }
        lines += _counter("tinystar_texts_total", "Texts that have ended, by why.", finished)
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, words: str) -> Sequence[str]:
    return f"# HELP {name} {words}", f"# TYPE {name} {kind}"


def _counter(name: str, words: str, counts: Mapping[Labels, int]) -> Iterator[str]:
    yield from _head(name, "counter", words)
    for labels, count in sorted(counts.items()):
        yield f"{name}{_spelled(labels)} {count}"


def _spelled(labels: Labels) -> str:
    """Write labels, with the characters escaped that would end them."""
    escaped = [
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in labels
    ]
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
