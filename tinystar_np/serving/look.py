"""Looking inside an answer: the page of how its tokens came to be, for the text that a client holds.

    POST /look            {"model", "messages" or "prompt", "answer", …}  →  the page
    GET  /look/{name}     the same page once more, for a browser's frame or tab

The server keeps no texts: whoever asks gives the request and the answer again. The text is then read once,
and every intermediate of that pass is kept until the page is written. That takes seconds and memory, so it is
done in a thread of its own, one text at a time, and for a bounded number of tokens.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
from anyio import CapacityLimiter, to_thread
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tinystar_np.errors import InputError, QueueFullError, TokenizerError
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.models import Decoder
from tinystar_np.seeing.look import look_again
from tinystar_np.seeing.recorder import record
from tinystar_np.text import Tokenizer

MEMORY = 256_000_000
"""Bytes of intermediates that are kept at most: those of some 140 tokens of SmolLM2 135M."""
MOST_TOKENS, FEWEST_TOKENS = 256, 16
"""So many tokens are read at most, and so many always. On one core the page of 64 tokens of SmolLM2 135M took
9 s, that of 256 tokens 25 s."""
STEP = 32
"""Where nothing else is asked for, so many of an answer's first tokens are looked at; fewer where the prompt
leaves no room, but so many always:"""
FIRST = 12
MOST_WAITING = 4
KEPT = 8
"""Pages, of at most 2 MB each, that can be opened once more."""

POLICY = "sandbox allow-scripts; frame-ancestors 'self'"
"""The page has a stricter policy of its own within it. In a sandbox its scripts, should one err, reach nothing
of this server: not the conversations that the browser keeps, nor the models."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Served(Protocol):
    """A model as the server has it."""

    @property
    def name(self) -> str:
        """What clients call it."""

    @property
    def model(self) -> Decoder:
        """The model."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Its tokenizer."""


class LookRequest(BaseModel):
    """What is looked at: a request, and the answer to it.

    model      as in the request
    messages   of a chat completion; or
    prompt     of a completion, a text or token ids
    answer     its text, or its token ids
    position   of the answer's token up to which is looked at, from 1; None chooses

    The rest says how the answer's tokens were chosen, with the names and defaults of the request. With a
    temperature and without the seed, how each was drawn is not shown.
    """

    model: str | None = None
    messages: list[dict[str, Any]] | None = None
    prompt: str | list[int] | None = None
    answer: Annotated[str | list[int], Field(min_length=1)]
    position: Annotated[int, Field(ge=1)] | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    seed: int | None = None


SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "no_repeat_ngram_size",
)


class Look(NamedTuple):
    """A page, and what it is of.

    html    the page
    tokens  of the answer
    first   the number of the answer's token at which it opens, from 1
    last    that of the last
    step    how many further tokens are looked at next
    alone   whether what comes before the text's last tokens was left out
    """

    html: str
    tokens: int
    first: int
    last: int
    step: int
    alone: bool


def look_routes(find: Callable[[str | None], Served]) -> list[Route]:
    """Return the routes.

    find  gives the model of a name, or the only one for None; it raises what the server answers
    """
    looks = Looks(find)
    return [
        Route("/look", looks.answer, methods=["POST"]),
        Route("/look/{name}", looks.page, methods=["GET"]),
    ]


class Looks:
    """Writes pages, one at a time, and keeps the last few; ``find`` is that of ``look_routes``."""

    def __init__(self, find: Callable[[str | None], Served]) -> None:
        self._find = find
        self._pages: OrderedDict[str, str] = OrderedDict()
        self._one = CapacityLimiter(1)
        self._waiting = 0

    async def answer(self, request: Request) -> Response:
        """Write a page; a client that accepts JSON is told where it is."""
        try:
            asked = LookRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise InputError(_sentence(error)) from None
        served = self._find(asked.model)
        if self._waiting > MOST_WAITING:
            raise QueueFullError(f"{MOST_WAITING} answers wait to be looked at already. Try again later.")
        self._waiting += 1
        try:
            async with self._one:
                if await request.is_disconnected():
                    return Response(status_code=499)
                found = await to_thread.run_sync(partial(written, served, asked))
        finally:
            self._waiting -= 1
        name = self._keep(found.html)
        place = f"/look/{name}"
        if "application/json" in request.headers.get("accept", ""):
            facts = found._asdict() | {"page": place}
            del facts["html"]
            return JSONResponse(facts, headers={"Cache-Control": "no-store"})
        return HTMLResponse(found.html, headers=HEADERS | {"Content-Location": place})

    async def page(self, request: Request) -> Response:
        """Give one of the last pages; its name is as hard to guess as a key."""
        html = self._pages.get(request.path_params["name"])
        if html is None:
            words = "This page is not kept any longer. Look inside the answer once more."
            return Response(words, status_code=404, media_type="text/plain", headers=HEADERS)
        return HTMLResponse(html, headers=HEADERS)

    def _keep(self, html: str) -> str:
        name = secrets.token_urlsafe(16)
        self._pages[name] = html
        while len(self._pages) > KEPT:
            self._pages.popitem(last=False)
        return name


