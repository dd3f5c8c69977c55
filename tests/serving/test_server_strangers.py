"""What a stranger on the port may send: whatever it is, there is an answer, and others are served."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
import uvicorn
from server_process import Process, events

from tinystar_np.serving import bodies, connections
from tinystar_np.serving.api_errors import ApiError
from tinystar_np.serving.bodies import Body

PATH = "/v1/completions"
LONG: Any = {"model": "stories", "prompt": "Once upon a time", "max_tokens": 500, "logit_bias": {"0": -100}}
JSON = {"Content-Type": "application/json"}


def raw(server: Process, data: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.post(server.url + PATH, content=data, headers=JSON | (headers or {}), timeout=60)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nul",
        b"[1]",
        b'"text"',
        b"{",
        b"\xff\xfe{}",
        b'{"prompt": "\xc3"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "a", "temperature": NaN}',
        b'{"prompt": "a", "temperature": 1e999}',
        b'{"prompt": "a", "top_p": -Infinity}',
        b'{"prompt": "a", "max_tokens": ' + b"9" * 40 + b"}",
        b'{"prompt": "a", "max_tokens": ' + b"9" * 9999 + b"}",
        b'{"prompt": "a", "seed": ' + b"9" * 30 + b"}",
        b'{"prompt": "a", "top_k": ' + b"9" * 30 + b"}",
        b'{"prompt": [' + b"9" * 30 + b"]}",
        b'{"prompt": [-1]}',
        b'{"prompt": [1.5]}',
        b'{"prompt": [true]}',
        b'{"prompt": []}',
        b'{"prompt": [[]]}',
        b'{"prompt": ["a", 3]}',
        b'{"prompt": ""}',
        b'{"prompt": {"a": 1}}',
        b'{"prompt": null}',
        b"{}",
        b'{"prompt": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"prompt": "a", "max_tokens": "8"}',
        b'{"prompt": "a", "max_tokens": 1.5}',
        b'{"prompt": "a", "stream": "yes"}',
        b'{"prompt": "a", "stop": 3}',
        b'{"prompt": "a", "stop": [["a"]]}',
        b'{"prompt": "a", "suffix": "b"}',
        b'{"prompt": "a", "n": 129}',
        b'{"prompt": "a", "n": 2, "best_of": 1}',
        b'{"prompt": "a", "best_of": 2, "stream": true}',
        b'{"prompt": "a", "logprobs": 21}',
        b'{"prompt": "a", "logit_bias": {"99999": 1}}',
        b'{"prompt": "a", "logit_bias": {"-1": 1}}',
        b'{"prompt": "a", "logit_bias": [1]}',
        b'{"prompt": "a", "top_p": 1.5}',
        b'{"prompt": "a", "model": 3}',
        b'{"prompt": ["a", "b"], "n": 100}',
    ],
)
def test_a_body_that_is_wrong(server: Process, data: bytes) -> None:
    if b'"model"' not in data and data.startswith(b'{"') and data.endswith(b"}"):
        data = data[:-1] + b', "model": "stories"}'
    answer = raw(server, data)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert 5 < len(error["message"]) < 700
    assert error.keys() == {"message", "type", "param", "code"}


def test_odd_texts_are_texts(server: Process) -> None:
    for prompt in ("\0", "a\u2028b", "🙂" * 30, "\x1b[31m", "<|endoftext|>", "مرحبا"):
        body = {"model": "stories", "prompt": prompt, "max_tokens": 2, "echo": True}
        answer = server.post(PATH, body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["text"].startswith(prompt)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/models/%00", 404),
        ("GET", "/v1/models/../../etc/passwd", 404),
        ("OPTIONS", "/v1/chat/completions", 405),
    ],
)
def test_paths_and_methods(server: Process, method: str, path: str, status: int) -> None:
    answer = httpx.request(method, server.url + path, timeout=60)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_other_kinds_of_bodies(server: Process, kind: str) -> None:
    """A page of another site may send these without asking: they are refused."""
    answer = httpx.post(
        server.url + PATH, content=b'{"prompt": "a"}', headers={"Content-Type": kind}, timeout=60
    )
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]["message"]


def test_a_page_of_another_site_is_refused(server: Process) -> None:
    """One whose name leads to this machine (DNS rebinding); nor may any read the answers (CORS)."""
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[::2]:80"):
        assert server.get("/v1/models", headers={"Host": host}).status_code == 403
    for host in ("localhost:99", "127.0.0.1", "LOCALHOST", "[::1]:80"):
        assert server.get("/v1/models", headers={"Host": host}).status_code == 200
    answer = server.get("/v1/models", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large(server: Process, declared: bool) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(12):
            yield b" " * 1_000_000

    content: Any = b" " * 12_000_000 if declared else pieces()
    answer = httpx.post(server.url + PATH, content=content, headers=JSON, timeout=60)
    assert answer.status_code == 413
    assert "10 MB" in answer.json()["error"]["message"]


def test_a_body_that_claims_to_be_endless(server: Process) -> None:
    with server.connect() as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {10**15}\r\n\r\n{{".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_large_body_is_read(server: Process) -> None:
    body = {"model": "stories", "prompt": "a", "max_tokens": 1, "x": "y" * 9_000_000}
    assert server.post(PATH, body).status_code == 200


def test_a_body_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "SECONDS", 0.05)

    async def nothing() -> Any:
        await asyncio.sleep(60)

    with pytest.raises(ApiError, match="did not arrive") as error:
        asyncio.run(Body(nothing, 100).receive())
    assert error.value.status == 408


def test_a_head_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which nobody asks for anything is closed; one that is used is not."""
    monkeypatch.setattr(connections, "SECONDS", 0.3)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.6)  # a slow answer
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def main() -> list[bytes]:
        config = uvicorn.Config(app, http=connections.TimedH11, lifespan="off", log_config=None, port=0)
        running = uvicorn.Server(config)
        task = asyncio.ensure_future(running.serve())
        while not running.started:
            await asyncio.sleep(0.01)
        port = running.servers[0].sockets[0].getsockname()[1]
        found = []
        for sent in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            found.append(await asyncio.wait_for(reader.read(8), 20))
            writer.close()
        running.should_exit = True
        await task
        return found

    assert asyncio.run(main()) == [b"", b"", b"HTTP/1.1"]


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP\r\n\r\n"])
def test_what_is_no_request(server: Process, data: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(data)
        connection.settimeout(20)
        if data.endswith(b"\r\n\r\n"):
            assert connection.recv(100).startswith((b"HTTP/1.1 400", b"HTTP/1.1 505"))
    assert server.get("/health").status_code == 200


def test_a_head_that_never_ends(server: Process) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with suppress(OSError):  # it is closed at some time
            for _ in range(100):
                connection.sendall(b"X: " + b"y" * 10_000 + b"\r\n")
                time.sleep(0.01)
            pytest.fail("all of it was read")
    assert server.get("/health").status_code == 200


def test_two_requests_at_once(server: Process) -> None:
    """The second is answered after the first, though it came with it."""
    with server.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        found = b""
        while found.count(b'"ok"') < 2:
            part = connection.recv(1000)
            assert part
            found += part


@contextmanager
def streaming(server: Process, **body: Any) -> Iterator[socket.socket]:
    """Ask for a stream by hand, and read its first event."""
    data = json.dumps(LONG | {"stream": True, "n": 4} | body).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with server.connect() as connection:
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        found = b""
        while b"data: " not in found:
            part = connection.recv(1000)
            assert part, found
            found += part
        yield connection


def quiet(server: Process) -> None:
    """Wait until no text is generated, nor waits."""
    until = time.monotonic() + 30
    names = ("tinystar_requests_waiting", "tinystar_requests_reading", "tinystar_requests_generating")
    while any(server.metric(name) for name in names):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_who_goes_away_is_forgotten(server: Process) -> None:
    quiet(server)
    before = server.metric("tinystar_texts_total", reason="cancelled")
    with streaming(server):
        assert server.metric("tinystar_requests_generating") > 0
    quiet(server)
    assert server.metric("tinystar_texts_total", reason="cancelled") == before + 4


def test_who_goes_away_while_waiting_for_a_whole_answer(server: Process) -> None:
    quiet(server)
    before = server.metric("tinystar_texts_total", reason="cancelled")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url + PATH, json=LONG | {"n": 8}, timeout=0.2)
    quiet(server)
    assert server.metric("tinystar_texts_total", reason="cancelled") > before
    assert server.metric("tinystar_requests_total", endpoint=PATH, status="499") > 0


