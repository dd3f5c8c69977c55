"""A load of requests: clients that ask a server for texts at the same time, and what they see of it.

A *service* is what is asked: a server that speaks OpenAI's ``/v1/completions`` (``Server``), or an engine
in this process (``InProcess``). Prompts are text, of exactly so many tokens; each begins with another token
than all others, so that a cache of prefixes helps nobody unless that is measured. Every answer has exactly as
many tokens as were asked for, or the measurement ends with an error: where a server says how many it made
(``usage``) the number is compared, and elsewhere it must say that the length ended the text.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Protocol

import httpx
from tokenizers import Tokenizer

from tinystar_np.serving.engine import Engine

LONGEST = 300.0  # seconds without a byte from a server before a request counts as stuck
STEADY = 12  # tokens that each of the others has when a probe begins
WARM_UP = 16  # prompt tokens, and new ones, before anything is measured


class LoadError(Exception):
    """A server refused, or did other work than it was asked to do."""


@dataclass
class Answer:
    """A text as a client saw it arrive.

    sent    when it was asked for, in seconds of ``time.perf_counter``
    times   when each piece of it arrived
    tokens  new tokens as the server counts them; None where it does not say
    prompt  prompt tokens, likewise
    reason  why it ended, in OpenAI's words
    """

    sent: float
    times: list[float] = field(default_factory=list)
    tokens: int | None = None
    prompt: int | None = None
    reason: str | None = None

    @property
    def to_first(self) -> float:
        """Seconds to the first token."""
        return self.times[0] - self.sent

    def per_token(self, new: int) -> float:
        """Seconds per token after the first."""
        return (self.times[-1] - self.times[0]) / (new - 1)

    def check(self, prompt: int, new: int) -> None:
        """Raise LoadError unless exactly the work was done that was asked for."""
        if not self.times:
            raise LoadError(f"no text arrived: {self}")
        if self.tokens not in (None, new) or self.reason != "length":
            raise LoadError(f"{new} new tokens were asked for, {self.tokens} made, ended by {self.reason!r}")
        if self.prompt not in (None, prompt):
            raise LoadError(f"a prompt of {prompt} tokens was read as {self.prompt}")


class Service(Protocol):
    """What can be asked for a text."""

    def stream(self, prompt: str, new: int, answer: Answer) -> AsyncIterator[None]:
        """Ask for a text; fill in the answer, and yield after each piece."""


class Server:
    """A server on the loopback.

    url    its address, "http://127.0.0.1:8000"
    model  the model's name in requests
    extra  further fields of each request
    """

    def __init__(self, url: str, model: str, extra: dict[str, object] | None = None) -> None:
        self.url, self.model, self.extra = url, model, extra or {}
        # A connection for each request: some servers close a kept one just when the next request comes.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self.http = httpx.AsyncClient(base_url=url, limits=limits, timeout=LONGEST, trust_env=False)

    async def stream(self, prompt: str, new: int, answer: Answer) -> AsyncIterator[None]:
        body = {"model": self.model, "prompt": prompt, "max_tokens": new, "temperature": 0, "stream": True}
        body |= {"stream_options": {"include_usage": True}, **self.extra}
        async with self.http.stream("POST", "/v1/completions", json=body) as response:
            if response.status_code != httpx.codes.OK:
                said = (await response.aread()).decode(errors="replace")
                raise LoadError(f"{self.url} answers {response.status_code}: {said[:500]}")
            async for line in response.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                chunk = json.loads(line[len("data: ") :])
                if "error" in chunk:
                    raise LoadError(f"{self.url}: {chunk['error']}")
                if usage := chunk.get("usage"):
                    answer.tokens, answer.prompt = usage["completion_tokens"], usage["prompt_tokens"]
                for choice in chunk.get("choices", ()):
                    answer.reason = choice.get("finish_reason") or answer.reason
                    if choice.get("text"):
                        answer.times.append(time.perf_counter())
                        yield


class InProcess:
    """An engine in this process, without a server."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def stream(self, prompt: str, new: int, answer: Answer) -> AsyncIterator[None]:
        handle = self.engine.submit(prompt, max_new_tokens=new, temperature=0.0)
        async for piece in handle:
            answer.times.append(time.perf_counter())
            answer.reason = piece.finish_reason
            yield
        answer.tokens, answer.prompt = handle.usage.generated, handle.usage.prompt


