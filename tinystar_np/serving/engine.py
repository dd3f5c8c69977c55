"""The engine: many requests at once on one model, each as if it were alone."""

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self, Unpack

from tinystar_np.errors import EngineClosedError, InputError, QueueFullError, TokenizerError
from tinystar_np.generation.language_model import LanguageModel, check_prompt
from tinystar_np.generation.loop import run
from tinystar_np.generation.options import Sampling, SamplingOptions
from tinystar_np.generation.scores import scored
from tinystar_np.serving.handle import Handle
from tinystar_np.text import Tokenizer


@dataclass
class _Request:
    handle: Handle
    options: SamplingOptions
    score_from: int | None
    top_logprobs: int
    cancelled: bool = False


@dataclass
class Statistics:
    """What an engine has done, and what it holds now.

    waiting           requests that nothing was read of yet
    running           requests that are read or generated
    finished          {reason: how many requests ended by it}: those of ``Piece``, and "cancelled", "timeout",
                      "error"
    prompt_tokens     tokens of prompts that were asked for
    cached_tokens     those of them that were in the cache, and not read again
    generated_tokens  new tokens
    steps             steps of the scheduler
    preempted         how often a text lost its place to another, and was read again
    blocks            blocks of the cache
    blocks_in_use     those that hold running texts
    blocks_kept       those that hold earlier texts, for requests that begin alike
    """

    waiting: int = 0
    running: int = 0
    finished: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    steps: int = 0
    preempted: int = 0
    blocks: int = 0
    blocks_in_use: int = 0
    blocks_kept: int = 0


class Engine:
    """One model for many requests.

    model         the model
    tokenizer     its tokenizer; None where only ids are wanted
    cache_memory  bytes for what is remembered of all texts, as a number or as "2GB"
    max_batch     how many texts are generated at the same time
    max_waiting   how many more may wait
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer | None = None,
        *,
        cache_memory: int | str = "1GB",
        max_batch: int = 16,
        max_waiting: int = 256,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._max_waiting = max_waiting
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._requests: dict[int, _Request] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="tinystar_np engine", daemon=True)
        self._thread.start()

    def submit(
        self,
        prompt: str | Sequence[int],
        *,
        timeout: float | None = None,
        top_logprobs: int = 0,
        score_from: int | None = None,
        **sampling: Unpack[Sampling],
    ) -> Handle:
        """Ask for a continuation."""
        if self._closed:
            raise EngineClosedError("The engine is closed.")
        options = SamplingOptions(**sampling)
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise TokenizerError("This model has no tokenizer files: give ids.")
            prompt = self.tokenizer.encode(prompt)
        ids = list(prompt)
        check_prompt(self.model, ids)
        if self._queue.qsize() >= self._max_waiting:
            raise QueueFullError(f"{self._max_waiting} requests are waiting already. Try again later.")
        handle = Handle(ids, self._cancel)
        request = _Request(handle, options, score_from, top_logprobs)
        self._requests[id(handle)] = request
        self._queue.put(request)
        return handle

    def statistics(self) -> Statistics:
        """Say what the engine has done, and what it holds now."""
        return Statistics(waiting=self._queue.qsize())

    async def generate(self, prompt: str | Sequence[int], **settings: Unpack[Sampling]) -> str:
        """Continue a prompt, and return the new text."""
        handle = self.submit(prompt, **settings)
        async for _ in handle:
            pass
        return handle.text

    def close(self, drain: bool = False) -> None:
        """End the engine; with ``drain`` after what was asked for is done."""
        self._closed = True
        if not drain:
            for request in list(self._requests.values()):
                request.cancelled = True
        self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        """Return the engine."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _cancel(self, handle: Handle) -> None:
        request = self._requests.get(id(handle))
        if request is not None:
            request.cancelled = True

    def _work(self) -> None:
        while (request := self._queue.get()) is not None:
            try:
                self._serve(request)
                request.handle.end()
            except Exception as error:
                request.handle.end(error)
            self._requests.pop(id(request.handle), None)

    def _serve(self, request: _Request) -> None:
        handle = request.handle
        if request.score_from is not None:
            start = max(request.score_from, 1)
            logits = self.model(handle.ids)
            handle.scores = scored(logits[start - 1 : -1], handle.ids[start:], request.top_logprobs)
        if request.cancelled or request.options.max_new_tokens == 0:
            return
        for piece in run(self.model, [handle.ids], self.tokenizer, request.options):
            if request.cancelled:
                raise InputError("cancelled")
            handle.push([replace(piece)])
