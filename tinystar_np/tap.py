"""Every intermediate has a name: ``x = tap("attention.scores", x)``.

With nobody listening, ``tap`` hands back what it was given: one look-up of a context variable, some
50 ns. With a listener, the array is caught under its full path, such as ``blocks.3.attention.scores``.
Layers name what is theirs; the model names the block by a scope around it. docs/taps.md lists the
names; ``tinystar_np.record`` is the listener that most people want.

A context variable rather than a global: two threads that share a model do not hear each other.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

from numpy.typing import NDArray


class Listener(Protocol):
    """What hears taps: called with a name inside the current scope, answers with the array to go on with."""

    def catch(self, name: str, x: NDArray) -> NDArray:
        """Take note of ``x`` and return it (or, for an experiment, another array of its shape)."""

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
    """Say whether anybody listens: then a fast form that never builds what is tapped must step aside."""
    return _listener.get() is not None


@contextmanager
def unheard() -> Iterator[None]:
    """Let nobody hear the taps inside the ``with`` block."""
    token = _listener.set(None)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def listen(listener: Listener) -> Iterator[Listener]:
    """Let ``listener`` hear every tap of this thread (or task) inside the ``with`` block."""
    token = _listener.set(listener)
    try:
        yield listener
    finally:
        _listener.reset(token)
