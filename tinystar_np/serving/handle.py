"""A handle: a request as whoever submitted it sees it. Its pieces arrive here.

The engine writes to it in the thread that runs the model; it is read in any thread, or in an event loop.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tinystar_np.generation.row import Piece
from tinystar_np.generation.scores import TokenScore


@dataclass
class Usage:
    """The tokens of a request.

    prompt     tokens of its prompt
    cached     those of them that were in the cache already, and not read again
    generated  new tokens so far
    """

    prompt: int
    cached: int = 0
    generated: int = 0


class Handle:
    """A text that is being generated, piece by piece.

    ids     of the prompt
    cancel  called with the handle where nobody wants the text any longer

    usage      how many tokens it has, see ``Usage``
    scores     of the prompt's tokens, where they were asked for: how likely each was (``token_id``,
               ``logprob``, ``top``); complete before the first piece
    submitted  when it was asked for, in seconds, by ``time.perf_counter``
    finished   when it ended; None before

    Iterate over it, with ``for`` or ``async for``, for its pieces as they come; each of several iterations
    begins with the first piece. ``result`` waits for all. Iterating raises the error that ended the text.
    """

    def __init__(self, ids: Sequence[int], cancel: Callable[["Handle"], None]) -> None:
        self.ids = list(ids)
        self.usage = Usage(len(ids))
        self.scores: list[TokenScore] = []
        self.submitted = time.perf_counter()
        self.finished: float | None = None
        self._cancel = cancel
        self._pieces: list[Piece] = []
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = deque()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended

    @property
    def pieces(self) -> list[Piece]:
        """The pieces so far."""
        return list(self._pieces)

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(piece.text for piece in self._pieces)

    @property
    def token_ids(self) -> list[int]:
        """The new ids so far."""
        return [piece.token_id for piece in self._pieces]

    @property
    def finish_reason(self) -> str | None:
        """Why the last piece is the last, see ``Piece``; None while more may follow, or without a piece."""
        return self._pieces[-1].finish_reason if self._pieces else None

    def cancel(self) -> None:
        """End the text where it is, soon; iterations end without a further piece, and its memory is free."""
        self._cancel(self)

    def result(self, timeout: float | None = None) -> str:
        """Wait until the text has ended, and return it.

        timeout  seconds to wait at most; None for as long as it takes

        Raises the error that ended it, TimeoutError where it has not ended in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._ended, timeout):
                raise TimeoutError(f"The text has not ended within {timeout} s.")
        if self._error is not None:
            raise self._error
        return self.text

    def __iter__(self) -> Iterator[Piece]:
        """Return an iterator that waits for each piece."""
        place = 0
        while True:
            with self._changed:
                while not self._ended and place == len(self._pieces):
                    self._changed.wait()
            if place == len(self._pieces):
                break
            yield self._pieces[place]
            place += 1
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Return an asynchronous iterator over the pieces."""
        changed, place = asyncio.Event(), 0
        with self._changed:
            self._waiting.append((asyncio.get_running_loop(), changed))
        try:
            while True:
                changed.clear()
                ended = self._ended  # before the pieces are counted: the last one comes before the end
                while place < len(self._pieces):
                    yield self._pieces[place]
                    place += 1
                if ended:
                    break
                await changed.wait()
        finally:
            with self._changed:
                self._waiting = deque(pair for pair in self._waiting if pair[1] is not changed)
        if self._error is not None:
            raise self._error

    def push(self, pieces: Sequence[Piece]) -> None:
        """Add pieces; called by the engine."""
        self._pieces += pieces
        self.usage.generated += len(pieces)
        self._notify()

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more will come; called by the engine."""
        self._error, self._ended, self.finished = error, True, time.perf_counter()
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
            waiting = list(self._waiting)
        for loop, changed in waiting:
            with suppress(RuntimeError):  # the loop is closed, and nobody waits in it any longer
                loop.call_soon_threadsafe(changed.set)
