"""What both kinds of completions do with a request: ask for its texts, and send them whole or in parts."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tinystar_np.serving.events import EventStream
from tinystar_np.serving.requests import CommonFields
from tinystar_np.serving.server_state import ServerState
from tinystar_np.serving.texts import Texts, unless_gone


class Answering(Protocol):
    """The answer to one request."""

    def ask(self) -> None:
        """Submit a request to the engine for each text."""

    async def ended(self) -> None:
        """Wait for all texts."""

    def whole(self) -> dict[str, Any]:
        """Return the answer after all texts have ended."""

    def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the answer in parts, as it is written."""


async def answered(
    request: Request, asked: CommonFields, make: Callable[[Texts, str], Answering]
) -> Response:
    """Answer a request.

    asked  what it says
    make   makes its answer of the texts to ask for, and the name under which the model is listed
    """
    state: ServerState = request.app.state.server
    texts = Texts(state, state.models.find(asked.model))
    answer = make(texts, state.models.id_of(texts.served))
    try:
        await run_in_threadpool(answer.ask)
    except BaseException:
        texts.close()
        raise
    if asked.stream:
        return EventStream(answer.chunks(), texts.close, state.failed)
    await unless_gone(request, texts, answer.ended())
    return JSONResponse(await run_in_threadpool(answer.whole))
