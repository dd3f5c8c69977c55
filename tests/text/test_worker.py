"""Workers: whatever untrusted work does, it ends in time, as a sentence, and the next request is answered."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tinystar_np.text.worker import Worker, WorkerError

MB = 1_000_000

SCRIPT = """
import os, socket, subprocess, sys, threading, time
def prepare(first):
    return [first, sorted(os.environ), sys.path]
def answer(request):
    kind, given = request
    if kind == "eval":
        return eval(given)
    if kind == "forge":
        os.write(3, given)
    if kind == "try":
        try:
            eval(given)
        except OSError as error:
            return error.strerror
"""


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    (tmp_path / "work.py").write_text(SCRIPT)
    return Worker(tmp_path / "work.py", ["jinja2"], 400 * MB, first="beginning")


def ask(worker: Worker, code: str, seconds: float = 5, most: int = MB) -> Any:
    return worker.ask(("eval", code), seconds, most)


def test_answers_are_plain_data(worker: Worker) -> None:
    assert ask(worker, "[1, 2.5, None, True, 'é\\ud800', {'a': [1]}]") == [
        1,
        2.5,
        None,
        True,
        "é\ud800",
        {"a": [1]},
    ]
    assert worker.ask(("eval", "repr(given)"), 5, MB) == repr("repr(given)")
    assert ask(worker, "float('nan')") != ask(worker, "float('nan')")


ENDS: dict[str, tuple[str, str]] = {
    "a loop": ("[None for _ in iter(int, 1) if 0]", "took too long"),
    "one call of hours": ("10 ** 10 ** 8 and 0", "took too long"),
    "a pause": ("time.sleep(100)", "took too long"),
    "memory": ("bytearray(10 ** 9)", "needed more than 0.4 GB of memory"),
    "memory bit by bit": ("[bytearray(10 ** 6) for _ in range(10 ** 4)]", "needed more than 0.4 GB"),
    "a crash": ("os.abort()", "ended the process in which it ran .SIGABRT"),
    "an end": ("os._exit(3)", "ended the process in which it ran .exit code 3"),
    "an error": ("{}['x']", "exit code 1"),
    "a long answer": ("'x' * 2_000_000", "2000002 bytes"),
    "no JSON": ("{1, 2}", "exit code 1"),
}


@pytest.mark.parametrize("how", ENDS)
def test_how_work_ends(how: str, worker: Worker) -> None:
    code, message = ENDS[how]
    begun = time.monotonic()
    with pytest.raises(WorkerError, match=message):
        ask(worker, code, seconds=1.0 if "long" in message else 60.0)
    assert time.monotonic() - begun < 30
    assert ask(worker, "1 + 1") == 2


CANNOT = {
    "read a file": "open('/etc/hostname')",
    "write a file": "open('written', 'w')",
    "connect": "socket.socket()",
    "start a process": "subprocess.Popen(['true'])",
    "list a directory": "os.listdir('/')",
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
@pytest.mark.parametrize("what", CANNOT)
def test_what_a_worker_cannot(what: str, worker: Worker) -> None:
    assert worker.ask(("try", CANNOT[what]), 5, MB) == "Too many open files"


def test_what_a_worker_knows(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    first, names, paths = worker.start()
    assert first == "beginning"
    assert "HF_TOKEN" not in names
    assert "" not in paths
    assert str(Path.cwd()) not in paths


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"\xff" * 8,
        b"\xff" * 7 + b"\x7f",
        b"\x02" + b"\0" * 7 + b"[]",
        b"\x03" + b"\0" * 7 + b"nul",
    ],
)
def test_what_only_looks_like_an_answer(data: bytes, worker: Worker) -> None:
    """Bytes that a compromised worker writes itself: no more than a wrong answer, or an error."""
    ask(worker, "0")
    try:
        found = worker.ask(("forge", data), 1.0, MB)
    except WorkerError:
        found = None
    assert found in (None, [])
    worker._kill()
    assert ask(worker, "3") == 3


def test_it_survives_being_killed_between_requests(worker: Worker) -> None:
    pid = ask(worker, "os.getpid()")
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert ask(worker, "os.getpid()") != pid


def test_no_process_is_left(worker: Worker) -> None:
    pid = ask(worker, "os.getpid()")
    worker._kill()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_threads_get_their_own_answers(worker: Worker) -> None:
    found: dict[int, Any] = {}

    def run(n: int) -> None:
        found[n] = [ask(worker, f"{n} * {i}") for i in range(20)]

    threads = [threading.Thread(target=run, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: [n * i for i in range(20)] for n in range(6)}


def test_a_fork_has_a_process_of_its_own(worker: Worker) -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    pid = ask(worker, "os.getpid()")
    context = multiprocessing.get_context("fork")
    theirs = context.SimpleQueue()
    other = context.Process(target=lambda: theirs.put(ask(worker, "os.getpid()")))
    other.start()
    assert theirs.get() != pid
    other.join()
    assert ask(worker, "os.getpid()") == pid


def test_a_worker_that_cannot_start(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(WorkerError, match=r"a process of its own, and none starts \(.*No such file"):
        ask(worker, "1")


def test_requests_that_are_too_deep(worker: Worker) -> None:
    deep: Any = []
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(ValueError, match="deep"):
        worker.ask(deep, 1, 1)


def test_files_of_the_working_directory_are_not_imported(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work.py").write_text("import jinja2\n" + SCRIPT)
    for name in ("json.py", "jinja2.py", "marshal.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend("")
    assert Path(ask(worker, "jinja2.__file__")).parent.name == "jinja2"