class Prompts:
    """Prompts of given lengths from texts, no two of which begin with the same token.

    tokenizer  the model's
    texts      files to cut them from
    """

    def __init__(self, tokenizer: Path, texts: Iterable[Path]) -> None:
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.words = " ".join(text.read_text(encoding="utf-8") for text in texts).split()
        self.words = [word for word in self.words if word.isascii()]
        self.begun: set[int] = set()
        self.place = 0

    def of(self, tokens: int, begins_anew: bool = True) -> str:
        """Cut the next prompt; only where it ``begins_anew`` its first token is one that none began with."""
        tried = 0
        while (tried := tried + 1) <= len(self.words):
            start = self.place
            self.place = (start + 1) % len(self.words)
            text = (" " if not begins_anew else "") + " ".join(self.words[start : start + tokens])
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids[:tokens]
            if len(ids) < tokens or (begins_anew and ids[0] in self.begun):
                continue
            cut = self.tokenizer.decode(ids, skip_special_tokens=False)
            if self.tokenizer.encode(cut, add_special_tokens=False).ids != ids:
                continue  # its last token would be another one, were the text to end there
            self.begun.add(ids[0])
            self.place = (start + tokens) % len(self.words)
            return cut
        raise LoadError(f"the texts have no further prompt of {tokens} tokens that begins with a new token")

    def joined(self, prefix: str, tokens: int) -> str:
        """Continue a prefix by so many tokens."""
        before = self.tokenizer.encode(prefix, add_special_tokens=False).ids
        while True:
            text = prefix + self.of(tokens, begins_anew=False)
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids
            if ids[: len(before)] == before and len(ids) == len(before) + tokens:
                return text


async def fill(answer: Answer, service: Service, prompt: str, length: int, new: int) -> None:
    """Ask for one text and wait for its end."""
    async for _ in service.stream(prompt, new, answer):
        pass
    answer.check(length, new)


async def ask(service: Service, prompt: str, length: int, new: int) -> Answer:
    """Ask for one text and return it."""
    answer = Answer(time.perf_counter())
    await fill(answer, service, prompt, length, new)
    return answer


async def throughput(
    service: Service, prompts: Prompts, clients: int, requests: int, length: int, new: int
) -> dict[str, float]:
    """Let clients ask at the same time, each for one text after another.

    clients   how many
    requests  of each
    length    tokens of each prompt
    new       tokens of each text

    Returns tokens/s of the whole run (all new tokens by the time from the first request to the last token),
    seconds to the first token (the median, and of 95 in 100), and seconds per token after it.
    """
    asked = [[prompts.of(length) for _ in range(requests)] for _ in range(clients)]

    async def client(texts: list[str]) -> list[Answer]:
        return [await ask(service, text, length, new) for text in texts]

    start = time.perf_counter()
    answers = [each for some in await asyncio.gather(*map(client, asked)) for each in some]
    seconds = max(answer.times[-1] for answer in answers) - start
    first = [answer.to_first for answer in answers]
    return {
        "tokens/s": len(answers) * new / seconds,
        "first, s": median(first),
        "first, 95 %, s": quantiles(first, n=20, method="inclusive")[-1] if len(first) > 1 else first[0],
        "token, s": median(answer.per_token(new) for answer in answers),
    }


async def in_company(
    service: Service, prompts: Prompts, others: int, probes: int, new: int
) -> dict[str, float]:
    """Ask for a text after a prompt of 16 tokens, alone and while others are generated.

    others  how many
    probes  how often, one after another, each time with new others
    new     tokens of each of the others; more than the probe needs

    Returns seconds to the first token, alone and in company, the median seconds of a step of the others
    (before the probe begins), and the difference in such steps. A server that makes one text after another
    cannot be asked: where one of the others has ended before all have begun, nothing is returned.
    """
    alone, company, steps, extra = [], [], [], []
    for _ in range(probes):
        alone.append((await ask(service, prompts.of(16), 16, 4)).to_first)
        running = [Answer(time.perf_counter()) for _ in range(others)]
        tasks = [asyncio.create_task(fill(answer, service, prompts.of(16), 16, new)) for answer in running]
        while not all(len(answer.times) > STEADY for answer in running):
            await asyncio.sleep(0.005)
            if any(task.done() for task in tasks):
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                return {}
        all_begun, now = max(answer.times[0] for answer in running), time.perf_counter()
        company.append((await ask(service, prompts.of(16), 16, 4)).to_first)
        if any(task.done() for task in tasks):
            raise LoadError("one of the others had ended before the probe did: give them more tokens")
        await asyncio.gather(*tasks)
        pairs = [pair for answer in running for pair in pairwise(answer.times)]
        steps.append(
            median(after - before for before, after in pairs if all_begun <= before and after <= now)
        )
        extra.append((company[-1] - alone[-1]) / steps[-1])
    return {
        "alone, s": median(alone),
        "in company, s": median(company),
        "step, s": median(steps),
        "extra steps": median(extra),
        "most extra steps": max(extra),
    }


async def shared_prefix(service: Service, prompts: Prompts, prefix: int, times: int) -> dict[str, float]:
    """Ask twice after the same prefix, with different continuations of 16 tokens.

    prefix  its tokens
    times   with how many prefixes

    Returns seconds to the first token, the first time and the second, and their ratio: medians.
    """
    first, second = [], []
    for _ in range(times):
        begun = prompts.of(prefix)
        for found in (first, second):
            text = prompts.joined(begun, 16)
            found.append((await ask(service, text, prefix + 16, 4)).to_first)
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    return {"first time, s": median(first), "second time, s": median(second), "times shorter": median(ratios)}


async def warm_up(service: Service, prompts: Prompts) -> None:
    """Ask for a first text, which is not measured."""
    await ask(service, prompts.of(WARM_UP), WARM_UP, WARM_UP)
