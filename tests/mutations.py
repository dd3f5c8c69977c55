"""Small models whose files are damaged at random, and what reading them may come to.

A case is a list of edits: a file, a way to damage it, and numbers that say where and how. Hypothesis and
atheris both make such lists. `Harness.run` applies one to a fresh copy of a model of a few kilobytes, loads
that, and asks it for a few logits and its tokenizer for a text. What comes of it may be a result or a
TinyStarError.

Cases run in a child process, so that one that hangs, takes gigabytes or ends the process is seen as what it
is: the child may have little more memory than it begins with, whoever asks for it, and so much time for each.
"""

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MEMORY = 700_000_000  # bytes that a case may reserve beyond what the child has when it begins
DEADLINE = 20.0  # seconds for one case; all take some milliseconds

Edit = tuple[int, str, int, int, Any]  # file, way, place, length, value

BYTE_WAYS = ("flip", "delete", "insert", "duplicate", "splice", "truncate", "overwrite")
JSON_WAYS = ("replace", "remove", "twice", "rename", "swap")
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 255, 10**6, 2**31, 2**31 - 1, 2**32, 2**53, 2**63, 2**64),
    *(10**30, -(2**63)),
    *(0.0, -0.0, 0.5, 1e-30, 1e-320, 1e300, -1e300, float("nan"), float("inf"), float("-inf"), 1.5),
    *("", "x", "gelu", "../x", "/etc/passwd", "\0", "😀", "x" * 3000, "F32", "BF16", "F8_E4M3"),
    *(
        "default",
        "yarn",
        "longrope",
        "linear",
        "dynamic",
        "llama3",
        "llama",
        "sliding_attention",
        "mamba",
        "attention",
    ),
    *([], {}, [None], [0], [-1], [[]], [1, 2], ["x"], [0] * 500),
    *({"x": 1}, {"rope_type": "yarn"}, {"type": "linear"}),
    *({"__float__": "NaN"}, {"__float__": "Infinity"}, {"rope_type": "linear", "factor": 0}),
)

SABOTAGE: dict[str, Any] = {
    "take 10 GB": lambda: bytearray(10**10),
    "hang": lambda: time.sleep(100),
    "end the process": os.abort,
    "fail": lambda: {}["nothing"],
}
"""Ways in which a case must not end, to try that they are seen."""


def damaged(data: bytes, edit: Edit) -> bytes:
    """Damage a file's content."""
    _, way, place, _, value = edit
    if way in SABOTAGE:
        SABOTAGE[way]()
    return json_damaged(data, way, place, value) if way in JSON_WAYS else bytes_damaged(data, edit)


def bytes_damaged(data: bytes, edit: Edit) -> bytes:
    _, way, place, length, value = edit
    at = place % (len(data) + 1)
    piece = value if isinstance(value, bytes) else json.dumps(value).encode()
    match way:
        case "flip":
            return data[:at] + bytes(byte ^ (1 << length % 8) for byte in data[at : at + 1]) + data[at + 1 :]
        case "delete":
            return data[:at] + data[at + length :]
        case "insert":
            return data[:at] + piece + data[at:]
        case "duplicate":
            return data[: at + length] + data[at:]
        case "splice":
            other = (place * 31) % (len(data) + 1)
            return data[:at] + data[other : other + length] + data[at:]
        case "truncate":
            return data[:at]
    return data[:at] + piece + data[at + len(piece) :]


def json_damaged(data: bytes, way: str, place: int, value: Any) -> bytes:
    """Damage what JSON says: in a safetensors file in its header, whose length is set right again."""
    head = b""
    if data[:1] not in (b"{", b"["):
        if len(data) < 8 or data[8:9] != b"{":
            return data
        length = int.from_bytes(data[:8], "little")
        head, data, rest = data[:8], data[8 : 8 + length], data[8 + length :]
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return data if not head else head + data + rest
    places = [
        (at, key) for at in _containers(content) for key in (at if isinstance(at, dict) else range(len(at)))
    ]
    if places:
        at, key = places[place % len(places)]
        other_at, other = places[(place * 31 + 7) % len(places)]
        value = value.decode("latin-1") if isinstance(value, bytes) else value
        if way == "replace":
            at[key] = value
        elif way == "swap":
            at[key], other_at[other] = other_at[other], at[key]
        elif way == "remove" or isinstance(at, list):
            del at[key]
        elif way == "rename":
            at[str(value)[:100]] = at.pop(key)
        elif way == "twice":
            text = json.dumps(key)
            data = json.dumps(content).encode().replace(text.encode(), f"{text}: 0, {text}".encode(), 1)
    if way != "twice":
        data = json.dumps(content).encode()
    return struct.pack("<Q", len(data)) + data + rest if head else data


def _containers(content: Any) -> list[Any]:
    waiting, found = [content], []
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            found.append(one)
            waiting += one.values() if isinstance(one, dict) else one[:20]
    return found


