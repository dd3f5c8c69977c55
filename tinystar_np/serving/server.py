"""Running the server: its socket, its two threads, and how it stops.

The engines work in the main thread, as OpenBLAS takes the number of its threads from no other one. uvicorn
runs in a second thread, with an event loop of its own, and takes connections while the engine computes.
"""

import asyncio
import errno
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn

from tinystar_np.errors import InputError
from tinystar_np.serving.app import make_app
from tinystar_np.serving.connections import TimedH11
from tinystar_np.serving.engine import Engine, work
from tinystar_np.serving.server_state import ServerState

STOPS = (signal.SIGTERM, signal.SIGINT)
TICK = 0.05  # seconds between two looks at whether all requests are answered
ENDING = 5.0  # seconds in which requests that were cut off are answered
BACKLOG = 1024  # connections that wait to be accepted


def bind(host: str, port: int) -> socket.socket:
    """Take an address to listen at; port 0 takes a free one.

    Raises InputError where it cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        why, option = "there is no such host", "--host"
        if isinstance(error, OSError) and not isinstance(error, socket.gaierror):
            why = os.strerror(error.errno or 0)
            option = "--host" if error.errno == errno.EADDRNOTAVAIL else "--port"
        raise InputError(f"{host}:{port} cannot be listened at: {why}. Try another {option}.") from error


def address_of(listening: socket.socket) -> str:
    """Return where a socket listens, as a browser takes it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server:
    """A server that listens at a socket until it is told to stop.

    state  what requests share
    grace  seconds in which running requests may end after it was told to stop
    """

    def __init__(self, state: ServerState, grace: float) -> None:
        self._state, self._grace = state, grace
        config = uvicorn.Config(
            make_app(state),
            http=TimedH11,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # what is to be said, ``ServerState.log`` says
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._uvicorn = uvicorn.Server(config)
        self._stop = threading.Event()
        self._failure: BaseException | None = None

    def run(
        self,
        listening: socket.socket,
        engines: Sequence[Engine],
        listens: Callable[[], None],
        waits: Callable[[int], None],
    ) -> None:
        """Answer requests until a signal says stop, and end the engines; in the main thread.

        listens  called when it takes requests
        waits    called with their number where running requests may end before it stops
        """
        before = {number: signal.signal(number, self._on_signal) for number in STOPS}
        handed = (listening, engines, listens, waits)
        thread = threading.Thread(target=self._serve, args=handed, name="server")
        thread.start()
        try:
            work(engines)
            thread.join()
            if self._failure is not None:
                raise self._failure
        finally:
            self._stop.set()
            thread.join()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Stop; the same signal once more ends the process."""
        self._state.stopping = True
        self._stop.set()
        for each in STOPS:
            signal.signal(each, signal.SIG_DFL)

    def _serve(
        self,
        listening: socket.socket,
        engines: Sequence[Engine],
        listens: Callable[[], None],
        waits: Callable[[int], None],
    ) -> None:
        try:
            asyncio.run(self._until_told(listening, listens, waits))
        except BaseException as error:  # raised in the main thread
            self._failure = error
        finally:
            for engine in engines:
                engine.close()

    async def _until_told(
        self, listening: socket.socket, listens: Callable[[], None], waits: Callable[[int], None]
    ) -> None:
        serving = asyncio.ensure_future(self._uvicorn.serve(sockets=[listening]))
        while not self._uvicorn.started and not serving.done():
            await asyncio.sleep(0.001)
        if self._uvicorn.started:
            listens()
        while not self._stop.is_set() and not serving.done():
            await asyncio.sleep(TICK)
        self._state.stopping = True
        if self._state.active:
            waits(self._state.active)
        await _until(lambda: not self._state.active, self._grace)
        for texts in list(self._state.texts):
            texts.cancel()
        await _until(lambda: not self._state.texts, ENDING)
        self._uvicorn.should_exit = True
        await serving


async def _until(done: Callable[[], bool], seconds: float) -> None:
    """Wait until something is done, at most so long."""
    until = time.monotonic() + seconds
    while not done() and time.monotonic() < until:
        await asyncio.sleep(TICK)
