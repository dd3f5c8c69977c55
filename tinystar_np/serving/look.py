"""Looking inside an answer: the page of how its tokens came to be, for the text that a client holds.

    POST /look            {"model", "messages" or "prompt", "answer", …}  →  the page
    GET  /look/{name}     the same page once more, for a browser's frame or tab

The server keeps no texts: whoever asks gives the request and the answer again. The text is then read once,
and every intermediate of that pass is kept until the page is written. That takes seconds and memory, so it is
done in a thread of its own, one text at a time, and for a bounded number of tokens.
"""

import asyncio
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
from pydantic import Field, field_validator, model_validator
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from tinystar_np.errors import QueueFullError
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.generation.prompt import encode_prompt
from tinystar_np.models import Decoder
from tinystar_np.seeing.look import look_again
from tinystar_np.seeing.recorder import record
from tinystar_np.serving.api_errors import ApiError, stopping, wrong
from tinystar_np.serving.bodies import read
from tinystar_np.serving.chat_prompt import chat_prompt
from tinystar_np.serving.requests import CommonFields, Whole
from tinystar_np.serving.served import Served
from tinystar_np.serving.server_state import ServerState
from tinystar_np.serving.texts import CLIENT_HAS_GONE
from tinystar_np.text import Tokenizer

Result = TypeVar("Result")

MEMORY = 256_000_000
"""Bytes of intermediates that are kept at most: those of some 140 tokens of SmolLM2 135M."""
MOST_TOKENS, FEWEST_TOKENS = 256, 16
"""So many tokens are read at most, and so many always. On one core the page of 64 tokens of SmolLM2 135M took
9 s, that of 256 tokens 25 s."""
STEP = 32
"""Tokens of an answer that are looked at together: at first, and with each further step."""
FIRST = 12
"""Tokens of an answer that are looked at even where the prompt leaves no room for ``STEP``."""
NEIGHBOURS = 8  # tokens at the end of the prompt that an answer is cut together with, at most
MOST_WAITING = 4  # requests, besides the one that is being answered
KEPT = 8
"""Pages, of at most 2 MB each, that can be opened once more."""

POLICY = "sandbox allow-scripts; frame-ancestors 'self'"
"""The page has a stricter policy of its own within it. In a sandbox its scripts, should one err, reach
nothing of this server: not the conversations that the browser keeps, nor the models."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class LookRequest(CommonFields):
    """The body of /look: that of the request for a completion, and the answer to it.

    messages   of a chat completion; or
    prompt     of a completion, a text or the ids of tokens
    answer     its text, or the ids of its tokens
    index      of the answer among those to the same request
    position   of the answer's token up to which is looked at, from 1; None chooses

    The other fields say how its tokens were chosen. Without the seed it is unknown which numbers were drawn.
    """

    messages: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    prompt: str | list[int] | None = None
    answer: str | list[int]
    index: Whole = 0
    position: Annotated[int, Field(ge=1)] | None = None

    @field_validator("prompt", "answer")
    @classmethod
    def _check_text(cls, given: str | list[int] | None) -> str | list[int] | None:
        if given is not None and not given:
            raise ValueError("it must be a text or a list of ids, not empty")
        return given

    @model_validator(mode="after")
    def _check_one(self) -> "LookRequest":
        if (self.prompt is None) == (self.messages is None):
            raise wrong("prompt", "Either prompt or messages must be given: what the answer was given to.")
        return self


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


class Looks:
    """Writes pages, one at a time, and keeps the last few."""

    def __init__(self) -> None:
        self._pages: OrderedDict[str, str] = OrderedDict()
        self._one = asyncio.Lock()
        self._waiting = 0

    async def answer(self, request: Request) -> Response:
        """Write a page; a client that accepts JSON is told what it is of, and where."""
        state: ServerState = request.app.state.server
        asked = await read(request, LookRequest)
        served = state.models.find(asked.model)
        if self._waiting > MOST_WAITING:
            raise QueueFullError(f"{MOST_WAITING} answers wait to be looked at already. Try again later.")
        name = state.models.id_of(served)
        self._waiting += 1
        try:
            async with self._one:
                if await request.is_disconnected():
                    raise ApiError(CLIENT_HAS_GONE, "The client has gone.")
                found = await in_a_thread(lambda: look_at(served, asked, name))
        except asyncio.CancelledError:
            if state.stopping:
                raise stopping() from None
            raise
        finally:
            self._waiting -= 1
        place = f"/look/{self._keep(found.html)}"
        if "application/json" in request.headers.get("accept", ""):
            facts = {name: value for name, value in found._asdict().items() if name != "html"}
            return JSONResponse({"page": place, **facts}, headers={"Cache-Control": "no-store"})
        return HTMLResponse(found.html, headers={**HEADERS, "Content-Location": place})

    async def page(self, request: Request) -> Response:
        """Give one of the last pages; its name is as hard to guess as a key."""
        html = self._pages.get(request.path_params["name"])
        if html is None:
            words = "This page is not kept any longer. Look inside the answer once more."
            return Response(words, status_code=404, media_type="text/plain", headers=HEADERS)
        return HTMLResponse(html, headers=HEADERS)

    def _keep(self, html: str) -> str:
        name = secrets.token_urlsafe(24)
        self._pages[name] = html
        while len(self._pages) > KEPT:
            self._pages.popitem(last=False)
        return name


async def in_a_thread(work: Callable[[], Result]) -> Result:
    """Do some work in a daemon thread, which a server that stops does not wait for; return its result."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def tell(how: Callable[[], None]) -> None:
        if not done.done():  # where nobody waits any longer, it is cancelled
            how()

    def run() -> None:
        try:
            result = work()
        except Exception as error:
            how = partial(done.set_exception, error)
        else:
            how = partial(done.set_result, result)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, how)

    threading.Thread(target=run, name="look", daemon=True).start()
    return await done


