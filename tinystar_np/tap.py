"""Taps, which give every intermediate activation a name: ``x = tap("attention.scores", x)``.

Without a listener ``tap`` returns its argument: one look-up of a context variable, some 50 ns. With one, the
listener gets the array under its full path, such as ``blocks.3.attention.scores``: layers name their own
activations, and the model adds the block's name by a scope. docs/taps.md lists the names;
``tinystar_np.record`` is the usual listener.

The listener is in a context variable, not a global: a thread's listener gets no taps of other threads.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

from numpy.typing import NDArray


class Listener(Protocol):
    """A receiver of taps."""

    def catch(self, name: str, x: NDArray) -> NDArray:
        """Receive ``x`` by its name in the current scope; return it, or another array to use in its place."""

    def scope(self, name: str) -> AbstractContextManager[None]:
        """Return a context in which every name is prefixed by ``name`` and a dot."""


_listener: ContextVar[Listener | None] = ContextVar("tinystar_np_listener", default=None)
_SILENCE = nullcontext()


def tap(name: str, x: NDArray) -> NDArray:
    """Name an intermediate: returns ``x``, after showing it to the listener if there is one."""
    listener = _listener.get()
    return x if listener is None else listener.catch(name, x)


def scope(name: str) -> AbstractContextManager[None]:
    """Prefix the names tapped within: ``with scope("blocks.3"): ...``."""
    listener = _listener.get()
    return _SILENCE if listener is None else listener.scope(name)


def listening() -> bool:
    """Say whether there is a listener: then a fast form that never builds a tapped array must not run."""
    return _listener.get() is not None


@contextmanager
def unheard() -> Iterator[None]:
    """Let no listener receive taps inside the ``with`` block."""
    token = _listener.set(None)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def listen(listener: Listener) -> Iterator[Listener]:
    """Let ``listener`` receive every tap of this thread (or task) inside the ``with`` block."""
    token = _listener.set(listener)
    try:
        yield listener
    finally:
        _listener.reset(token)
