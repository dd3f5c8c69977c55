"""Programs at a terminal, and a model that says what it is told to say."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import numpy as np

import tinystar_np as ts

TINYSTAR = "import sys; from tinystar_np.cli.main import tinystar; sys.exit(tinystar())"
IN_TURN = """
import json, os, sys
from importlib import import_module
from tinystar_np.cli.main import tinystar
from tinystar_np.cli.parsers import COMMANDS
for name in COMMANDS: import_module("tinystar_np.cli." + name)
codes = []
for command in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        sys.exit(tinystar([os.fsdecode(bytes(word)) for word in command]))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    for stream in (1, 2):
        try: os.write(stream, b"\\f")
        except OSError: pass
open(sys.argv[2], "w").write(json.dumps(codes))
"""
"""Runs commands in turn, each in a copy of one process that has imported all: half a second saved."""
PATIENCE = 60.0  # seconds


class Terminal:
    """A program at a terminal: what it shows, and what is typed.

    arguments    for ``tinystar``
    program      Python code that runs it
    environment  what to set; what is None is taken away
    columns      how wide the terminal is
    **streams    stdout=…, stderr=… where not all of it goes to the terminal
    """

    def __init__(
        self,
        *arguments: str,
        program: str = TINYSTAR,
        environment: dict[str, str | None] | None = None,
        columns: int = 80,
        **streams: Any,
    ) -> None:
        self.main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.settings = termios.tcgetattr(self.main)
        self.shown = ""
        wanted = {"TERM": "xterm", "PYTHONIOENCODING": "utf-8", "COLUMNS": None, **(environment or {})}
        env = {**os.environ, **{name: value for name, value in wanted.items() if value is not None}}
        for name in [name for name, value in wanted.items() if value is None]:
            env.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            **{"stdin": side, "stdout": side, "stderr": side, **streams},
            env=env,
            preexec_fn=_own_terminal,
        )
        os.close(side)

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())

    def read(self, until: float) -> bool:
        """Take in what is shown next; returns False where the program has ended."""
        while not select.select([self.main], [], [], 0.1)[0]:
            assert time.monotonic() < until, f"nothing happens after {self.shown!r}"
        try:
            data = os.read(self.main, 4096)
        except OSError:
            data = b""
        self.shown += data.decode(errors="replace")
        return bool(data)

    def wait_for(self, text: str, after: int = 0) -> int:
        """Wait until something is shown, and return the place behind it."""
        until = time.monotonic() + PATIENCE
        while text not in self.shown[after:]:
            assert self.read(until), f"ended without {text!r}: {self.shown!r}"
        return self.shown.index(text, after) + len(text)

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        until = time.monotonic() + PATIENCE
        while self.read(until):
            pass
        return self.process.wait(timeout=PATIENCE)

    def close(self) -> None:
        """End it if need be, and let go of the terminal."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.main)


def _own_terminal() -> None:
    """Make the terminal the child's own, so that Ctrl-C typed there reaches it as a signal."""
    os.setsid()
    fcntl.ioctl(next(number for number in (0, 1, 2) if os.isatty(number)), termios.TIOCSCTTY, 0)


def on_terminal(*arguments: str, **how: Any) -> tuple[int, str]:
    """Run a command at a terminal to its end: the exit code, and what the terminal was sent."""
    terminal = Terminal(*arguments, **how)
    try:
        return terminal.end(), terminal.shown.replace("\r\n", "\n")
    finally:
        terminal.close()


def in_turn(
    commands: list[list[str]], directory: Path, terminal: bool = False, **how: Any
) -> list[tuple[int, str, str]]:
    """Run several commands under the same circumstances, at a terminal or with pipes for their output.

    directory  to put a file in
    how        for Terminal, or for subprocess.run

    Returns of each the exit code, and what it wrote to stdout and stderr; of a terminal both are stdout.
    """
    file = directory / "codes.json"
    words = json.dumps([[list(os.fsencode(word)) for word in command] for command in commands])
    if terminal:
        _, shown = on_terminal(words, str(file), program=IN_TURN, **how)
        codes, streams = json.loads(file.read_text()), [shown.split("\f\f"), [""] * len(commands)]
        if "stdout" in how or "stderr" in how:
            streams[0] = shown.split("\f")
    else:
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        done = subprocess.run(
            [sys.executable, "-c", IN_TURN, words, str(file)], timeout=2 * PATIENCE, **given
        )
        codes = json.loads(file.read_text())
        empty = b"\f" * len(commands)
        streams = [(text or empty).decode().split("\f") for text in (done.stdout, done.stderr)]
    return list(zip(codes, *streams, strict=False))


def save_scripted_model(directory: Path, script: bytes) -> None:
    """Save a model that continues any one byte with ``script``, a token for each byte, and is full then.

    Position p alone decides: its vector has a one at p, the blocks add nothing, and the head gives row p's
    byte the highest score. Its chat template makes that one byte of every conversation.
    """
    length = len(script)
    config = ts.TinyStarConfig(
        hidden_size=length,
        num_layers=1,
        num_heads=1,
        max_positions=length,
        attention="mha",
        positions="learned",
        feed_forward="mlp",
        expansion=1,
        norm="none",
        tie_word_embeddings=False,
    )
    model = ts.TinyStar(config)
    for array in model.weights.values():
        array[...] = 0
    model.weights["embedding.positions.weight"][...] = np.eye(length)
    model.weights["head.weight"][np.arange(length), list(script)] = 10
    model.save(directory)
    (directory / "chat_template.jinja").write_text("x")
