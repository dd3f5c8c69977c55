"""The servers that are measured, each started as its own users would on this machine: float32, all cores.

tinystar           tinystar serve
engine             ts.Engine in the measuring process, without a server
transformers       transformers serve, as it is: one text after another
transformers-cb    transformers serve --continuous-batching
llama.cpp          llama-server, with 16 slots; weights in float32, its cache in float16 as by default
llama_cpp.server   python -m llama_cpp.server: one text after another

Servers other than ours may need another Python environment or a program: see ``serving.py --help``.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

import httpx
from busy import environment
from load import InProcess, LoadError, Server, Service

from tinystar_np.fast.machine import usable_cores
from tinystar_np.loading import load
from tinystar_np.serving.engine import Engine

MODEL, GGUF = "model", "model.gguf"  # in a directory that served.py makes
SLOTS = 16  # texts at once
CONTEXT = 2048  # tokens of each
CACHE = "2GB"
STARTING = 300.0  # seconds until a server must answer
SAID = 1500  # characters of its last words that are shown where it fails
ENDING = 20.0  # seconds it has to end when told to

TINYSTAR = "import sys; from tinystar_np.cli.main import tinystar; sys.exit(tinystar())"
TRANSFORMERS = (
    "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
)


@dataclass(frozen=True)
class Programs:
    """What runs the servers of others."""

    transformers_python: str = sys.executable
    llama_python: str = sys.executable
    llama_server: str = "llama-server"


@dataclass(frozen=True)
class Kind:
    """How a server is started, and what its requests need.

    command  after it "--port PORT" follows
    model    its name in requests
    extra    fields that keep an end-of-text token from ending a text
    """

    command: Sequence[str]
    model: str
    extra: dict[str, object] = field(default_factory=dict)


def kinds(directory: Path, programs: Programs) -> dict[str, Kind]:
    """Say how each server is started; directory: the model's, see ``served.py``."""
    model, gguf, threads = str(directory / MODEL), str(directory / GGUF), str(usable_cores())
    ours = [sys.executable, "-c", TINYSTAR, "serve", "-m", model, "--cache-memory", CACHE]
    theirs = [programs.transformers_python, "-c", TRANSFORMERS, "serve", model, "--device", "cpu"]
    theirs += ["--dtype", "float32"]
    llama = [programs.llama_server, "-m", gguf, "-t", threads, "-np", str(SLOTS), "-c", str(SLOTS * CONTEXT)]
    python = [programs.llama_python, "-m", "llama_cpp.server", "--model", gguf, "--n_ctx", str(CONTEXT)]
    python += ["--n_threads", threads, "--n_threads_batch", threads]
    python += ["--interrupt_requests", "false"]  # else a new request ends the one before it
    return {
        "tinystar": Kind([*ours, "--max-batch", str(SLOTS)], Path(model).name),
        "transformers": Kind(theirs, model),
        "transformers-cb": Kind(
            # By default 60 % of the machine's memory: enough for 2000 texts at once
            [*theirs, "--continuous-batching", "--cb-max-memory-percent", "0.2"],
            model,
        ),
        "llama.cpp": Kind(llama, "model", {"ignore_eos": True}),
        "llama_cpp.server": Kind(python, gguf, {"logit_bias": dict.fromkeys(end_tokens(model), -100)}),
    }


def end_tokens(model: str) -> list[str]:
    """List the ids that llama.cpp may take for an end: special tokens, and 11 where a file names none."""
    path = Path(model) / "tokenizer.json"
    added = json.loads(path.read_text()).get("added_tokens", ()) if path.exists() else ()
    return [str(token["id"]) for token in added if token["special"]] + ["11"]


NAMES = ("tinystar", "engine", "transformers", "transformers-cb", "llama.cpp", "llama_cpp.server")


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def resident(process: int) -> int:
    """Return the bytes of memory that a process has in use, mapped files included; 0 where nobody says."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def started(kind: Kind) -> Iterator[tuple[Service, int]]:
    """Start a server and yield it with its process id; at the end it is told to stop, and must."""
    port = free_port()
    with TemporaryFile("w+") as said:
        command = [*kind.command, "--port", str(port)]
        process = subprocess.Popen(
            command, env=environment(usable_cores()), stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        try:
            service = Server(f"http://127.0.0.1:{port}", kind.model, kind.extra)
            wait_for(service.url, process)
            yield service, process.pid
        except (LoadError, httpx.HTTPError) as error:
            said.seek(0)
            raise LoadError(f"{type(error).__name__}: {error}\n{said.read()[-SAID:]}") from error
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(ENDING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(url: str, process: subprocess.Popen) -> None:
    """Wait until a server has loaded its model."""
    end = time.monotonic() + STARTING
    while time.monotonic() < end:
        if process.poll() is not None:
            raise LoadError(f"the server has ended with exit code {process.returncode}")
        try:
            answer = httpx.get(f"{url}/v1/models", timeout=5, trust_env=False)
            if answer.status_code == httpx.codes.OK and json.loads(answer.text):
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise LoadError(f"the server does not answer after {STARTING:.0f} s")


@contextmanager
def serving(name: str, directory: Path, programs: Programs) -> Iterator[tuple[Service, int]]:
    """Start what is measured under a name, see above, and yield it with its process id."""
    if name != "engine":
        with started(kinds(directory, programs)[name]) as found:
            yield found
        return
    model, tokenizer = load(directory / MODEL, "float32")
    with Engine(model, tokenizer, cache_memory=CACHE, max_batch=SLOTS) as engine:
        yield InProcess(engine), os.getpid()
