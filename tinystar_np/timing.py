"""Timing the parts of a model: ``with timed("output"): ...`` tells a clock how long the part took.

Blocks are timed by their scope (tap.py). Without a clock it costs one look-up of a context variable, as a tap
does without a listener. A clock is no listener: with one, all forms and threads run that run without, so that
what is timed is the ordinary run.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol


class Clock(Protocol):
    """A receiver of times."""

    def add(self, part: str, seconds: float) -> None:
        """Receive how long a part took."""


_clock: ContextVar[Clock | None] = ContextVar("tinystar_np_clock", default=None)
_SILENCE = nullcontext()


def timed(part: str) -> AbstractContextManager[None]:
    """Time the ``with`` block for the clock of this thread (or task), if there is one."""
    clock = _clock.get()
    return _SILENCE if clock is None else _timed(clock, part)


@contextmanager
def _timed(clock: Clock, part: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        clock.add(part, time.perf_counter() - start)


@contextmanager
def timing(clock: Clock) -> Iterator[None]:
    """Let ``clock`` receive the times of all parts inside the ``with`` block, and no other clock."""
    token = _clock.set(clock)
    try:
        yield
    finally:
        _clock.reset(token)
