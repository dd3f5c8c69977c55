"""The command in a process of its own, with a hub: environment, token, Ctrl-C, terminals, two at once."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hub_server import COMMIT, Fault, Hub, serve_hub
from safetensors.numpy import load, save

PROGRAM = """
import sys
from tinystar_np.cli.main import tinystar
sys.exit(tinystar())
"""
MODEL = "owner/model"
WEIGHTS = "model.safetensors"
TOKEN = "hf_secretsecretsecretsecret"
CHATTY = {"HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug"}  # as much as the library can say
ASK = ("ask", "--temperature", "0", "-n", "8", "-m", MODEL, "Once upon")


@pytest.fixture
def files(talking_model: Path) -> dict[str, bytes]:
    kept = {path.name: path.read_bytes() for path in talking_model.iterdir()}
    # Weights large enough to be worth a progress bar.
    kept[WEIGHTS] = save(load(kept[WEIGHTS]) | {"h.0.attn.bias": np.zeros((1, 1, 600, 600), np.float32)})
    return kept | {"pytorch_model.bin": b"never", "onnx/model.onnx": b"never", "README.md": b"never"}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with serve_hub({MODEL: files}, {"v1": "a" * 40}) as running:
        yield running


class Machine:
    """A home directory with nothing in it, and what the environment says there."""

    def __init__(self, home: Path, hub: Hub) -> None:
        self.home = home
        foreign = ("HF_", "HUGGING", "TRANSFORMERS_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(foreign)}
        self.environment = kept | {"HF_HOME": str(home), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
        self.environment |= {"COLUMNS": "80", "TERM": "xterm"}
        self.environment.pop("NO_COLOR", None)

    def start(self, *arguments: str, stderr: int = subprocess.PIPE, **settings: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=self.environment | settings,
            cwd=self.home,
        )

    def run(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        with self.start(*arguments, **settings) as process:
            output, errors = process.communicate()
        return process.returncode, output, errors

    def blobs(self, ending: str) -> list[Path]:
        return list((self.home / "hub" / "models--owner--model" / "blobs").glob(f"*{ending}"))


@pytest.fixture
def machine(tmp_path: Path, hub: Hub) -> Machine:
    (tmp_path / "home").mkdir()
    return Machine(tmp_path / "home", hub)


def test_fetched_once_and_found_afterwards_even_offline(
    files: dict[str, bytes], hub: Hub, machine: Machine
) -> None:
    code, text, said = machine.run(*ASK)
    assert (code, said) == (0, "")
    assert hub.downloads == sorted(set(files) - {"pytorch_model.bin", "onnx/model.onnx", "README.md"})
    hub.requests.clear()
    nowhere = "http://127.0.0.1:9"
    assert machine.run(*ASK) == (0, text, "")
    assert machine.run(*ASK, "--revision", COMMIT[:8], HF_ENDPOINT=nowhere) == (0, text, "")
    assert machine.run(*ASK, HF_HUB_OFFLINE="1", HF_ENDPOINT=nowhere) == (0, text, "")
    assert not hub.requests


def test_nothing_on_disk_and_no_network(hub: Hub, machine: Machine) -> None:
    code, _, said = machine.run(*ASK, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="0")
    assert (code, len(said.splitlines())) == (1, 2)
    assert "127.0.0.1:9 cannot be reached" in said
    code, _, said = machine.run(*ASK, HF_HUB_OFFLINE="1")
    assert (code, len(said.splitlines())) == (1, 2)
    assert "not on this machine" in said
    assert not hub.requests


@pytest.mark.parametrize("place", ["HF_TOKEN", "file", "HF_TOKEN_PATH"])
def test_the_token_is_used_and_never_shown(hub: Hub, machine: Machine, place: str) -> None:
    hub.faults[MODEL] = Fault(403, "GatedRepo", unless_token=TOKEN)
    settings = dict(CHATTY)
    if place == "HF_TOKEN":
        settings[place] = TOKEN
    else:
        path = machine.home / ("token" if place == "file" else "elsewhere")
        path.write_text(TOKEN + "\n")
        settings |= {"HF_TOKEN_PATH": str(path)} if place == "HF_TOKEN_PATH" else {}
    code, output, said = machine.run("inspect", MODEL, "-v", **settings)
    assert code == 0
    assert f"Bearer {TOKEN}" in hub.tokens
    assert TOKEN not in output + said


def test_a_failure_shows_no_token_however_chatty_it_is(hub: Hub, machine: Machine) -> None:
    hub.faults[MODEL] = Fault(403, "GatedRepo", on_files_only=True)
    address = hub.url.replace("http://", f"http://user:{TOKEN}@")
    code, output, said = machine.run(*ASK, "-v", HF_TOKEN=TOKEN, HF_ENDPOINT=address, **CHATTY)
    assert (code, output) == (1, "")
    assert "is gated" in said
    assert TOKEN not in said


def test_two_processes_at_once(hub: Hub, machine: Machine) -> None:
    hub.faults[MODEL] = Fault(wait=0.8, only=".safetensors", on_files_only=True)
    both = [machine.start(*ASK), machine.start(*ASK)]
    (text, said), (other_text, other_said) = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert text == other_text != ""
    assert said == other_said == ""
    assert hub.downloads.count(WEIGHTS) == 1


@pytest.mark.parametrize("on_terminal", [False, True])
def test_ctrl_c_keeps_what_has_arrived(
    files: dict[str, bytes], hub: Hub, machine: Machine, on_terminal: bool
) -> None:
    half = len(files[WEIGHTS]) // 2
    hub.faults[MODEL] = Fault(stall_after=half, only=".safetensors", on_files_only=True)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = machine.start(*ASK, stderr=theirs if on_terminal else subprocess.PIPE)
    os.close(theirs)
    wait_for(lambda: any(path.stat().st_size for path in machine.blobs(".incomplete")))
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, said = process.communicate(timeout=20)
    said = read_terminal(ours) if on_terminal else said
    assert (process.returncode, output) == (130, "")
    assert "Traceback" not in said
    if on_terminal:
        assert WEIGHTS in said  # the bar, and nothing below it
        assert said.rstrip("\r\n").count("\n") == 0
    else:
        assert said.strip() == ""
    (partial,) = machine.blobs(".incomplete")
    assert partial.read_bytes() == files[WEIGHTS][: partial.stat().st_size]
    arrived = partial.stat().st_size
    assert arrived > half - 70_000  # what the client still held of its last packet may be lost

    hub.faults.clear()
    hub.requests.clear()
    code, text, said = machine.run(*ASK)
    assert (code, said) == (0, "")
    assert text
    assert hub.ranges == [f"{WEIGHTS} bytes={arrived}-"]
    assert "config.json" not in hub.downloads


def test_bars_on_a_terminal_only(hub: Hub, machine: Machine) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with machine.start(*ASK, stderr=theirs) as process:
        os.close(theirs)
        shown = read_terminal(ours)
    assert process.returncode == 0
    assert WEIGHTS in shown
    assert "100%" in shown
    assert shown.strip("\r\n").count("\n") == 0  # one file is large enough for a bar


def test_the_second_start_does_not_import_the_hubs_library(hub: Hub, machine: Machine) -> None:
    assert machine.run(*ASK)[0] == 0
    code = (
        "import sys; from tinystar_np.checkpoints.hub import find_model; find_model('owner/model');"
        "print('huggingface_hub' in sys.modules)"
    )
    again = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=machine.environment, check=True
    )
    assert again.stdout == "False\n"


def wait_for(happened: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


def read_terminal(ours: int) -> str:
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal, contextlib.suppress(OSError):  # its end is an error
        while piece := terminal.read(4096):
            shown += piece
    return shown.decode()
