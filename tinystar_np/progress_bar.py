"""A bar on the terminal for what takes long while a model is opened."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FEW = 20_000_000  # weights or bytes, less than 0.2 s
SECONDS_BEFORE = 0.5


@contextmanager
def bar(total: int, words: str, unit: str) -> Iterator[Callable[[int], object]]:
    """Show a bar on stderr while a block runs, as downloads do: on a terminal, and not at once.

    total  of what is done, in ``unit``

    Gives a function to call with each number that is done.
    """
    if total < FEW or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda done: None
        return
    from tqdm import tqdm  # type: ignore[import-untyped]  # it takes as long as rounding a small model

    with tqdm(
        total=total, desc=words, unit=unit, unit_scale=True, delay=SECONDS_BEFORE, leave=False
    ) as shown:
        yield shown.update
