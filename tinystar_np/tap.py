"""Taps, which give every intermediate activation a name: ``x = tap("attention.scores", x)``.

Without a listener ``tap`` returns its argument: one look-up of a context variable, some 50 ns. With one, the
listener gets the array under its full path, such as ``blocks.3.attention.scores``, and returns the array that
goes on: layers name their own activations, and the model adds the block's name by a scope. docs/taps.md lists
the names; ``tinystar_np.record`` and ``tinystar_np.intervene`` are the usual listeners.

Several may listen at once, each to the paths of its own patterns. They get an array in the order in which
they were opened, each what the one before it returned: a recording inside an intervention sees changed
arrays, one around it sees what was there before.

A clock is told how long the parts of a model take: blocks by their scope, the rest by ``timed``. It is no
listener: with one, all forms and threads run that run without, so that what is timed is the ordinary run.

Listeners and the clock are in context variables, not globals: a thread's get nothing of other threads.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Listener(Protocol):
    """A receiver of taps."""

    def catch(self, path: str, x: NDArray) -> NDArray:
        """Receive ``x`` by its full path; return it, or another array to use in its place."""


class Clock(Protocol):
    """A receiver of times."""

    def add(self, part: str, seconds: float) -> None:
        """Receive how long a part took."""


@dataclass(eq=False)
class Listening:
    """A listener, and what it listens to.

    listener       the receiver
    patterns       shell-style patterns of paths; none for every path
    rereads        whether it also gets the taps of earlier tokens that are read again (``read_again``)
    paths          every path that was offered to it, in order, and whether it wants it
    closed         whether its block has ended
    """

    listener: Listener
    patterns: tuple[str, ...]
    rereads: bool
    paths: dict[str, bool] = field(default_factory=dict)
    closed: bool = False

    def wants(self, path: str) -> bool:
        """Say whether a pattern matches."""
        if self.closed:
            return False
        if path not in self.paths:
            matches = any(fnmatchcase(path, pattern) for pattern in self.patterns)
            self.paths[path] = matches or not self.patterns
        return self.paths[path]


@dataclass(frozen=True)
class Place:
    """Where the tokens of a model's call stand.

    positions  (B, T) the position of each token in its text
    rows       (B,) the number of each row's text, among the texts that are generated together

    A tap with fewer tokens than T has the last ones.
    """

    positions: NDArray[np.int64]
    rows: NDArray[np.int64]


_listeners: ContextVar[tuple[Listening, ...]] = ContextVar("tinystar_np_listeners", default=())
_prefix: ContextVar[str] = ContextVar("tinystar_np_prefix", default="")
_place: ContextVar[Place | None] = ContextVar("tinystar_np_place", default=None)
_rows: ContextVar[Sequence[int] | None] = ContextVar("tinystar_np_rows", default=None)
_clock: ContextVar[Clock | None] = ContextVar("tinystar_np_clock", default=None)
_SILENCE = nullcontext()


def tap(name: str, x: NDArray) -> NDArray:
    """Name an intermediate: returns ``x``, or what the listeners make of it if there are any."""
    listeners = _listeners.get()
    if not listeners:
        return x
    path = _prefix.get() + name
    for each in listeners:
        if each.wants(path):
            x = each.listener.catch(path, x)
    return x


def scope(name: str) -> AbstractContextManager[None]:
    """Prefix the names tapped within, and time it as a part: ``with scope("blocks.3"): ...``."""
    return _named(name) if _listeners.get() else timed(name)


def timed(part: str) -> AbstractContextManager[None]:
    """Time the ``with`` block for the clock of this thread (or task), if there is one."""
    clock = _clock.get()
    return _SILENCE if clock is None else _timed(clock, part)


def timing(clock: Clock) -> AbstractContextManager[None]:
    """Let ``clock``, and no other, receive the times of all parts inside the ``with`` block."""
    return _set(_clock, clock)


def listening(*names: str) -> bool:
    """Say whether somebody listens to one of these names in the current scope; without names, to anything.

    A fast form that never builds a tapped array must not run where somebody listens to that.
    """
    listeners = _listeners.get()
    if not listeners or not names:
        return bool(listeners)
    paths = [_prefix.get() + name for name in names]
    return any(each.wants(path) for each in listeners for path in paths)


@contextmanager
def listen(listener: Listener, *patterns: str, rereads: bool = False) -> Iterator[Listening]:
    """Let ``listener`` receive taps of this thread (or task) inside the ``with`` block.

    patterns  of paths, shell-style; none for every tap
    rereads   whether also those of earlier tokens that are read again, see ``read_again``
    """
    opened = Listening(listener, patterns, rereads)
    _listeners.set((*_still_open(), opened))
    try:
        yield opened
    finally:
        # What there was before is not put back: generators that hold such blocks may be closed in any order,
        # and in another thread, whose variable is another.
        opened.closed = True
        _listeners.set(_still_open())


def _still_open() -> tuple[Listening, ...]:
    return tuple(each for each in _listeners.get() if not each.closed)


def unheard() -> AbstractContextManager[None]:
    """Let no listener receive taps inside the ``with`` block."""
    return _set(_listeners, ())


def read_again() -> AbstractContextManager[None]:
    """Let only those listen inside the ``with`` block who also want tokens that are read again.

    So do interventions, which hold for a token however often it is read; a recording keeps the new tokens.
    """
    return _set(_listeners, tuple(each for each in _listeners.get() if each.rereads))


def recording() -> bool:
    """Say whether somebody listens who would not hear what is read again."""
    return any(not each.rereads for each in _listeners.get() if not each.closed)


def place() -> Place | None:
    """Return where the tokens of the current call stand; None where a layer is called by itself."""
    return _place.get()


def at(positions: NDArray[np.int64]) -> AbstractContextManager[None]:
    """Say for the ``with`` block at which positions (B, T) the tokens of a call stand."""
    if not _listeners.get():
        return _SILENCE
    return _set(_place, Place(positions, row_numbers(len(positions))))


def numbered(rows: Sequence[int]) -> AbstractContextManager[None]:
    """Say for the ``with`` block which texts the rows of a batch are, where some texts are not in it."""
    return _set(_rows, rows) if _listeners.get() else _SILENCE


def row_numbers(batch_size: int) -> NDArray[np.int64]:
    """Return which text each row of a batch is, (B,): as ``numbered`` says, or counted from 0."""
    rows = _rows.get()
    return np.arange(batch_size) if rows is None else np.asarray(rows, dtype=np.int64)


@contextmanager
def _named(name: str) -> Iterator[None]:
    with _set(_prefix, f"{_prefix.get()}{name}."), timed(name):
        yield


@contextmanager
def _timed(clock: Clock, part: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        clock.add(part, time.perf_counter() - start)


@contextmanager
def _set(variable: ContextVar, value: object) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
