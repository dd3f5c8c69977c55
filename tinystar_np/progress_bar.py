"""A progress bar on the terminal for long work: loading a model, reading images."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FEW = 20_000_000  # weights or bytes, less than 0.2 s
SECONDS_BEFORE = 0.5
SECONDS_BETWEEN = 0.1  # two drawings of it


@contextmanager
def bar(total: int, words: str, unit: str) -> Iterator[Callable[[int], object]]:
    """Show a bar on stderr while a block runs: on a terminal, and only after a while.

    total  the amount of work, in ``unit``
    unit   "B", " weights", …; "" for work that the words say enough of

    Gives a function to call with each amount that is done.
    """
    if (unit and total < FEW) or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda done: None
        return
    # Imported late: it takes as long as rounding a small model.
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    size = decimal(total) if unit == "B" else f"{total / 1e6:,.0f} million{unit}" if unit else ""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    # No thread of its own, which would take a core: it draws when work was done.
    progress = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
    task = progress.add_task(f"{words}: {size}" if size else words, total=total)
    due = time.perf_counter() + SECONDS_BEFORE

    def advance(done: int) -> None:
        nonlocal due
        progress.advance(task, done)
        if time.perf_counter() >= due:
            progress.start()
            progress.refresh()
            due = time.perf_counter() + SECONDS_BETWEEN

    try:
        yield advance
    finally:
        progress.stop()