def test_a_reader_who_does_not_read_keeps_nobody_waiting(server: Process) -> None:
    with streaming(server, logprobs=20, n=2):
        body = {"model": "stories", "prompt": "The dog", "max_tokens": 4}
        assert server.post(PATH, body).status_code == 200
    quiet(server)


def test_a_full_queue(server: Process) -> None:
    """8 run, 24 wait, and the next one is told to come later; a request that never has room is told so."""
    quiet(server)
    with streaming(server, n=16, echo=True), streaming(server, n=16, echo=True):
        answer = server.post(PATH, LONG | {"n": 2})
        assert answer.status_code == 429
        assert answer.headers["retry-after"]
        assert answer.json()["error"]["code"] == "queue_full"
        assert answer.json()["error"]["type"] == "rate_limit_error"
    quiet(server)
    answer = server.post(PATH, LONG | {"n": 33})
    assert answer.status_code == 400
    assert "32 at once" in answer.json()["error"]["message"]


def test_the_numbers_add_up(server: Process) -> None:
    quiet(server)
    before = [server.metric(f"tinystar_{name}_total") for name in ("prompt_tokens", "generated_tokens")]
    firsts = server.metric("tinystar_time_to_first_token_seconds_count", model="stories")
    body = {"model": "stories", "prompt": "Once upon a time", "max_tokens": 7, "temperature": 0, "n": 2}
    *_, usage, _ = events(
        server.post(PATH, body | {"stream": True, "stream_options": {"include_usage": True}}).text
    )
    assert usage["usage"]["completion_tokens"] == 14
    after = [server.metric(f"tinystar_{name}_total") for name in ("prompt_tokens", "generated_tokens")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [8, 14]
    assert server.metric("tinystar_time_to_first_token_seconds_count", model="stories") == firsts + 2
    assert server.metric("tinystar_cache_blocks", model="stories") > 0
    text = server.get("/metrics").text
    for line in text.splitlines():
        assert line.startswith("# ") or line.rpartition(" ")[2].replace(".", "").replace("e-", "").isdigit()
    buckets = [line for line in text.splitlines() if 'request_seconds_bucket{endpoint="/health"' in line]
    counts = [float(line.rpartition(" ")[2]) for line in buckets]
    assert counts == sorted(counts)
    assert 'le="+Inf"' in buckets[-1]
