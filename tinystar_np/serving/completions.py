"""/v1/completions: continuations of prompts, and the log-probabilities of given texts."""

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tinystar_np.errors import TinyStarError
from tinystar_np.generation.prompt import encode_prompt
from tinystar_np.generation.row import Piece
from tinystar_np.serving.answering import answered
from tinystar_np.serving.api_errors import api_error_of, wrong
from tinystar_np.serving.bodies import read
from tinystar_np.serving.logprobs import Scored, of_completion
from tinystar_np.serving.requests import CompletionRequest
from tinystar_np.serving.texts import FINISHED, Texts
from tinystar_np.serving.token_texts import Offsets

DEFAULT_MAX_TOKENS = 16  # as OpenAI has it


async def completions(request: Request) -> Response:
    """Answer a request for completions."""
    asked = await read(request, CompletionRequest)
    return await answered(request, asked, partial(Completion, asked))


@dataclass
class Prompt:
    """A prompt: its tokens, and its text where it is part of the answer."""

    ids: list[int]
    text: str


class Completion:
    """The answer to one request.

    asked  the request
    texts  to ask for
    model  the name under which the model is listed
    """

    def __init__(self, asked: CompletionRequest, texts: Texts, model: str) -> None:
        self._asked, self._texts, self._model = asked, texts, model
        self._each = asked.best_of or asked.n  # texts for each prompt
        self._prompts: list[Prompt] = []
        self._id, self._created = f"cmpl-{secrets.token_hex(12)}", int(time.time())

    def ask(self) -> None:
        """Cut the prompts into tokens, and submit a request to the engine for each text."""
        asked, texts = self._asked, self._texts
        count = len(asked.prompt) * self._each
        if count > texts.served.most_texts:
            words = f"prompt asks for {count} texts; there may be {texts.served.most_texts} at once."
            raise wrong("prompt", words)
        try:
            self._prompts = [self._read(prompt) for prompt in asked.prompt]
            wanted = DEFAULT_MAX_TOKENS if asked.max_tokens is None else asked.max_tokens
            otherwise = texts.served.settings
            scores = 0 if asked.echo and asked.logprobs is not None else None
            for prompt in self._prompts:
                most = texts.served.room_after(prompt.ids, wanted, "prompt")
                for i in range(self._each):
                    texts.ask(
                        prompt.ids,
                        most,
                        top_logprobs=asked.logprobs or 0,
                        score_from=None if i else scores,
                        **asked.sampling(otherwise, i),
                    )
        except TinyStarError as error:
            raise api_error_of(error) from error

    def _read(self, given: str | list[int]) -> Prompt:
        served = self._texts.served
        if isinstance(given, str):
            special = self._asked.add_special_tokens
            ids = encode_prompt(served.model, served.tokenizer, given, add_special_tokens=special)
            return Prompt(ids, given)
        served.check_ids(given, "prompt")
        text = served.tokenizer.decode(given, skip_special_tokens=False) if self._asked.echo else ""
        return Prompt(given, text)

    async def ended(self) -> None:
        """Wait for all texts."""
        await self._texts.ended()

    def whole(self) -> dict[str, Any]:
        """Return the answer after all texts have ended."""
        choices = []
        for p in range(len(self._prompts)):
            own = range(p * self._each, (p + 1) * self._each)
            choices += sorted(own, key=self._mean_logprob, reverse=True)[: self._asked.n]
        return self._frame([self._choice(at, text) for at, text in enumerate(choices)]) | {
            "usage": self._texts.usage(self._each)
        }

    def _mean_logprob(self, text: int) -> float:
        """Return the mean log-probability of a text's tokens, by which the best are chosen."""
        if self._each == self._asked.n:
            return 0.0  # all are wanted, in their order
        pieces = self._texts.handles[text].pieces
        return sum(piece.logprob for piece in pieces) / max(len(pieces), 1)

    def _choice(self, at: int, text: int) -> dict[str, Any]:
        """Return a text that has ended.

        at    its index among those of the answer
        text  its index among those that were asked for
        """
        handle, logprobs = self._texts.handles[text], None
        if self._asked.logprobs is not None:
            logprobs = self._logprobs(handle.pieces, *self._counter(text))
            if self._asked.echo:
                logprobs = {
                    name: of_prompt + logprobs[name] for name, of_prompt in self._echoed(text).items()
                }
        before = self._prompt(text).text if self._asked.echo else ""
        reason = self._texts.finish_reason(text)
        return self._part(at, before + handle.text, logprobs, reason, handle.token_ids)

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the answer in parts, as the texts are written."""
        texts, scored = self._texts, self._asked.logprobs is not None
        if self._asked.echo:
            for text in range(len(texts.handles)):
                async for chunk in self._echo(text):
                    yield chunk
        counters = [self._counter(text) for text in range(len(texts.handles))] if scored else []
        ended = set()
        async for text, piece in texts.merged():
            reason = None if piece.finish_reason is None else FINISHED[piece.finish_reason]
            if piece.text or scored or reason or self._asked.return_token_ids:
                logprobs = self._logprobs([piece], *counters[text]) if scored else None
                yield self._chunk([self._part(text, piece.text, logprobs, reason, [piece.token_id])])
            if reason:
                ended.add(text)
        for text in range(len(texts.handles)):
            if text not in ended:  # one of no tokens
                yield self._chunk([self._part(text, "", None, "length")])
        if self._asked.tells_usage:
            yield self._frame([]) | {"usage": texts.usage(self._each)}

    async def _echo(self, text: int) -> AsyncIterator[dict[str, Any]]:
        """Yield the prompt, as the first part of a text that continues it."""
        logprobs = None
        if self._asked.logprobs is not None:
            first = text - text % self._each
            await self._texts.scored(first)
            logprobs = self._echoed(text)
        yield self._chunk([self._part(text, self._prompt(text).text, logprobs, None)])

    def _prompt(self, text: int) -> Prompt:
        return self._prompts[text // self._each]

    def _counter(self, text: int) -> tuple[Offsets, int]:
        """Return what counts the characters of a text, and where in the choice they begin."""
        prompt = self._prompt(text)
        counter = self._texts.served.texts.offsets(after=prompt.ids)
        return counter, len(prompt.text) if self._asked.echo else 0

    def _logprobs(self, pieces: Sequence[Piece], counter: Offsets, start: int) -> dict[str, Any]:
        tokens = [Scored(piece.token_id, piece.logprob, piece.top) for piece in pieces]
        return of_completion(tokens, self._texts.served.texts, counter, start)

    def _echoed(self, text: int) -> dict[str, Any]:
        """Return the log-probabilities of a prompt's own tokens; the first has none."""
        prompt = self._prompt(text)
        scores = self._texts.handles[text - text % self._each].scores  # of the first text of this prompt
        unscored = prompt.ids[: len(prompt.ids) - len(scores)]
        tokens = [*(Scored(id, None) for id in unscored), *(Scored(*score) for score in scores)]
        spelled = self._texts.served.texts
        return of_completion(tokens, spelled, spelled.offsets(prompt.text), 0)

    def _part(
        self,
        index: int,
        text: str,
        logprobs: dict[str, Any] | None,
        reason: str | None,
        ids: Sequence[int] = (),
    ) -> dict[str, Any]:
        """Return a part of a text; its ids are of new tokens."""
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return choice | ({"token_ids": list(ids)} if self._asked.return_token_ids else {})

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._frame(choices) | ({"usage": None} if self._asked.tells_usage else {})

    def _frame(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
