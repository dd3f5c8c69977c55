"""Answers of the hub, received within bounds of time and of size.

The client is that of the hub's library, which knows proxies and certificates, and shows the access token to
no other host. But it waits as long as a byte comes now and then, decompresses whatever arrives, and reads
errors and redirects to their end. So an answer is received here piece by piece:

- A thread receives a little ahead, and who waits for it waits for a limited time. Whatever a hub sends a byte
  at a time, a body, headers or the framing of either, takes nobody longer.
- Bytes are taken as they were sent. A compressed body, which nobody asked for, is refused.
- Of an error only the head is read. Redirects are followed one by one.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING

from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from tinystar_np.checkpoints.json_file import shown

if TYPE_CHECKING:
    import httpx2  # httpx in older versions of the hub's library

# An answer that brings less than this in any window of time, and does not end, is given up: 20 kB in 20
# seconds is slower than any line in use.
LEAST_BYTES = 20_000
WINDOW = 2.0  # times as long as the client waits for a byte: 10 seconds, or what the user has set
WHOLE_ANSWER = 6.0  # times as long; for all of an answer of the API

ANSWER_LIMIT = 10_000_000  # bytes of an answer of the API: the names of 30,000 files
REDIRECT_LIMIT = 100_000  # bytes of its body, which is read only so that the connection can be used again
REDIRECTS = 10


class TooSlowError(Exception):
    """An answer comes so slowly that it might never end."""


class StrangeAnswerError(Exception):
    """An answer is not what a hub answers; the message says what it is or does."""


class Pace:
    """The time an answer has: until a window ends without enough bytes, or all the seconds are over."""

    def __init__(self, window: float, seconds: float) -> None:
        now = time.monotonic()
        self._window, self._window_end, self._end, self._bytes = window, now + window, now + seconds, 0

    def arrived(self, nbytes: int) -> None:
        """Count bytes that have arrived."""
        self._bytes += nbytes

    def left(self) -> float:
        """Return for how many seconds the next bytes may be waited for."""
        return max(0.0, min(self._end, self._window_end) - time.monotonic())

    def is_over(self) -> bool:
        """Say, when so long was waited in vain, whether that is all; else the next window begins."""
        now, enough = time.monotonic(), self._bytes >= LEAST_BYTES
        self._window_end, self._bytes = now + self._window, 0
        return now >= self._end or not enough


class Answer:
    """The answer to a request.

    client   of the hub's library
    request  for the client to send
    pace     the time that the answer has

    ``head`` and then ``pieces`` raise what the client raises, and TooSlowError.
    """

    def __init__(self, client: "httpx2.Client", request: "httpx2.Request", pace: Pace) -> None:
        self._pace, self._unwanted = pace, Event()
        self._received: Queue[httpx2.Response | bytes | BaseException | None] = Queue(maxsize=4)
        Thread(target=self._receive, args=(client, request), daemon=True).start()

    def _receive(self, client: "httpx2.Client", request: "httpx2.Request") -> None:
        """Receive the head, the pieces of the body and None for its end, or an error; in a thread."""
        try:
            response = client.send(request, stream=True, follow_redirects=False)
            try:
                self._hand_over(response)
                for piece in response.iter_raw():
                    if not self._hand_over(piece):
                        return
            finally:
                response.close()
            self._hand_over(None)
        except BaseException as error:  # raised again where it is waited for
            self._hand_over(error)

    def _hand_over(self, item: "httpx2.Response | bytes | BaseException | None") -> bool:
        """Wait until there is room for one more item; returns False once nobody wants it."""
        while not self._unwanted.is_set():
            try:
                self._received.put(item, timeout=1)
                return True
            except Full:  # a slow disk: look again whether somebody is still there
                pass
        return False

    def head(self) -> "httpx2.Response":
        """Wait for the status and the headers."""
        head = self._next()
        assert not isinstance(head, bytes | None)
        return head

    def pieces(self) -> Iterator[bytes]:
        """Yield the body, as it was sent."""
        while isinstance(piece := self._next(), bytes):
            self._pace.arrived(len(piece))
            yield piece

    def _next(self) -> "httpx2.Response | bytes | None":
        while True:
            try:
                item = self._received.get(timeout=self._pace.left())
                break
            except Empty:
                if self._pace.is_over():
                    raise TooSlowError from None
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Let the thread end, at the latest when the client sees or misses the next byte."""
        self._unwanted.set()


@contextmanager
def open_answer(
    url: str, timeout: float, start: int = 0, whole: float = math.inf
) -> Iterator[tuple["httpx2.Response", Iterator[bytes]]]:
    """Ask the hub, and follow redirects to the answer.

    url      of the hub that the access token is for
    timeout  seconds to connect, and that the next byte may take
    start    ask for a file's bytes from this one on
    whole    how many times as long the whole answer may take

    Yields the head, of status 200 or 206, and the pieces of the body. Raises the library's errors for other
    statuses, StrangeAnswerError and TooSlowError.
    """
    client, pace = get_session(), Pace(WINDOW * timeout, whole * timeout)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = client.build_request("GET", url, headers=headers, timeout=timeout)
    for _ in range(REDIRECTS):
        answer = Answer(client, request, pace)
        try:
            head = answer.head()
            if head.next_request is None:
                _check(head)
                yield head, answer.pieces()
                return
            request = head.next_request  # without the token if it leads to another host
            if request.url.scheme not in ("http", "https"):
                raise StrangeAnswerError(f"it redirects to an address of {shown(request.url.scheme)}")
            length = 0
            for piece in answer.pieces():
                length += len(piece)
                if length > REDIRECT_LIMIT:
                    break
        finally:
            answer.close()
    raise StrangeAnswerError(f"it redirects {REDIRECTS} times")


def _check(head: "httpx2.Response") -> None:
    """Raise an error for everything but the bytes that were asked for."""
    if head.status_code not in (200, 206):
        # The library says which fault it is, but would read the body first: it gets an answer without.
        said = {key: value for key, value in head.headers.items() if key.lower().startswith("x-error-")}
        hf_raise_for_status(type(head)(head.status_code, headers=said, request=head.request))
        raise StrangeAnswerError(f"it answers HTTP {head.status_code}")
    encoding = head.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise StrangeAnswerError(f"it compresses what it sends ({shown(encoding)}), which was not asked for")


def read_answer(url: str, timeout: float) -> bytes:
    """Read a short answer; raises what ``open_answer`` does, and StrangeAnswerError for a long one."""
    body = bytearray()
    with open_answer(url, timeout, whole=WHOLE_ANSWER) as (_, pieces):
        for piece in pieces:
            body += piece
            if len(body) > ANSWER_LIMIT:
                raise StrangeAnswerError(f"it answers with more than {ANSWER_LIMIT / 1e6:g} MB")
    return bytes(body)