def written(served: Served, asked: LookRequest) -> Look:
    """Read the text once more, and write the page.

    Raises InputError for a request that is none, or as ``SamplingOptions`` and ``ChatTemplate.render`` do;
    TokenizerError where there is no tokenizer or no template.
    """
    model = served.model
    options = SamplingOptions(seed=asked.seed, **{name: getattr(asked, name) for name in SAMPLING})
    prompt, answer = tokens_of(served, asked)
    if not answer:
        raise InputError("answer has no tokens.")
    for id in (*prompt, *answer):
        if not 0 <= id < model.vocab_size:
            raise InputError(f"The token id {id} is outside the vocabulary, 0 to {model.vocab_size - 1}.")
    first, last = looked_at(len(prompt), len(answer), most_tokens(model), asked.position)
    end = len(prompt) + last
    ids = (prompt + answer)[first:end]
    ids = ids[: model.context_length]  # the last token may have no position
    name = served.name
    if first:
        name = f"{name}: the last {len(ids)} of {end} tokens, read alone"
        options = SamplingOptions(seed=None)  # it was not chosen from these logits
    before = max(1, len(prompt) - first)
    opened_at = max(before, len(ids) - STEP)
    seen = replace(look_again(model, served.tokenizer, ids, before, options, name), opened_at=opened_at)
    return Look(seen.page(), len(answer), first + opened_at + 1 - len(prompt), last, STEP, first > 0)


def tokens_of(served: Served, asked: LookRequest) -> tuple[list[int], list[int]]:
    """Return the tokens of the prompt, and those of the answer.

    An answer given as text is cut into tokens after its prompt; they nearly always are those that were
    written. Given as ids it is exact.
    """
    if (asked.messages is None) == (asked.prompt is None):
        raise InputError("Give either messages or prompt: what the answer was given to.")
    tokenizer, text, special = served.tokenizer, asked.prompt, True
    if asked.messages is not None:
        template = None if tokenizer is None else tokenizer.chat_template
        if template is None:
            raise TokenizerError("This model has no chat template: give a prompt instead of messages.")
        text, special = template.render(asked.messages), False
    if isinstance(text, list) and isinstance(asked.answer, list):
        return text, asked.answer
    if tokenizer is None:
        raise TokenizerError("This model has no tokenizer files: give ids.")
    if isinstance(text, list):
        assert isinstance(asked.answer, str)
        return text, tokenizer.encode(asked.answer, add_special_tokens=False)
    assert text is not None
    prompt = tokenizer.encode(text, add_special_tokens=special)
    if isinstance(asked.answer, list):
        return prompt, asked.answer
    whole = tokenizer.encode(text + asked.answer, add_special_tokens=special)
    if whole[: len(prompt)] == prompt:
        return prompt, whole[len(prompt) :]
    return prompt, tokenizer.encode(asked.answer, add_special_tokens=False)


def looked_at(prompt: int, answer: int, most: int, position: int | None) -> tuple[int, int]:
    """Choose what is looked at.

    prompt, answer  how many tokens they have
    most            how many are looked at
    position        up to which of the answer's; None for its first, and fewer where the prompt leaves no room

    Returns the text's first token that is looked at, and how many of the answer's are.
    """
    last = min(STEP, max(most - prompt, FIRST)) if position is None else position
    last = min(answer, last)
    return max(0, prompt + last - most), last


def most_tokens(model: Decoder) -> int:
    """Return how many tokens' intermediates have room in ``MEMORY``.

    A text of T tokens has a·T + b·T² bytes of them, b being attention's; texts of one and of two tokens say a
    and b.
    """
    one, two = (_recorded_bytes(model, [0] * tokens) for tokens in (1, 2))
    b = max(0.0, two / 2 - one)
    a = one - b
    tokens = MEMORY / a if b == 0 else (np.sqrt(a * a + 4 * b * MEMORY) - a) / (2 * b)
    return int(min(MOST_TOKENS, max(FEWEST_TOKENS, tokens)))


def _recorded_bytes(model: Decoder, ids: Sequence[int]) -> int:
    with record() as recording:
        model(np.array(ids))
    return recording.nbytes


def _sentence(error: ValidationError) -> str:
    """Say the first thing that is wrong with a request."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}." if where else f"The request is not valid: {first['msg']}."