def outcome(model: Path, edits: list[Edit]) -> str:
    """Load a damaged copy of a model and use it; anything but a TinyStarError is raised.

    Of a model that is a GGUF file all tensors are read.
    """
    from tinystar_np import load
    from tinystar_np.checkpoints.gguf_file import map_gguf
    from tinystar_np.errors import TinyStarError

    if model.is_file():
        with tempfile.TemporaryDirectory() as folder:
            file, data = Path(folder) / model.name, model.read_bytes()
            for edit in edits:
                data = damaged(data, edit)
            file.write_bytes(data)
            try:
                for tensor in map_gguf(file).tensors.values():
                    tensor.float32()
            except TinyStarError as error:
                return type(error).__name__
        return "works"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(model, Path(folder) / "model"))
        files = sorted(path for path in copy.iterdir())
        for edit in edits:
            path = files[edit[0] % len(files)]
            path.write_bytes(damaged(path.read_bytes(), edit))
        try:
            engine, tokenizer = load(copy)
            vocabulary = engine.vocab_size
            cache = engine.new_cache()
            engine([0, min(1, vocabulary - 1), vocabulary - 1], cache=cache)
            engine([0], cache=cache, last_only=True)
            if tokenizer is not None:
                tokenizer.decode(tokenizer.encode("Hello, wörld <s> 1 😀"))
                if tokenizer.chat_template is not None:
                    tokenizer.chat_template.render([{"role": "user", "content": "Hello"}])
        except TinyStarError as error:
            return type(error).__name__
    return "works"


class Harness:
    """Runs cases in a child process, which is begun anew when one has ended it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 — as long as the harness
        self.deadline = DEADLINE

    def run(self, model: Path, edits: list[Edit]) -> str:
        """Return what a case comes to; raises AssertionError where that may not be."""
        if self._child is None or self._child.poll() is not None:
            quiet = {"RUST_BACKTRACE": "0", "PYTHONWARNINGS": "ignore", "OPENBLAS_NUM_THREADS": "1"}
            self._errors.seek(0)
            self._errors.truncate()
            self._child = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=os.environ | quiet,
                cwd=Path(__file__).parents[1],
            )
        child = self._child
        assert child.stdin
        assert child.stdout
        late = threading.Timer(self.deadline, child.kill)
        late.start()
        try:
            case = pickle.dumps((model, edits))
            child.stdin.write(struct.pack("<I", len(case)) + case)
            child.stdin.flush()
            size = child.stdout.read(4)
            answer: tuple[bool, str] | None = (
                pickle.loads(child.stdout.read(struct.unpack("<I", size)[0])) if len(size) == 4 else None
            )
        finally:
            late.cancel()
        if answer is None:
            code = child.wait()
            self._errors.seek(0)
            told = self._errors.read()[-1500:].decode(errors="replace")
            raise AssertionError(f"the process ended with {code} (-9: after {self.deadline} s): {told}")
        assert answer[0], answer[1]
        return answer[1]

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()


def outcomes_of(
    model: Path, cases: "SearchStrategy[list[Edit]]", harness: Harness, count: int, at_once: int, fixed: bool
) -> Counter[str]:
    """Run random cases, and count what they come to.

    count    how many, at the least
    at_once  of these Hypothesis draws together: each of its examples has some overhead
    fixed    whether they are the same each time
    """
    from hypothesis import HealthCheck, given, settings  # the child process needs none of it
    from hypothesis import strategies as st

    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=max(1, count // at_once),
        deadline=None,
        database=None,
        derandomize=fixed,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(cases, min_size=at_once, max_size=at_once))
    def run(many: list[list[Edit]]) -> None:
        for case in many:
            outcomes[harness.run(model, case)] += 1

    run()
    return outcomes


def serve() -> None:
    """Be the child: read cases from stdin, write what they come to to stdout."""
    import resource
    import traceback

    import tinystar_np
    from tinystar_np.text.sentencepiece import load_sentencepiece
    from tinystar_np.text.tokenizer_files import LOADERS

    # In this process and not in a worker, which would hide an error that is none of ours, and take longer.
    LOADERS["tokenizer.model"] = lambda path, settings, _: load_sentencepiece(path, settings, False)
    tinystar_np.load("stories")  # what is loaded late is no part of a case
    output = os.dup(1)
    os.dup2(2, 1)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    while len(size := sys.stdin.buffer.read(4)) == 4:
        model, edits = pickle.loads(sys.stdin.buffer.read(struct.unpack("<I", size)[0]))
        try:
            answer = True, outcome(model, edits)
        except Exception:
            answer = False, traceback.format_exc()
        data = pickle.dumps(answer)
        os.write(output, struct.pack("<I", len(data)) + data)


if __name__ == "__main__":
    serve()
