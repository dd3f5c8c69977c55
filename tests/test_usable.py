"""What a process may use: the limits of control groups, of both versions, as files say them."""

from pathlib import Path

import pytest

import tinystar_np.usable as usable
from tinystar_np.usable import usable_cores, usable_memory


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
