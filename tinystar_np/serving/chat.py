"""/v1/chat/completions: answers to conversations."""

import secrets
import time
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.generation.row import Piece
from tinystar_np.serving.answering import answered
from tinystar_np.serving.api_errors import api_error_of
from tinystar_np.serving.bodies import read
from tinystar_np.serving.chat_prompt import chat_prompt, ends_of_messages
from tinystar_np.serving.logprobs import Scored, of_chat
from tinystar_np.serving.requests import ChatRequest
from tinystar_np.serving.texts import FINISHED, Texts
from tinystar_np.serving.tool_calls import (
    Delta,
    ToolCall,
    ToolCallReader,
    as_openai,
    family_for_tools,
    tool_variables,
)
from tinystar_np.serving.tool_schema import Tools, read_tools

CALLED = "tool_calls"
"""OpenAI's finish reason of an answer that calls tools, and the name of the field that holds the calls."""


async def chat_completions(request: Request) -> Response:
    """Answer a request for a chat completion."""
    asked = await read(request, ChatRequest)
    return await answered(request, asked, partial(Chat, asked))


class Answer:
    """One of the answers to a request: its text without the calls of tools, and these.

    reader  finds the calls; None where there are no tools
    """

    def __init__(self, reader: ToolCallReader | None) -> None:
        self._reader = reader
        self.content = ""
        self.calls: list[ToolCall] = []
        self.reason: str | None = None
        """OpenAI's word for why it has ended; None while more may follow."""

    def push(self, piece: Piece) -> Delta:
        """Take a piece, and return what is final with it."""
        if self._reader is None:
            delta = Delta(piece.text, [])
        else:
            delta = self._reader.push(piece.text, piece.token_id)
            if piece.finish_reason is not None:
                rest = self._reader.flush()
                delta = Delta(delta.content + rest.content, delta.calls + rest.calls)
        self.content += delta.content
        self.calls += delta.calls
        if self._reader is not None and self._reader.done:
            self.reason = CALLED
        elif piece.finish_reason is not None:
            reason = FINISHED[piece.finish_reason]
            self.reason = CALLED if self.calls and reason == "stop" else reason
        return delta


class Chat:
    """The answers to one request.

    asked  the request
    texts  to ask for
    model  the name under which the model is listed
    """

    def __init__(self, asked: ChatRequest, texts: Texts, model: str) -> None:
        self._asked, self._texts, self._model = asked, texts, model
        self._answers: list[Answer] = []
        self._id, self._created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())

    def ask(self) -> None:
        """Write the conversation as tokens, and ask for the answers."""
        asked, served = self._asked, self._texts.served
        tools = read_tools(asked.about_tools)
        given = {} if tools is None else tool_variables(tools.given)
        prompt = chat_prompt(
            served,
            asked.messages,
            asked.add_generation_prompt,
            asked.continue_final_message,
            variables=asked.chat_template_kwargs | given,
        )
        wanted = asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens
        most = served.room_after(prompt.ids, wanted, "messages")
        try:
            for i in range(asked.n):
                self._answers.append(Answer(self._reader(tools, prompt.ids)))
                self._texts.ask(
                    prompt.ids,
                    most,
                    images=prompt.images,
                    top_logprobs=asked.top_logprobs or 0,
                    answers=not asked.continue_final_message,
                    marks=ends_of_messages(served, prompt.ids),
                    **asked.sampling(served.settings, i),
                )
        except TinyStarError as error:
            raise api_error_of(error, "messages") from error

    def _reader(self, tools: Tools | None, prompt: list[int]) -> ToolCallReader | None:
        """Return what finds the calls in one answer."""
        tokenizer = self._texts.served.tokenizer
        template = tokenizer.chat_template
        if tools is None or template is None:
            return None
        try:
            family = family_for_tools(template)
        except InputError as error:
            raise api_error_of(error, "tools") from error
        return ToolCallReader(family, tools.names, tokenizer, after=prompt, parallel=tools.parallel)

    async def _pieces(self) -> AsyncIterator[tuple[int, Piece, Delta]]:
        """Yield the pieces of all answers as they come, with what is final with each."""
        async for i, piece in self._texts.merged():
            answer = self._answers[i]
            if answer.reason is not None:
                continue  # it is complete, as it may hold only one call; this token was on its way already
            yield i, piece, answer.push(piece)
            if answer.reason is not None and piece.finish_reason is None:
                self._texts.enough(i)
        for answer in self._answers:
            answer.reason = answer.reason or "length"  # one of no tokens

    async def ended(self) -> None:
        """Wait for all answers."""
        async for _ in self._pieces():
            pass

    def whole(self) -> dict[str, Any]:
        """Return the answers after all have ended."""
        choices = []
        for i, answer in enumerate(self._answers):
            content = None if answer.calls and not answer.content else answer.content
            message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
            if answer.calls:
                message[CALLED] = as_openai(answer.calls)
            handle = self._texts.handles[i]
            choice = {
                "index": i,
                "message": message,
                "logprobs": self._logprobs(handle.pieces),
                "finish_reason": answer.reason,
            }
            choices.append(choice | ({"token_ids": handle.token_ids} if self._asked.return_token_ids else {}))
        return self._frame("chat.completion", choices) | {"usage": self._texts.usage(self._asked.n)}

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the answers in parts, as they are written."""
        for i in range(self._asked.n):
            yield self._chunk(i, {"role": "assistant", "content": "", "refusal": None})
        ended = set()
        async for i, piece, delta in self._pieces():
            ids = [piece.token_id] if self._asked.return_token_ids else None
            if delta.content or self._asked.logprobs or ids:
                yield self._chunk(i, {"content": delta.content}, self._logprobs([piece]), ids=ids)
            if delta.calls:
                yield self._chunk(i, {CALLED: as_openai(delta.calls, stream=True)})
            if self._answers[i].reason is not None:
                ended.add(i)
                yield self._chunk(i, {}, reason=self._answers[i].reason)
        for i in set(range(self._asked.n)) - ended:
            yield self._chunk(i, {}, reason=self._answers[i].reason)
        if self._asked.tells_usage:
            yield self._frame("chat.completion.chunk", []) | {"usage": self._texts.usage(self._asked.n)}

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
        ids: list[int] | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        choice |= {} if ids is None else {"token_ids": ids}
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
