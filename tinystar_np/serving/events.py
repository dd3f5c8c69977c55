"""Server-sent events, as OpenAI's: each is one line of JSON, and the last says [DONE].

There are no comments to keep a connection alive while a prompt is read, as there are none in vLLM: the first
event comes at once, and proxies wait for a minute at least.
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tinystar_np.serving.api_errors import api_error_of

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
DONE = b"data: [DONE]\n\n"


def event(data: dict[str, Any]) -> bytes:
    """Write one event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class EventStream(StreamingResponse):
    """An answer in events; where one fails, the last event says why.

    chunks  what the events hold
    close   called when nobody reads any longer, or all has been read
    failed  called with an error that ended it
    """

    def __init__(
        self,
        chunks: AsyncIterator[dict[str, Any]],
        close: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        super().__init__(_written(chunks, failed), media_type="text/event-stream", headers=HEADERS)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until there are no more, or the client has gone."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


async def _written(
    chunks: AsyncIterator[dict[str, Any]], failed: Callable[[BaseException], None]
) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            yield event(chunk)
    except Exception as error:
        failed(error)
        yield event(api_error_of(error).as_json())
    else:
        yield DONE
