"""The engine: one model that serves many requests at once, each as if it were alone.

Requests are submitted from any thread. The model works in one: the engine's own, or the one that calls
``work``. At each turn it takes in new requests and cancellations, and takes a step of the scheduler
(generation/scheduler.py). Keys and values of all requests are in one pool (cache/pool.py).

**What other requests change.** Greedy texts, and those that are drawn with a seed, are what ``ts.generate``
gives alone: each has its own random numbers, and reads only its own tokens. A product of many rows may sum in
another order than one of a single row, and so may a prefix that was read in other pieces. So logits differ in
their last bits, some 1e-6 of their size: enough to change a text only where two tokens are as likely to as
many digits.
"""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, Unpack

from tinystar_np.amounts import bytes_in, size_of
from tinystar_np.cache.pool import Pool
from tinystar_np.errors import (
    ContextFullError,
    EngineClosedError,
    InputError,
    QueueFullError,
    RanksError,
    RequestTimeoutError,
    TokenizerError,
)
from tinystar_np.generation.image_prompt import encode_with_images, read_images
from tinystar_np.generation.language_model import check_prompt, room_after
from tinystar_np.generation.memory import SharedPool
from tinystar_np.generation.options import Sampling, SamplingOptions
from tinystar_np.generation.request import Request
from tinystar_np.generation.row import Piece, Row
from tinystar_np.generation.scheduler import Scheduler
from tinystar_np.generation.setting_names import takes_sampling
from tinystar_np.models import Decoder
from tinystar_np.models.vision_part import check_images, places_of
from tinystar_np.serving.handle import Handle
from tinystar_np.serving.statistics import Statistics, Turn
from tinystar_np.text import Tokenizer

PROMPT_TOKENS = 128
"""The most tokens of prompts between two steps of the texts that are being generated (chunked prefill)."""


