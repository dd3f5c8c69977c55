"""What a process may use: the limits of control groups, of both versions, as files say them."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import tinystar_np.fast.machine as usable
from tinystar_np.fast.machine import LEAST_PERIOD, CoresTaken, leave_cores, usable_cores, usable_memory


def write(folder: Path, **numbers: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in numbers.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ("0::/", 3),  # a container's own root
        ("0::/a/b", 2),  # the least of all above it
        ("0::/a", 3),
        ("0::/../../elsewhere", 3),  # as seen from a namespace
        ("0::/not/here", 3),
        ("4:memory:/x\n3:cpu,cpuacct:/v1\n", 1),
        ("3:cpu:/v1/free", 1),
        ("3:cpuset:/v1", 64),
        ("", 64),
        ("nonsense", 64),
    ],
)
def test_the_quota_of_control_groups(
    own: str, found: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cgroup"
    write(root, cpu__max="300000 100000")
    write(root / "a", cpu__max="250000 100000")
    write(root / "a" / "b", cpu__max="12000 10000")
    write(root / "cpu" / "v1", **{"cpu__cfs_quota_us": "50000", "cpu__cfs_period_us": "100000"})
    write(root / "cpu" / "v1" / "free", **{"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"})
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(usable, "allowed_cores", lambda: 64)
    monkeypatch.setattr(usable, "CONTROL_GROUPS", root)
    monkeypatch.setattr(usable, "OWN_GROUPS", tmp_path / "own")
    assert usable_cores() == found
    write(root, cpu__max="max 100000")
    (tmp_path / "own").write_text("0::/")
    assert usable_cores() == 64
    monkeypatch.setattr(usable, "OWN_GROUPS", tmp_path / "nowhere")
    assert usable_cores() == 64


MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ("0::/", 800),  # 1000, of which 300 are used, 100 of these by files
        ("0::/a", 70),
        ("0::/full", 0),
        ("4:cpu:/x\n3:memory:/v1\n", 30),
        ("", 4000),  # what the machine has
        ("nonsense", 4000),
    ],
)
def test_memory(own: str, found: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def group(folder: Path, most: int, used: int, of_files: int, version: int = 2) -> None:
        names = ("memory__max", "memory__current", "inactive_file")
        if version == 1:
            names = ("memory__limit_in_bytes", "memory__usage_in_bytes", "total_inactive_file")
        numbers = {names[0]: f"{most * MEBIBYTE}", names[1]: f"{used * MEBIBYTE}"}
        write(folder, **numbers, memory__stat=f"anon 5\n{names[2]} {of_files * MEBIBYTE}")

    root = tmp_path / "cgroup"
    group(root, 1000, 300, 100)
    group(root / "a", 100, 30, 0)
    group(root / "full", 100, 120, 10)
    group(root / "memory" / "v1", 40, 20, 10, version=1)
    (tmp_path / "own").write_text(own)
    (tmp_path / "meminfo").write_text(
        f"MemTotal: 9 kB\nMemAvailable:   {4000 * 1024} kB\nVmallocUsed: 1 kB\n"
    )
    monkeypatch.setattr(usable, "CONTROL_GROUPS", root)
    monkeypatch.setattr(usable, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(usable, "MEMORY", tmp_path / "meminfo")
    assert usable_memory() == found * MEBIBYTE
    for words in ("", "MemAvailable:\n", "MemTotal: 5 kB\n"):
        (tmp_path / "meminfo").write_text(words)
        assert usable_memory() is None


class Processor:
    """Cores 0 to 3, of which this process may run on 1 and 3, and a clock; the file counts hundredths."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.own, self.idle, self.file = 0.0, 5.0, [100, 200, 300, 400], file
        clock = SimpleNamespace(monotonic=lambda: self.now, process_time=lambda: self.own)
        monkeypatch.setattr(usable, "time", clock)
        monkeypatch.setattr(usable, "CORE_TIMES", file)
        monkeypatch.setattr(usable.os, "sched_getaffinity", lambda pid: {1, 3}, raising=False)
        monkeypatch.setattr(usable.os, "sysconf", lambda name: 100)
        self.after(0)

    def after(
        self, seconds: float, own: float = 0, idle: tuple[float, ...] = (0, 0, 0, 0), running: int = 9
    ) -> None:
        """Let time pass: in which this process computed, and each core was idle; and who wants one now."""
        self.now += seconds
        self.own += own
        self.idle = [held + round(100 * more) for held, more in zip(self.idle, idle, strict=True)]
        # Waiting for a disk, in the next column, is no work either.
        lines = [f"cpu{i} 30 1 20 {idle - idle // 3} {idle // 3} 0 1 0" for i, idle in enumerate(self.idle)]
        self.file.write_text(
            "\n".join(
                ["cpu  99 99 99 99 99 0 9 9 9 9", *lines, "intr 1 2 3", "ctxt 5", f"procs_running {running}"]
            )
        )


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Processor:
    return Processor(tmp_path / "stat", monkeypatch)


