"""/v1/chat/completions: answers to conversations."""

import secrets
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tinystar_np.errors import TinyStarError
from tinystar_np.generation.loop import Piece
from tinystar_np.serving.api_errors import api_error_of
from tinystar_np.serving.bodies import read
from tinystar_np.serving.chat_prompt import chat_prompt
from tinystar_np.serving.events import EventStream
from tinystar_np.serving.logprobs import Scored, of_chat
from tinystar_np.serving.requests import ChatRequest
from tinystar_np.serving.server_state import ServerState
from tinystar_np.serving.texts import FINISHED, Texts, unless_gone


async def chat_completions(request: Request) -> Response:
    """Answer a request."""
    state: ServerState = request.app.state.server
    asked = await read(request, ChatRequest, state.max_body)
    texts = Texts(state, state.models.find(asked.model))
    answer = Chat(asked, texts, state.models.id_of(texts.served))
    try:
        await run_in_threadpool(answer.ask)
    except BaseException:
        texts.close()
        raise
    if asked.stream:
        return EventStream(answer.chunks(), texts.close, state.failed)
    await unless_gone(request, texts, texts.ended())
    return JSONResponse(await run_in_threadpool(answer.whole))


class Chat:
    """The answer to one request.

    asked  the request
    texts  to ask for
    model  the name under which the model is listed
    """

    def __init__(self, asked: ChatRequest, texts: Texts, model: str) -> None:
        self._asked, self._texts, self._model = asked, texts, model
        self._id, self._created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())

    def ask(self) -> None:
        """Write the conversation as tokens, and ask for the answers."""
        asked, texts = self._asked, self._texts
        prompt = chat_prompt(
            texts.served,
            asked.messages,
            asked.add_generation_prompt,
            asked.continue_final_message,
            variables=asked.chat_template_kwargs,
        )
        wanted = asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens
        most = texts.served.room_after(prompt.ids, wanted, "messages")
        images = {"images": prompt.images} if prompt.images else {}
        try:
            for i in range(asked.n):
                texts.ask(
                    prompt.ids,
                    most,
                    top_logprobs=asked.top_logprobs or 0,
                    **asked.sampling(texts.served.settings, i),
                    **images,
                )
        except TinyStarError as error:
            raise api_error_of(error, "messages") from error

    def whole(self) -> dict[str, Any]:
        """Return the answer after all texts have ended."""
        choices = []
        for i, handle in enumerate(self._texts.handles):
            choices.append(
                {
                    "index": i,
                    "message": {"role": "assistant", "content": handle.text, "refusal": None},
                    "logprobs": self._logprobs(handle.pieces),
                    "finish_reason": self._texts.finish_reason(i),
                }
            )
        return self._frame("chat.completion", choices) | {"usage": self._texts.usage(self._asked.n)}

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the answer in parts, as the texts are written."""
        texts = self._texts
        for i in range(self._asked.n):
            yield self._chunk(i, {"role": "assistant", "content": "", "refusal": None})
        ended = set()
        async for i, piece in texts.merged():
            if piece.text or self._asked.logprobs:
                yield self._chunk(i, {"content": piece.text}, self._logprobs([piece]))
            if piece.finish_reason is not None:
                ended.add(i)
                yield self._chunk(i, {}, reason=FINISHED[piece.finish_reason])
        for i in range(self._asked.n):
            if i not in ended:  # one of no tokens
                yield self._chunk(i, {}, reason="length")
        if self._asked.tells_usage:
            yield self._frame("chat.completion.chunk", []) | {"usage": texts.usage(self._asked.n)}

    def _logprobs(self, pieces: Iterable[Piece]) -> dict[str, Any] | None:
        if not self._asked.logprobs:
            return None
        tokens = (Scored(piece.token_id, piece.logprob, piece.top) for piece in pieces)
        return of_chat(tokens, self._texts.served.texts)

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        chunk = self._frame("chat.completion.chunk", [choice])
        return chunk | ({"usage": None} if self._asked.tells_usage else {})

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
