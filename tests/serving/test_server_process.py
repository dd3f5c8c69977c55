"""`tinystar serve` as a process: its address, its key, its signals, and how it fails to start."""

import json
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from server_process import Process, events, serving

from tinystar_np.cli.main import tinystar
from tinystar_np.serving.access import is_loopback

KEY = "sk-a-secret-that-nobody-may-see"
VARIABLE = "TINYSTAR_API_KEY"
PATH = "/v1/completions"
LONG: Any = {"prompt": "Once upon a time", "max_tokens": 400, "logit_bias": {"0": -100}}
LINUX = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc here")


def status(*arguments: str) -> int:
    """Run the command in this process, where it ends before it listens."""
    try:
        return tinystar(["serve", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert status("-m", "stories", "--port", str(port)) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"error: 127.0.0.1:{port} cannot be listened at: Address already in use.")


def test_an_address_of_another_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("-m", "stories", "--host", "192.0.2.1", "--port", "0", "--no-key") == 1  # of RFC 5737
    assert capsys.readouterr().err.endswith("Try another --host.\n")


def test_a_model_that_does_not_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{")
    with socket.create_server(("127.0.0.1", 0)) as taken:  # the model's error comes first
        port = str(taken.getsockname()[1])
        assert status("-m", "stories", "-m", str(tmp_path), "--port", port) == 1
    said = capsys.readouterr().err
    assert "config.json" in said
    assert "listened" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "No model is given"),
        (["-m", "stories", "-m", "stories"], "twice"),
        (["-m", "stories", "--host", "0.0.0.0"], "--no-key"),
        (["-m", "stories", "--host", "::"], "--no-key"),
        (["-m", "stories", "--api-key", KEY, "--no-key"], "one of them"),
        (["-m", "stories", "--api-key", ""], "API key"),
        (["-m", "stories", "--api-key", f"{KEY} "], "no spaces"),
        (["-m", "stories", "--host", "no-such.invalid"], "--no-key"),
        (["-m", "stories", "--port", "65536"], "65535"),
        (["-m", "stories", "--max-batch", "0"], "1 or more"),
        (["-m", "stories", "--grace", "soon"], "seconds"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert KEY not in said


def test_too_little_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("-m", "stories", "--cache-memory", "1KB") == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_loopbacks() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.1.1", "", "no-such.invalid"]))


@LINUX
@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_key(by: str) -> None:
    """Whoever does not know it learns nothing; it stands nowhere that others could read."""
    arguments = ["-m", "stories", "-v", *(["--api-key", KEY] if by == "option" else [])]
    with serving(*arguments, **({VARIABLE: KEY} if by == "environment" else {})) as server:
        known = {"Authorization": f"Bearer {KEY}"}
        seen = []
        for path in ("/v1/models", "/v1/models/stories", "/metrics", "/tokenizer_info"):
            for headers in (
                {},
                {"Authorization": "Bearer"},
                {"Authorization": f"Bearer {KEY[:-1]}"},
                {"Authorization": f"Bearer {KEY}x"},
                {"Authorization": f"Basic {KEY}"},
                {"Authorization": KEY},
            ):
                answer = server.get(path, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
                seen.append(answer.text)
            assert server.get(path, headers=known).status_code == 200
            seen.append(server.get(path, headers=known).text)
        assert server.get("/health").status_code == 200
        assert server.post(PATH, {"prompt": "a"}).status_code == 401
        assert server.post(PATH, {"prompt": "a", "max_tokens": 1}, headers=known).status_code == 200
        assert server.get("/v1/models", headers=known | {"Host": "any.example"}).status_code == 200
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="other", max_retries=0).models.list()
        assert openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY).models.list().data
        line = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
        assert KEY.encode() not in line
        assert server.end() == 0
        assert KEY not in "".join([*seen, *server.output])


def test_everybody_may_ask_where_it_was_said_so() -> None:
    with serving("-m", "stories", "--no-key", "--host", "0.0.0.0", **{VARIABLE: KEY}) as server:
        answer = server.get("/v1/models", headers={"Host": "any.example"})
        assert answer.status_code == 200


def test_nothing_is_said_of_texts() -> None:
    """Without -v there is one line; with it one more for each request, and never what was asked."""
    with serving("-m", "stories") as server:
        server.post(PATH, {"prompt": "secret prompt", "max_tokens": 2})
        assert server.end() == 0
        assert len(server.output) == 1
    with serving("-m", "stories", "-v") as server:
        server.post(PATH, {"prompt": "secret prompt", "max_tokens": 2})
        server.post(PATH, {"prompt": "secret prompt", "temperature": "secret"})
        server.get("/%1b[31m%0Aforged")
        assert server.end() == 0
        assert len(server.output) == 4
        assert re.search(r"^127\.0\.0\.1 POST /v1/completions 200 \d+\.\d+ s$", server.output[1])
        assert "secret" not in "".join(server.output)
        assert "\x1b" not in "".join(server.output)


def test_names_of_models(tmp_path: Path, talker: Path) -> None:
    (tmp_path / "here").symlink_to(talker)
    with serving("-m", f"{tmp_path}/here/") as server:
        (entry,) = server.get("/v1/models").json()["data"]
        assert entry["id"] == "here"  # not where it lies
        for name in (None, "here", f"{tmp_path}/here/"):
            answer = server.post(PATH, {"model": name, "prompt": "a", "max_tokens": 1})
            assert answer.status_code == 200
            assert answer.json()["model"] == "here"
        answer = server.post(PATH, {"model": "talker", "prompt": "a"})
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"


def test_a_text_has_a_time() -> None:
    with serving("-m", "stories", "--timeout", "0.02") as server:
        answer = server.post(PATH, LONG)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "timeout"
        *_, last = server.post(PATH, LONG | {"stream": True}).text.removesuffix("\n\n").split("\n\n")
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"
        with pytest.raises(openai.APIError, match="in time"):
            list(
                openai.OpenAI(base_url=f"{server.url}/v1", api_key="a").completions.create(
                    model="stories", prompt="a", max_tokens=400, stream=True, logit_bias={"0": -100}
                )
            )


class Asking(threading.Thread):
    """Asks for a long stream."""

    def __init__(self, server: Process) -> None:
        super().__init__()
        self._server, self.text = server, ""
        self.start()
        until = time.monotonic() + 30
        while not server.metric("tinystar_requests_generating"):
            assert time.monotonic() < until
            time.sleep(0.005)

    def run(self) -> None:
        self.text = self._server.post(PATH, LONG | {"stream": True}).text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_answers_may_end(number: signal.Signals) -> None:
    with serving("-m", "stories") as server:
        asking = Asking(server)
        server.process.send_signal(number)
        answer = server.post(PATH, {"prompt": "a"})
        if asking.is_alive():  # on a machine where it is not over yet
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["error"]["code"] == "server_stopping"
            assert server.get("/health").status_code == 503
        assert server.wait() == 0
        asking.join(30)
        *chunks, last = events(asking.text)
        assert last == "[DONE]"
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_answers_that_take_too_long_are_told_so() -> None:
    with serving("-m", "stories", "--grace", "0.01") as server:
        asking = Asking(server)
        assert server.end() == 0
        asking.join(30)
        *_, last = events(asking.text)
        assert last["error"]["code"] == "server_stopping"
        assert "stopping: 1 request may end within 0.01 s (Ctrl-C ends at once)\n" in server.output


def test_a_second_signal_ends_it_at_once() -> None:
    with serving("-m", "stories", "--grace", "1000") as server:
        asking = threading.Thread(target=lambda: _ignoring(server))
        asking.start()
        while not server.metric("tinystar_requests_generating"):
            time.sleep(0.005)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() in (-signal.SIGTERM, 0)
        asking.join(30)


def _ignoring(server: Process) -> None:
    try:
        server.post(PATH, LONG | {"n": 16})
    except Exception:
        return


def test_connections_that_are_open_do_not_hold_it() -> None:
    with serving("-m", "stories", "--grace", "0.1") as server:
        idle, half = server.connect(), server.connect()
        half.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n")
        begun = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - begun < 20
        idle.close()
        half.close()


def test_the_other_internet() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with serving("-m", "stories", "--host", "::1") as server:
        assert server.host == "[::1]"
        assert server.get("/health").status_code == 200
        assert server.end() == 0


def test_without_its_packages_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert status("-m", "stories") == 1
    assert "pip install 'tinystar_np[serve]'" in capsys.readouterr().err