class Engine:
    """One model for many requests.

    model         the model
    tokenizer     its tokenizer; None where only ids are wanted
    cache_memory  bytes of the cache that all requests share, as a number or as "2GB"; where several
                  processes share the model, of the part that each of them has
    max_batch     the most texts that are read or generated at the same time
    max_waiting   the most requests that wait for a place
    own_thread    whether it works in a thread of its own; where not, in the one that calls ``work``. In the
                  main thread attention and scans are divided among cores, elsewhere only large products.
    on_turn       called after each call of the model, in the engine's thread

    Raises InputError where the cache's memory is too small for the model.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer | None = None,
        *,
        cache_memory: int | str = "1GB",
        max_batch: int = 16,
        max_waiting: int = 256,
        own_thread: bool = True,
        on_turn: Callable[[Turn], None] | None = None,
    ) -> None:
        if max_batch < 1 or max_waiting < 0:
            raise InputError(f"max_batch is {max_batch} and max_waiting {max_waiting}: at least 1 and 0.")
        self.model, self.tokenizer = model, tokenizer
        memory = cache_memory if isinstance(cache_memory, int) else bytes_in(cache_memory)
        self.pool = Pool.within(model, memory, max_batch)
        self._scheduler = Scheduler(SharedPool(self.pool), prompt_tokens=PROMPT_TOKENS)
        self._max_waiting = max_waiting
        self._on_turn = on_turn
        self._lock = threading.Lock()
        self.wake = threading.Event()
        """Set where there is something to do."""
        self._arrived: deque[tuple[Request, Handle, float]] = deque()
        self._cancelled: deque[Handle] = deque()
        self._requests: dict[Handle, Request] = {}
        self._handles: dict[Request, Handle] = {}
        self._deadlines: dict[Handle, float] = {}
        self._counts = Statistics(blocks=self.pool.blocks.count)
        self._finished: Counter[str] = Counter()
        self._closing = self._draining = False
        self._thread = None
        if own_thread:
            self._thread = threading.Thread(target=work, args=([self],), name="engine", daemon=True)
            self._thread.start()

    @takes_sampling
    def submit(
        self,
        prompt: str | Sequence[int],
        *,
        images: Sequence[Any] = (),
        timeout: float | None = None,
        top_logprobs: int = 0,
        score_from: int | None = None,
        answers: bool = False,
        marks: Sequence[int] = (),
        **sampling: Unpack[Sampling],
    ) -> Handle:
        """Ask for the continuation of a text.

        prompt        a text, or its token ids
        images        of a text: files' names, bytes, PIL images, arrays; of ids: what ``processor.prompt``
                      returned with them
        timeout       seconds after which the text ends with an error, if it has not ended; None for none
        top_logprobs  how many of the likeliest tokens to name with each new one, and each scored one
        score_from    the first of the prompt's tokens to score, see ``Handle.scores``; None for none. With
                      ``max_new_tokens=0`` the prompt is only scored.
        answers       whether the prompt is a conversation that an answer follows: it is decoded as a text of
                      its own, and the tokenizer's end token ends it too
        marks         lengths of the prompt up to which other prompts may share it, as where a message ends;
                      only models with recurrences need them
        sampling      see SamplingOptions

        Returns at once. Raises InputError for an option out of range or an empty prompt, TokenizerError for a
        text where there is no tokenizer, ContextFullError for a prompt too long, QueueFullError where too
        many requests wait, EngineClosedError after ``close``.
        """
        options = SamplingOptions(**sampling)
        if options.prompt_lookup_num_tokens:
            raise InputError("prompt_lookup_num_tokens works on one prompt at a time, and not in an engine.")
        self._check_open()
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise TokenizerError("This model has no tokenizer files: give an engine token ids.")
            encoded = encode_with_images(self.model, self.tokenizer, prompt, images)
            ids, its_images = list(encoded.ids), list(encoded.images)
        else:
            check_images(images)
            ids, its_images = [int(id) for id in prompt], list(images)
        if ids:
            self.model.checked(ids)
        check_prompt(self.model, ids, of_images=places_of(its_images))
        if len(ids) > self.pool.tokens:
            raise ContextFullError(
                f"The prompt has {len(ids)} tokens, but the engine's cache of {size_of(self.pool.nbytes)} "
                f"holds {self.pool.tokens}. Shorten it, or give the engine more memory."
            )
        last = self.model.vocab_size - 1
        for id, _ in options.biases:
            if id > last:
                raise InputError(f"logit_bias names token {id}, but the vocabulary ends at {last}.")
        if score_from is not None and not 0 <= score_from <= len(ids):
            raise InputError(f"score_from is {score_from}, but the prompt has {len(ids)} tokens.")
        room = self.pool.tokens - len(ids) + 1
        fits = room_after(self.model, ids)
        ends = {*self.model.end_ids}
        if answers and self.tokenizer is not None and self.tokenizer.end_id is not None:
            ends.add(self.tokenizer.end_id)
        row = Row(
            0,
            ids,
            self.tokenizer,
            options,
            ends,
            room if fits is None else min(fits, room),
            begun=() if answers else None,
            top=top_logprobs,
        )
        request = Request(
            row,
            options.max_new_tokens,
            images=read_images(self.model, its_images),
            score_from=score_from,
            top=top_logprobs,
            marks=marks,
        )
        handle = Handle(ids, self._cancel)
        with self._lock:
            self._check_open()
            if len(self._arrived) + len(self._scheduler.waiting) >= self._max_waiting + self._free_places():
                raise QueueFullError(
                    f"As many requests wait as may wait ({self._max_waiting}). Send this one again later."
                )
            deadline = math.inf if timeout is None else time.monotonic() + timeout
            self._arrived.append((request, handle, deadline))
        self.wake.set()
        return handle

    async def generate(self, prompt: str | Sequence[int], **settings: Any) -> str:
        """Continue a prompt, and return the new text; the arguments and errors are those of ``submit``."""
        handle = self.submit(prompt, **settings)
        try:
            async for _ in handle:
                pass
        finally:
            handle.cancel()
        return handle.text

    def statistics(self) -> Statistics:
        """Return what the engine has done, and what it holds now."""
        scheduler, blocks = self._scheduler, self.pool.blocks
        with self._lock:
            waiting = len(scheduler.waiting) + len(self._arrived)
        return replace(
            self._counts,
            waiting=waiting,
            reading=len(scheduler.reading),
            generating=len(scheduler.running),
            finished=dict(self._finished),
            preempted=scheduler.preempted,
            blocks_kept=blocks.kept,
            blocks_in_use=blocks.in_use,
        )

    def close(self, drain: bool = False) -> None:
        """Take no more requests, and end: at once, or with ``drain`` when all texts have ended."""
        with self._lock:  # whoever submits is before it, and served, or after it, and refused
            self._draining = drain and (self._draining or not self._closing)
            self._closing = True
        self.wake.set()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        """Return the engine."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, {size_of(self.pool.nbytes)} of cache)"

    def _check_open(self) -> None:
        if self._closing:
            raise EngineClosedError("The engine is closed, and takes no more requests.")

    def _free_places(self) -> int:
        """Return how many texts could begin at once."""
        busy = len(self._scheduler.reading) + len(self._scheduler.running)
        return max(0, self.pool.rows - busy)

    def _cancel(self, handle: Handle) -> None:
        if not handle.ended:
            self._cancelled.append(handle)
            self.wake.set()

    # In the thread that works

    @property
    def is_done(self) -> bool:
        """Whether it is closed, and nothing is left to do."""
        return self._closing and not self._arrived and not self._scheduler.is_busy

    def turn(self) -> bool:
        """Take in what has come, and let the model work once; False where there was nothing to do."""
        self._take_in()
        if self._closing and not self._draining:
            self._end_all(EngineClosedError("The engine was closed before the text was complete."))
        if not self._scheduler.is_busy:
            return False
        begun = time.perf_counter()
        handles = dict(self._handles) if self._on_turn is not None else {}
        try:
            said = self._scheduler.step(self.model)
            self._counts.steps += bool(self._scheduler.call.tokens)
            for request, pieces in said:
                self._deliver(request, pieces)
            if self._on_turn is not None and self._scheduler.call.tokens:
                self._on_turn(self._turn_since(begun, handles, said))
        except Exception as error:  # whatever it is, those who wait must be told, and others served
            for request in list(self._scheduler.call.tokens or self._handles):
                if request in self._handles:
                    self._end(self._handles[request], "error", error)
            if isinstance(error, RanksError):  # no call of the model can succeed any more
                raise
        return True

    def _take_in(self) -> None:
        """Take in new requests and cancellations, and end those whose time is over."""
        # Cancellations first: of each of them the request has come, and is taken in before it is ended.
        cancelled = [self._cancelled.popleft() for _ in range(len(self._cancelled))]
        with self._lock:
            while self._arrived:
                request, handle, deadline = self._arrived.popleft()
                self._requests[handle], self._handles[request] = request, handle
                if deadline < math.inf:
                    self._deadlines[handle] = deadline
                self._scheduler.add(request)
        for handle in cancelled:
            self._end(handle, "cancelled")
        now = time.monotonic()
        for handle, deadline in list(self._deadlines.items()):
            if now > deadline:
                self._end(handle, "timeout", RequestTimeoutError("The text was not complete in time."))

    def _deliver(self, request: Request, pieces: list[Piece]) -> None:
        """Hand a request's new pieces to its handle, and end it where they are the last."""
        handle = self._handles[request]
        if not handle.usage.generated:
            handle.usage.cached = request.cached or 0
            self._counts.prompt_tokens += handle.usage.prompt
            self._counts.cached_tokens += handle.usage.cached
            handle.scores = request.scores
        self._counts.generated_tokens += len(pieces)
        handle.push(pieces)
        if request.ended:
            reason = "error" if request.error else handle.finish_reason or "scored"
            self._end(handle, reason, request.error)

    def _end(self, handle: Handle, reason: str, error: Exception | None = None) -> None:
        """End a request.

        reason  of ``Statistics.finished``
        error   raised to who reads the handle; None for nothing
        """
        self._deadlines.pop(handle, None)
        request = self._requests.pop(handle, None)
        if request is None:
            return  # it has ended already
        del self._handles[request]
        if not request.ended:
            self._scheduler.cancel(request)
        self._finished[reason] += 1
        handle.end(error)

    def _end_all(self, error: Exception) -> None:
        for handle in list(self._requests):
            self._end(handle, "error", error)

    def _give_up(self) -> None:
        """End all requests: the thread that works has ended by an error."""
        with self._lock:
            self._closing = True
            waiting = [*self._requests, *(handle for _, handle, _ in self._arrived)]
        for handle in waiting:
            handle.end(EngineClosedError("The engine ended by an error before the text was complete."))

    def _turn_since(
        self, begun: float, handles: dict[Request, Handle], said: list[tuple[Request, list[Piece]]]
    ) -> Turn:
        """Return what the model did in its last call.

        begun    when it began, by ``time.perf_counter``
        handles  those of the requests before it
        said     the new pieces of each request
        """
        call, begun_texts = self._scheduler.call, {*self._scheduler.reading, *self._scheduler.running}
        tables = {
            handle: request.text.table
            for request, handle in handles.items()
            if request.text is not None and request in begun_texts
        }
        return Turn(
            begun,
            time.perf_counter(),
            read={handles[request]: tokens for request, tokens in call.tokens.items() if call.of_prompts},
            generated=tuple(handles[request] for request, pieces in said if pieces),
            blocks={handle: len(table) for handle, table in tables.items()},
            blocks_in_use=self.pool.blocks.in_use,
            blocks_kept=self.pool.blocks.kept,
        )


def work(engines: Sequence[Engine]) -> None:
    """Work for engines in turn, in this thread, until all are closed and done."""
    wake = threading.Event()
    for engine in engines:
        engine.wake = wake
    wake.set()
    try:
        while not all(engine.is_done for engine in engines):
            wake.clear()
            worked = [engine.turn() for engine in engines]
            if not any(worked) and not all(engine.is_done for engine in engines):
                wake.wait()
    except BaseException:  # also Ctrl-C: nobody may wait for ever
        for engine in engines:
            engine._give_up()
        raise
