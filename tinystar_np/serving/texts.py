"""The texts of one HTTP request: submitted, read and cancelled together."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request

from tinystar_np.generation.row import Piece
from tinystar_np.serving.api_errors import ApiError, stopping
from tinystar_np.serving.handle import Handle
from tinystar_np.serving.served import Served

if TYPE_CHECKING:
    from tinystar_np.serving.server_state import ServerState

Answer = TypeVar("Answer")
CLIENT_HAS_GONE = 499  # nginx's status for an answer that nobody waits for; only metrics see it
FINISHED = {"end": "stop", "stop": "stop", "length": "length", "context": "length"}
"""OpenAI's words for why a text has ended."""


class Texts:
    """The texts of one HTTP request.

    state   the server
    served  the model that writes them
    """

    def __init__(self, state: "ServerState", served: Served) -> None:
        self.served = served
        self.handles: list[Handle] = []
        self._wanted: list[int] = []  # tokens of each, at most
        self._state = state
        self._begun = time.monotonic()
        state.texts.add(self)

    def ask(self, ids: Sequence[int], max_new_tokens: int, **settings: Any) -> None:
        """Submit one more text; the arguments and errors are those of ``Engine.submit``."""
        if self._state.timeout is not None:
            settings["timeout"] = self._state.timeout
        handle = self.served.engine.submit(ids, max_new_tokens=max_new_tokens, **settings)
        self.handles.append(handle)
        self._wanted.append(max_new_tokens)

    def close(self) -> None:
        """End what has not ended: nobody reads it any longer."""
        self._state.texts.discard(self)
        self.cancel()

    def cancel(self) -> None:
        """End what has not ended."""
        for handle in self.handles:
            if not handle.ended:
                handle.cancel()

    def enough(self, index: int) -> None:
        """End one of them: what it holds is all that is wanted."""
        self._wanted[index] = 0
        self.handles[index].cancel()

    async def pieces(self, index: int) -> AsyncIterator[Piece]:
        """Yield a text's pieces, and measure them; raises the error or the ApiError that ended it."""
        handle, metrics, last = self.handles[index], self._state.metrics, None
        name = self._state.models.id_of(self.served)
        async for piece in handle:
            now = time.monotonic()
            if last is None:
                metrics.first_token(name, now - self._begun)
            else:
                metrics.next_token(name, now - last)
            last = now
            yield piece
        if handle.finish_reason is None and self._wanted[index]:
            raise stopping() if self._state.stopping else ApiError(CLIENT_HAS_GONE, "The text was cancelled.")

    async def scored(self, index: int) -> None:
        """Wait until the scores of a text's prompt are there, which they are before its first piece."""
        async for _ in self.handles[index]:
            break

    def finish_reason(self, index: int) -> str:
        """Return OpenAI's word for why a text has ended."""
        return FINISHED[self.handles[index].finish_reason or "length"]

    def usage(self, per_prompt: int) -> dict[str, Any]:
        """Return the number of tokens, as OpenAI writes it.

        per_prompt  how many texts continue each prompt, which counts once
        """
        usages = [handle.usage for handle in self.handles]
        prompt = sum(usage.prompt for usage in usages[::per_prompt])
        generated = sum(usage.generated for usage in usages)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": generated,
            "total_tokens": prompt + generated,
            "prompt_tokens_details": {"cached_tokens": sum(usage.cached for usage in usages[::per_prompt])},
        }

    async def ended(self) -> None:
        """Wait for all of them."""
        for index in range(len(self.handles)):
            async for _ in self.pieces(index):
                pass

    async def merged(self) -> AsyncIterator[tuple[int, Piece]]:
        """Yield the pieces of all as they come, each with its text's index.

        The next piece of a text is taken only when the one before it has been read.
        """
        streams = [self.pieces(index) for index in range(len(self.handles))]
        if len(streams) == 1:
            async for piece in streams[0]:
                yield 0, piece
            return
        coming = {_next(stream): i for i, stream in enumerate(streams)}
        try:
            while coming:
                done, _ = await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=coming.__getitem__):
                    i, found = coming.pop(task), task.result()
                    if found is not None:
                        yield i, found
                        coming[_next(streams[i])] = i
        finally:
            for task in coming:
                task.cancel()


def _next(stream: AsyncIterator[Piece]) -> "asyncio.Future[Piece | None]":
    """Wait in the background for a stream's next piece; None at its end."""

    async def piece() -> Piece | None:
        return await anext(stream, None)

    coming = asyncio.ensure_future(piece())
    # An error that nobody waits for any longer is no news.
    coming.add_done_callback(lambda task: task.cancelled() or task.exception())
    return coming


async def unless_gone(request: Request, texts: Texts, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Return what some work gives; where the client goes away before, its texts are cancelled.

    Raises the work's errors.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(CLIENT_HAS_GONE, "The client has gone.")
        return working.result()
    finally:
        working.cancel()
        gone.cancel()
        texts.close()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