def test_cores_that_others_take(processor: Processor) -> None:
    taken = CoresTaken()
    assert taken() == 0  # nobody knows yet
    processor.after(LEAST_PERIOD / 2, idle=(0, 0.1, 0.1, 0))
    assert taken() == 0
    # Of the 0.4 seconds of both cores, 0.2 idle and 0.1 our own.
    processor.after(LEAST_PERIOD / 2, own=0.1, idle=(0.1, 0, 0.1, 0.1))
    assert taken() == pytest.approx(0.5)
    processor.after(LEAST_PERIOD / 2, own=0.2)
    assert taken() == pytest.approx(0.5)  # as long as nothing newer is known
    processor.after(LEAST_PERIOD / 2, own=0.2)
    assert taken() == pytest.approx(0)
    processor.after(10, idle=(10, 0, 10, 0))  # both cores are others'
    assert taken() == pytest.approx(2)
    processor.after(10, idle=(10, 0, 10, 0), running=2)  # one of the two has ended meanwhile
    assert taken() == pytest.approx(1)
    processor.after(10, idle=(10, 0, 10, 0), running=1)  # nobody is there now but who asks
    assert taken() == 0
    processor.after(10, own=10.5, idle=(0, 0, 0, 10))  # hundredths are rounded: never below none
    assert taken() == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cpu  1 2 3 4 5\n",
        "cpu1 0 0 0 0 0\ncpu3 0 0 0 0 0\nprocs_running 2\n",
        "cpu1 x\ncpu3 y\nprocs_running 2\n",
        "cpu1 1 2 3 4 5\ncpu3 1 2 3 4 5\n",
    ],
)
def test_a_system_that_does_not_tell(text: str, processor: Processor) -> None:
    """Nothing is taken then, whether it never told or stops telling."""
    told = CoresTaken()
    processor.after(1)
    assert told() == pytest.approx(2)
    processor.after(1)
    processor.file.write_text(text)
    assert told() == 0
    never = CoresTaken()
    processor.after(1)
    assert never() == 0
    processor.file.unlink()
    assert CoresTaken()() == 0


def test_a_system_without_a_choice_of_cores(processor: Processor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(usable.os, "sched_getaffinity")
    taken = CoresTaken()
    processor.after(1)
    assert taken() == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no threads to cores")
@pytest.mark.parametrize(
    ("taken", "calls"),
    [({1}, [{0, 2}, {0, 1, 2}]), ({0, 1, None}, [{2}, {0, 1, 2}]), ({0, 1, 2}, []), ({0, 1, 2, 3}, [])],
)
def test_a_thread_leaves_cores_that_are_taken(
    taken: set[int | None], calls: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: made.append(cores))
    leave_cores(taken)
    assert made == calls


def test_the_core_is_one_that_may_be_used() -> None:
    assert usable.current_core() is None or usable.current_core() in os.sched_getaffinity(0)
