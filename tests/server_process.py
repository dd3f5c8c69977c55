"""The server as its users start it: a process of its own, which tests talk to over the loopback."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from conftest import gpt2_reference, save_byte_tokenizer
from conversations import CHATML

PROGRAM = "import sys; from tinystar_np.cli.main import tinystar; sys.exit(tinystar())"
SECONDS = 60.0  # that anything here may take
LISTENS = re.compile(r"listening at http://(\S+):(\d+)")


class Process:
    """A process that serves.

    process  the process
    output   the lines that it has written
    """

    def __init__(self, *arguments: str, **environment: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TINYSTAR_API")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "serve", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=kept | {"OPENBLAS_NUM_THREADS": "1"} | environment,
        )
        self.output: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.host, self.port = "", 0

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.output.extend(iter(self.process.stdout.readline, ""))

    def listening(self) -> "Process":
        """Wait until it listens."""
        until = time.monotonic() + SECONDS
        while not (found := LISTENS.search("".join(self.output))):
            assert self.process.poll() is None, self.output
            assert time.monotonic() < until, self.output
            time.sleep(0.01)
        self.host, self.port = found[1], int(found[2])
        return self

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=SECONDS, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=SECONDS, **options)

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=SECONDS)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's values over what the labels leave open."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        total = 0.0
        for line in self.get("/metrics").text.splitlines():
            found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == name and wanted <= set((found[2] or "").split(",")):
                total += float(found[3])
        return total


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[Process]:
    """Start a server at a free port, and end it afterwards."""
    process = Process("--port", "0", *arguments, **environment)
    try:
        yield process.listening()
    finally:
        if process.process.poll() is None:
            process.process.kill()
        process.wait()


def events(text: str) -> list[Any]:
    """Parse server-sent events; the last, [DONE], stays a text."""
    assert text.endswith("\n\n")
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        assert block.startswith("data: "), block
        data = block.removeprefix("data: ")
        assert "\n" not in data
        found.append(data if data == "[DONE]" else json.loads(data))
    return found


def save_talker(directory: Path, template: str = CHATML) -> Path:
    """Save a small random GPT-2 that speaks in bytes, and has a chat template."""
    sizes = {"vocab_size": 257, "n_positions": 400, "eos_token_id": 256, "bos_token_id": 256}
    gpt2_reference(**sizes).save_pretrained(directory)
    save_byte_tokenizer(directory)
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    return directory
