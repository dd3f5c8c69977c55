"""Freed memory goes back to the system, and nothing happens where the C library cannot."""

import ctypes
import platform
from pathlib import Path

import pytest

from tinystar_np.fast.machine import give_back_memory

BLOCK, BLOCKS = 100_000, 600  # bytes: below what C's allocator takes from the system piece by piece


def resident() -> int:
    """Bytes of this process that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives it back")
def test_freed_memory_is_given_back() -> None:
    blocks = [bytes(b"x" * BLOCK) for _ in range(BLOCKS)]
    del blocks[:-1]  # the last lies behind the others, so that the heap does not end before them
    before = resident()
    give_back_memory()
    assert before - resident() > 0.8 * BLOCK * BLOCKS
    assert len(blocks) == 1


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_other_libraries_keep_it(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: None) -> None:
        raise error("no such function")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    give_back_memory()
