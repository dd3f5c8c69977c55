"""Matrices in memory of our own: the same numbers, another order, and files where memory is short."""

import mmap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.loading import load
from tinystar_np.models import laid_out, weight_table
from tinystar_np.models.laid_out import BAND, NARROW, PORTION, STRIP, VERY_WIDE, fits, lay_out


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laid_out, "usable_cores", lambda: 2)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("by_inputs", [True, False])
@pytest.mark.parametrize(
    ("inputs", "outputs", "becomes"),
    [
        (3, 2 * NARROW, "outputs"),
        (3, 2 * NARROW + 1, "as it was"),
        (BAND + 1, STRIP + 1, "outputs"),
        (2 * STRIP - 1, 3 * BAND - 1, "outputs"),
        (3, VERY_WIDE - 1, "as it was"),
        (3, VERY_WIDE, "inputs"),
        (2 * PORTION // VERY_WIDE + 1, VERY_WIDE, "inputs"),
        (1, 1, "outputs"),
    ],
)
def test_orders(inputs: int, outputs: int, becomes: str, by_inputs: bool) -> None:
    numbers = np.random.default_rng(0).standard_normal(inputs * outputs, np.float32)
    matrix = numbers.reshape(inputs, outputs) if by_inputs else numbers.reshape(outputs, inputs).T
    laid = lay_out({"a": matrix, "b": matrix})
    assert list(laid) == ["a", "b"]
    for copy in laid.values():
        np.testing.assert_array_equal(copy, matrix)
        assert copy.dtype == np.float32
        assert not np.shares_memory(copy, matrix)
        assert copy.ctypes.data % 64 == 0
        assert not copy.flags.writeable
        if min(matrix.shape) > 1:
            assert copy.flags.c_contiguous == (becomes == "inputs" or (becomes == "as it was" and by_inputs))
    assert not np.shares_memory(laid["a"], laid["b"])


@pytest.mark.usefixtures("two_cores")
def test_what_is_copied_is_told_and_faults_surface() -> None:
    told: list[str] = []

    def tell() -> None:
        told.append(threading.current_thread().name)
        if len(told) == 3:
            raise OSError("the disk is gone")

    matrix = np.ones((4 * PORTION // 1024, 1024), np.float32)
    with pytest.raises(OSError, match="the disk is gone"):
        lay_out({"a": matrix, "b": matrix}, tell)
    assert 3 <= len(told) <= 4  # the other thread may have one in hand
    assert lay_out({}, tell) == {}


@pytest.mark.parametrize(("free", "room"), [(None, False), (800, True), (799, False), (0, False)])
def test_memory_that_is_short(free: int | None, room: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laid_out, "usable_memory", lambda: free)
    assert fits(100) == room


def on_file(array: Any) -> bool:
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, memoryview) and isinstance(array.obj, mmap.mmap)


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_in_memory_and_in_the_file(
    tied: bool, save_gpt2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, directory = save_gpt2(tie_word_embeddings=tied)
    ids = np.random.default_rng(1).integers(0, 211, (2, 9))
    model, _ = load(directory)
    monkeypatch.setattr(weight_table, "fits", lambda numbers: False)
    mapped, _ = load(directory)
    assert all(map(on_file, mapped.weights.values()))
    assert on_file(mapped.head.weight)
    assert not on_file(model.head.weight)
    assert on_file(model.tokens.weight)  # of it only few rows are read
    assert list(model.weights) == list(mapped.weights)
    assert model.parameters == mapped.parameters
    assert model.fingerprint() == mapped.fingerprint()
    for name, array in model.weights.items():
        np.testing.assert_array_equal(array, mapped.weights[name])
        assert on_file(array) == (array.ndim == 1 or name.startswith("embedding"))
    expected = mapped(ids)
    np.testing.assert_allclose(model(ids), expected, rtol=0, atol=3e-6 * np.abs(expected).max())


@pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="only Linux tells what of a file is in memory"
)
def test_what_was_copied_no_longer_takes_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": np.ones((2048, 4096), np.float32)}, path)
    checkpoint = open_checkpoint(tmp_path)
    matrix = checkpoint["a"]
    assert matrix.sum() == 2048 * 4096
    assert _in_memory(path) >= 32 << 20
    copy = lay_out({"a": matrix}, checkpoint.let_go)["a"]
    assert _in_memory(path) < 4 << 20
    np.testing.assert_array_equal(copy, matrix)


def _in_memory(path: Path) -> int:
    """Bytes of a mapped file that this process holds."""
    found = 0
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name = line.split()[0]
        if "-" in name:
            ours = line.endswith(str(path))
        elif ours and name == "Rss:":
            found += int(line.split()[1]) * 1024
    return found
