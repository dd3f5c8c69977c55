"""A soak test: a server works for long under a mixed load, and what only time shows is looked for.

    python benchmarks/soak.py smollm2 --minutes 30
    python benchmarks/soak.py stories --minutes 2 --cache-memory 6MB

Starts ``tinystar serve`` with a cache so small that texts lose their places. Clients ask for texts, whole and
streamed, for beginnings that many prompts share, texts drawn with a seed, scores of given texts, and
conversations; some leave in the middle of a text, send half a request, or a wrong one. The same request must
always get the same answer; each must end in time; a wrong one must be refused with the fitting status and
OpenAI's form of error; what ``/metrics`` says must be what was asked for; at the end nothing runs and no
block is held; and the server's memory, open files and threads must not grow. Exit code 1 where one of these
fails. Needs Linux for the last three.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
from load import LoadError
from servers import TINYSTAR, Kind, resident, started

from tinystar_np.amounts import size_of
from tinystar_np.cli.streams import say
from tinystar_np.cli.terminal import progress_line, say_table

STUCK = 120.0  # seconds after which a request counts as stuck
EVERY = 2.0  # seconds between two looks at the server's process
SETTLED = 0.25  # of the time, after which memory may no longer grow
GROWTH = 0.03  # of the memory, which may come and go
ROOM = 8 << 20  # bytes, the same
TOLERANCE = 1e-4  # of a log-probability; a batch sums in another order
THEMES = ("The ship", "A teacher", "Once upon a time", "In the garden", "My brother", "Every morning")
TURNS = (
    " and the dog",
    " saw that it",
    ", who was late,",
    " in a small town",
    " with a red hat",
    " did not know",
)
LONG = "The old house stood at the end of the road, and nobody had lived in it for years. "

Body = dict[str, object]


@dataclass
class Tally:
    """What was asked for, and what came of it.

    asked      {kind of request: how many}
    faults     what should not have happened
    answers    {a request: its answer, which must always be the same}
    texts      texts that the server has taken on
    tokens     new tokens of texts that ended
    cut_least  new tokens of texts that were left in the middle: so many arrived
    cut_most   so many could have been made
    seconds    of each request
    """

    asked: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    answers: dict[str, object] = field(default_factory=dict)
    texts: int = 0
    tokens: int = 0
    cut_least: int = 0
    cut_most: int = 0
    seconds: list[float] = field(default_factory=list)

    def same(self, body: Body, answer: object) -> None:
        """Hold an answer against the earlier ones to the same request."""
        key = json.dumps({name: value for name, value in body.items() if not name.startswith("stream")})
        known = self.answers.setdefault(key, answer)
        if isinstance(known, list) and isinstance(answer, list):
            far = max(abs(a - b) for a, b in zip(known, answer, strict=True))
            if far > TOLERANCE:
                self.faults[f"scores {far:.1g} from the first ones"] += 1
        elif known != answer:
            self.faults["another answer to the same request"] += 1


class Client:
    """One of many clients: asks for one thing after another, at random.

    http   the connection
    tally  of all clients
    port   the server's
    chats  whether the model has conversations
    """

    def __init__(self, http: httpx.AsyncClient, tally: Tally, port: int, seed: int, chats: bool) -> None:
        self.http, self.tally, self.port = http, tally, port
        self.random = random.Random(seed)
        self.kinds: list[tuple[str, int, Callable[[], Awaitable[None]]]] = [
            ("whole text", 4, self.whole),
            ("stream", 6, self.stream),
            ("shared beginning", 4, self.shared),
            ("drawn with a seed", 3, self.drawn),
            ("scores", 2, self.scores),
            ("left in the middle", 4, self.leave),
            ("left before the answer", 2, self.leave_early),
            ("half a request", 1, self.half),
            ("wrong request", 3, self.wrong),
        ]
        if chats:
            self.kinds.append(("conversation", 3, self.converse))

    async def run(self, end: float) -> None:
        """Ask until the time is over."""
        while time.monotonic() < end:
            ((name, _, ask),) = self.random.choices(self.kinds, [weight for _, weight, _ in self.kinds])
            begun = time.monotonic()
            self.tally.asked[name] += 1
            try:
                await asyncio.wait_for(ask(), STUCK)
            except TimeoutError:
                self.tally.faults[f"stuck: {name}"] += 1
            except (httpx.HTTPError, LoadError, OSError) as error:
                self.tally.faults[f"{name}: {type(error).__name__} {error}"[:200]] += 1
            self.tally.seconds.append(time.monotonic() - begun)

    def body(self, **more: object) -> Body:
        prompt = self.random.choice(THEMES) + self.random.choice(TURNS)
        new = self.random.choice((8, 24, 48))
        return {"prompt": prompt, "max_tokens": new, "temperature": 0, **more}

    async def post(self, body: Body, path: str = "/v1/completions") -> dict:
        """Ask for a whole answer, and count its tokens."""
        answer = await self.http.post(path, json=body)
        if answer.status_code != httpx.codes.OK:
            raise LoadError(f"status {answer.status_code}: {answer.text[:120]}")
        found = answer.json()
        self.tally.texts += 1
        self.tally.tokens += found["usage"]["completion_tokens"]
        return found

    async def whole(self) -> None:
        body = self.body()
        self.tally.same(body, (await self.post(body))["choices"][0]["text"])

    async def shared(self) -> None:
        body = self.body()
        body["prompt"] = LONG * 12 + str(body["prompt"])
        self.tally.same(body, (await self.post(body))["choices"][0]["text"])

    async def drawn(self) -> None:
        body = self.body(temperature=0.8, top_p=0.9, seed=self.random.randrange(4))
        self.tally.same(body, (await self.post(body))["choices"][0]["text"])

    async def scores(self) -> None:
        body = self.body(max_tokens=0, echo=True, logprobs=0)
        body["prompt"] = LONG + str(body["prompt"])
        found = (await self.post(body))["choices"][0]["logprobs"]["token_logprobs"]
        self.tally.same(body, found[1:])

    async def converse(self) -> None:
        messages = [{"role": "user", "content": self.random.choice(THEMES)}]
        body: Body = {"messages": messages, "max_tokens": 16, "temperature": 0}
        found = (await self.post(body, "/v1/chat/completions"))["choices"][0]["message"]["content"]
        self.tally.same(body, found)
        messages += [{"role": "assistant", "content": found}, {"role": "user", "content": "Go on."}]
        again = (await self.post(body, "/v1/chat/completions"))["choices"][0]["message"]["content"]
        self.tally.same(body, again)

    async def stream(self, most: int | None = None) -> None:
        """Read a stream; at most so many chunks of it with text."""
        body = self.body(stream=True, stream_options={"include_usage": True})
        text, chunks, usage, done = "", 0, None, False
        async with self.http.stream("POST", "/v1/completions", json=body) as response:
            if response.status_code != httpx.codes.OK:
                raise LoadError(f"status {response.status_code}")
            self.tally.texts += 1
            async for line in response.aiter_lines():
                done = done or line == "data: [DONE]"
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line[len("data: ") :])
                if "error" in chunk:
                    raise LoadError(str(chunk["error"]))
                usage = chunk.get("usage") or usage
                piece = "".join(choice["text"] for choice in chunk["choices"])
                text, chunks = text + piece, chunks + bool(piece)
                if most is not None and chunks >= most:
                    break
        if most is None or usage is not None:
            if not done and most is None:
                raise LoadError("a stream has ended without its end")
            self.tally.same(body, text)
            self.tally.tokens += usage["completion_tokens"]
        else:
            self.tally.cut_least += chunks
            self.tally.cut_most += int(str(body["max_tokens"]))

    async def leave(self) -> None:
        await self.stream(most=self.random.randrange(1, 6))

    async def leave_early(self) -> None:
        """Ask for a whole text, and go before it is there."""
        body = self.body()
        payload = json.dumps(body).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(payload)}\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + payload)
        await writer.drain()
        await asyncio.sleep(self.random.uniform(0.02, 0.2))
        writer.close()
        self.tally.cut_most += int(str(body["max_tokens"]))

    async def half(self) -> None:
        """Begin a request, and go before it is complete."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(self.random.uniform(0, 0.3))
        writer.close()

    async def wrong(self) -> None:
        wrong: list[tuple[int, bytes]] = [
            (400, b'{"prompt": "x", '),
            (400, b"\xff\xfe{}"),
            (400, json.dumps(self.body(temperature="hot")).encode()),
            (400, json.dumps(self.body(top_p=7)).encode()),
            (400, json.dumps(self.body(suffix="end")).encode()),
            (400, json.dumps(self.body(prompt=[])).encode()),
            (400, json.dumps(self.body(prompt=[-5])).encode()),
            (400, json.dumps(self.body(prompt=LONG * 3000)).encode()),
            (400, b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
            (404, json.dumps(self.body(model="nobody")).encode()),
        ]
        status, content = self.random.choice(wrong)
        kind = {"Content-Type": "application/json"}
        answer = await self.http.post("/v1/completions", content=content, headers=kind)
        if answer.status_code != status:
            words = f"status {answer.status_code} instead of {status} for {content[:60]!r}"
            raise LoadError(words)
        if not isinstance(answer.json()["error"]["message"], str):
            raise LoadError(f"an error of another form for {content[:60]!r}")


def counted(metrics: str) -> Counter[str]:
    """Sum Prometheus' figures by their names, without labels."""
    sums: Counter[str] = Counter()
    for line in metrics.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            sums[name.partition("{")[0]] += float(value)
    return sums


@dataclass
class Look:
    """What a process holds at a time: bytes of memory, open files, threads."""

    at: float
    memory: int
    files: int
    threads: int

    @classmethod
    def now(cls, process: int) -> "Look":
        of = Path(f"/proc/{process}")
        return cls(
            time.monotonic(),
            resident(process),
            len(list((of / "fd").iterdir())),
            len(list((of / "task").iterdir())),
        )


def check_growth(looks: list[Look], faults: Counter[str]) -> None:
    """Compare the first half after warming up with the second."""
    settled = looks[int(len(looks) * SETTLED) :]
    halves = settled[: len(settled) // 2], settled[len(settled) // 2 :]
    if not all(halves):
        return
    before, after = (median(look.memory for look in half) for half in halves)
    if after > before * (1 + GROWTH) + ROOM:
        faults[f"memory grew from {size_of(int(before))} to {size_of(int(after))}"] += 1
    for name in ("files", "threads"):
        before, after = (median(getattr(look, name) for look in half) for half in halves)
        if after > before * 1.5 + 4:
            faults[f"{name} grew from {before:.0f} to {after:.0f}"] += 1


def check_metrics(metrics: Counter[str], tally: Tally, faults: Counter[str]) -> None:
    """Hold what the server says of itself against what was asked of it."""
    for name in ("requests_waiting", "requests_reading", "requests_generating", "cache_blocks_in_use"):
        if metrics[f"tinystar_{name}"]:
            faults[f"at the end {name} is {metrics[f'tinystar_{name}']:.0f}"] += 1
    made = metrics["tinystar_generated_tokens_total"]
    if not tally.tokens + tally.cut_least <= made <= tally.tokens + tally.cut_most:
        least, most = tally.tokens + tally.cut_least, tally.tokens + tally.cut_most
        faults[f"{made:.0f} tokens made, {least} to {most} expected"] += 1
    ended, early = metrics["tinystar_texts_total"], tally.asked["left before the answer"]
    if not tally.texts <= ended <= tally.texts + early:
        faults[f"{ended:.0f} texts ended, {tally.texts} to {tally.texts + early} asked for"] += 1
    first = metrics["tinystar_time_to_first_token_seconds_count"]
    if first > ended:
        faults[f"{first:.0f} first tokens of {ended:.0f} texts"] += 1


async def soak(
    url: str, process: int, options: argparse.Namespace, progress: Callable[[str], None]
) -> tuple[Tally, list[Look], Counter[str]]:
    """Load a server until the time is over; return what came of it, and its last metrics."""
    tally, looks = Tally(), []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=STUCK, trust_env=False) as http:
        end = time.monotonic() + options.minutes * 60
        clients = [
            Client(http, tally, httpx.URL(url).port or 80, options.seed + i, options.chats)
            for i in range(options.clients)
        ]
        tasks = [asyncio.create_task(client.run(end)) for client in clients]
        while not all(task.done() for task in tasks):
            await asyncio.wait(tasks, timeout=EVERY)
            with suppress(OSError):  # it has ended, and its clients say so
                looks.append(Look.now(process))
            left, faults = max(end - time.monotonic(), 0) / 60, sum(tally.faults.values())
            memory, asked = size_of(looks[-1].memory), sum(tally.asked.values())
            progress(f"{asked} requests, {faults} faults, {memory}, {left:.1f} minutes left")
        await asyncio.gather(*tasks)
        metrics: Counter[str] = Counter()
        try:
            for _ in range(50):  # who has left is forgotten at the next step
                metrics = counted((await http.get("/metrics")).text)
                if not metrics["tinystar_requests_generating"] + metrics["tinystar_requests_reading"]:
                    break
                await asyncio.sleep(0.1)
        except httpx.HTTPError as error:
            tally.faults[f"at the end the server does not answer: {error}"] += 1
    return tally, looks, metrics


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak.py", description="Let a server work for long.")
    parser.set_defaults(color="auto", quiet=False)
    add = parser.add_argument
    add("model", help="as tinystar serve takes it")
    add("--minutes", type=float, default=30, help="(default: 30)")
    add("--clients", type=int, default=20, help="at once (default: 20)")
    add("--cache-memory", default="100MB", help="small, so that texts lose their places (default: 100MB)")
    add("--max-batch", default="12", help="fewer than clients, so that some wait (default: 12)")
    add("--chats", action="store_true", help="the model has a chat template: hold conversations too")
    add("--seed", type=int, default=0, help="of what is asked for")
    add("--json", type=Path, metavar="FILE", help="write what was seen to FILE")
    return parser.parse_args()


def main() -> int:
    options = parsed()
    command = [sys.executable, "-c", TINYSTAR, "serve", "-m", options.model]
    command += ["--cache-memory", options.cache_memory, "--max-batch", options.max_batch]
    with progress_line(options) as progress, started(Kind(command, "model")) as (service, process):
        tally, looks, metrics = asyncio.run(soak(service.url, process, options, progress))
    faults = tally.faults
    check_growth(looks, faults)
    check_metrics(metrics, tally, faults)
    rows = [(name, str(count)) for name, count in sorted(tally.asked.items())]
    rows += [("tokens of whole answers", str(tally.tokens))]
    for name in ("cached_tokens_total", "preemptions_total", "engine_steps_total"):
        rows.append((name.removesuffix("_total").replace("_", " "), f"{metrics[f'tinystar_{name}']:.0f}"))
    rows.append(("slowest request, s", f"{max(tally.seconds, default=0):.1f}"))
    rows.append(("memory, a quarter in", size_of(looks[int(len(looks) * SETTLED)].memory)))
    rows.append(("memory at the end", size_of(looks[-1].memory)))
    say_table(("", ""), rows, options, left=(0,))
    for words, count in faults.items():
        say(f"{count} × {words}")
    say("No fault." if not faults else f"{sum(faults.values())} faults.")
    if options.json:
        seen = {"asked": tally.asked, "faults": faults, "looks": [vars(look) for look in looks]}
        options.json.write_text(json.dumps(seen | {"metrics": metrics}, indent=2) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LoadError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
