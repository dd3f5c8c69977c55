"""Connections with a time limit for the head of a request: uvicorn has none."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS = 30.0  # in which a request's head must arrive


class TimedH11(H11Protocol):
    """uvicorn's connection, closed where the head of a request does not arrive in time.

    uvicorn itself limits only the time between two requests.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take some bytes, and wait for the rest of a head that is not complete."""
        super().data_received(data)
        answered = self.cycle is None or self.cycle.response_complete
        if not answered:
            self._wait_no_more()
        elif self._late is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._late = self.loop.call_later(SECONDS, self.timeout_keep_alive_handler)

    def _wait_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
