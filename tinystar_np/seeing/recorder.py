"""The recorder: activations by name.

with ts.record("blocks.*.attention.probabilities") as caught:
    model(ids)
caught["blocks.3.attention.probabilities"]  # (B, H, T, S)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase

from numpy.typing import NDArray

from tinystar_np.tap import listen


class Recording(Mapping[str, NDArray]):
    """The recorded arrays by full path, in the order of the computation.

    Arrays are copies and keep the batch axis. Where a path is computed again, in a second call, the later
    array replaces the earlier one.
    """

    def __init__(self, patterns: tuple[str, ...]):
        self._patterns = patterns
        self._arrays: dict[str, NDArray] = {}
        self._prefix = ""

    def catch(self, name: str, x: NDArray) -> NDArray:
        """Keep a copy of ``x`` if its path matches a pattern."""
        path = self._prefix + name
        if not self._patterns or any(fnmatchcase(path, pattern) for pattern in self._patterns):
            self._arrays[path] = x.copy()  # layers may write into it later
        return x

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefix the names of the arrays recorded inside."""
        outer = self._prefix
        self._prefix = f"{outer}{name}."
        try:
            yield
        finally:
            self._prefix = outer

    def __getitem__(self, path: str) -> NDArray:
        return self._arrays[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


@contextmanager
def record(*patterns: str) -> Iterator[Recording]:
    """Record every tap inside the ``with`` block, or those whose path matches one of the patterns.

    patterns  shell-style, such as "blocks.*.residual"; docs/taps.md lists the names

    While a recording is on, attention runs in its plain form, which builds all scores: T·S numbers per head.
    """
    recording = Recording(patterns)
    with listen(recording):
        yield recording