def look_at(served: Served, asked: LookRequest, name: str) -> Look:
    """Read a text once more, and write the page.

    name  the model's, for the page

    Raises the ApiError that says what is wrong with the request.
    """
    model = served.model
    if model.part is not None:
        words = (
            f"{model.part.ranks.size} processes share this model, and what happens in the others cannot be "
            "shown. Serve it in a single process to look inside its answers."
        )
        raise wrong("model", words)
    options = SamplingOptions(**asked.sampling(served.settings, asked.index))
    prompt, answer = tokens_of(served, asked)
    if not answer:
        raise wrong("answer", "answer has no tokens.")
    served.check_ids(prompt, "prompt")
    served.check_ids(answer, "answer")
    first, last = looked_at(len(prompt), len(answer), most_tokens(model), asked.position)
    end = len(prompt) + last
    ids = (prompt + answer)[first:end]
    ids = ids[: model.context_length]  # the last token may have no position
    if first:
        name = f"{name}: the last {len(ids)} of {end} tokens, read alone"
        options = SamplingOptions(seed=None)  # they were not chosen from these logits
    before = max(1, len(prompt) - first)
    opened_at = max(before, len(ids) - STEP)
    seen = replace(look_again(model, served.tokenizer, ids, before, options, name), opened_at=opened_at)
    return Look(seen.page(), len(answer), first + opened_at + 1 - len(prompt), last, STEP, first > 0)


def tokens_of(served: Served, asked: LookRequest) -> tuple[list[int], list[int]]:
    """Return the tokens of the prompt, and those of the answer.

    The answer's ids, of a request with ``return_token_ids``, are exact. Of its text the tokens are found that
    would stand after the prompt; a model sometimes writes a word in other ones.
    """
    tokenizer = served.tokenizer
    if asked.messages is not None:
        read_by_model = chat_prompt(served, asked.messages, variables=asked.chat_template_kwargs)
        if read_by_model.images:
            words = "Answers to images are not looked at here; tinystar look --image shows how they are seen."
            raise wrong("messages", words)
        prompt = read_by_model.ids
    else:
        assert asked.prompt is not None
        given = asked.prompt
        prompt = encode_prompt(served.model, tokenizer, given) if isinstance(given, str) else given
    if isinstance(asked.answer, list):
        return prompt, asked.answer
    return prompt, answer_ids(tokenizer, prompt, asked.answer)


def answer_ids(tokenizer: Tokenizer, prompt: Sequence[int], answer: str) -> list[int]:
    """Cut an answer into tokens as they stand after its prompt.

    A tokenizer may treat the beginning of a text in its own way, as sentencepiece writes a space before it.
    So the answer is cut together with the end of the prompt, where that gives the prompt's tokens again.
    """
    alone = tokenizer.encode(answer, add_special_tokens=False)
    for length in range(1, min(len(prompt), NEIGHBOURS) + 1):
        end = list(prompt[-length:])
        text = tokenizer.decode(end, skip_special_tokens=False)
        before = tokenizer.encode(text, add_special_tokens=False)
        if before[-1:] != end[-1:]:
            continue
        both = tokenizer.encode(text + answer, add_special_tokens=False)
        if both[: len(before)] == before:
            return both[len(before) :]
    return alone


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
