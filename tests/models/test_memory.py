"""Matrices in memory of our own: the same numbers, another order, and files where memory is short."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_checkpoints import save_small_model

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import InputError
from tinystar_np.fast import layout
from tinystar_np.fast.layout import BAND, NARROW, PORTION, STRIP, VERY_WIDE, lay_out
from tinystar_np.fast.mapped import let_go, on_file
from tinystar_np.loading import load
from tinystar_np.models import memory
from tinystar_np.models.memory import linears_of


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "usable_cores", lambda: 2)


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
    laid = lay_out([matrix, matrix])
    for copy in laid:
        np.testing.assert_array_equal(copy, matrix)
        assert copy.dtype == np.float32
        assert not np.shares_memory(copy, matrix)
        assert copy.ctypes.data % 64 == 0
        assert not copy.flags.writeable
        if min(matrix.shape) > 1:
            assert copy.flags.c_contiguous == (becomes == "inputs" or (becomes == "as it was" and by_inputs))
    assert not np.shares_memory(*laid)


@pytest.mark.usefixtures("two_cores")
def test_what_is_copied_is_told_and_faults_surface() -> None:
    told: list[int] = []

    def tell(portion: np.ndarray) -> None:
        told.append(portion.size)

    matrix = np.ones((4 * PORTION // 1024 + 1, 1024), np.float32)
    lay_out([matrix, matrix], tell)
    assert sorted(told) == [1024] * 2 + [PORTION] * 8
    assert lay_out([], tell) == []

    def fail(portion: np.ndarray) -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        lay_out([matrix, matrix], fail)


@pytest.mark.parametrize("kind", ["gpt2", "untied", "llama", "granitemoehybrid", "deepseek_v3"])
def test_a_model_in_memory_and_on_file(kind: str, save_gpt2: Any, tmp_path: Path) -> None:
    if kind in ("gpt2", "untied"):
        _, directory = save_gpt2(tie_word_embeddings=kind == "gpt2")
    else:
        directory = save_small_model(kind, tmp_path)
    mapped, (model, _) = load(directory)[0], load(directory, in_memory=True)
    assert all(on_file(linear.weight) for linear in linears_of([mapped.blocks, mapped.head]))
    assert not any(on_file(linear.weight) for linear in linears_of([model.blocks, model.head]))
    assert model.head in linears_of([model.blocks, model.head])  # also where the logits are scaled
    assert len(list(linears_of([model.blocks, model.head]))) > 8
    assert all(on_file(array) for array in model.weights.values())
    ids = np.random.default_rng(1).integers(0, model.vocab_size, (2, 9))
    expected = mapped(ids)
    np.testing.assert_allclose(model(ids), expected, rtol=0, atol=3e-6 * np.abs(expected).max())
    np.testing.assert_allclose(model(ids[:1]), expected[:1], rtol=0, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_narrow_matrices_stay_where_they_are(dtype: str, save_gpt2: Any) -> None:
    _, directory = save_gpt2()
    expected = load(directory, dtype)[0]([1, 2, 3])
    np.testing.assert_array_equal(load(directory, dtype, in_memory=True)[0]([1, 2, 3]), expected)


def test_what_is_put_in_place_of_a_matrix_stays(save_gpt2: Any) -> None:
    _, directory = save_gpt2()
    model, _ = load(directory)
    out = model.blocks[0].attention.out
    out.weight = zeros = np.zeros_like(out.weight)
    model.move_into_memory()
    assert out.weight is zeros
    assert not on_file(model.blocks[1].attention.out.weight)


def test_without_room_all_is_as_it_was(save_gpt2: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(memory, "usable_memory", lambda: 10_000)
    _, directory = save_gpt2()
    model, _ = load(directory)
    with pytest.raises(InputError, match=r"0\.0 GB are free"):
        model.move_into_memory()
    assert all(on_file(linear.weight) for linear in linears_of(model.blocks))
    monkeypatch.setattr(memory, "usable_memory", lambda: None)  # where the system does not tell
    model.move_into_memory()
    assert not any(on_file(linear.weight) for linear in linears_of(model.blocks))


def test_from_the_command_line(talking_model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ["ask", "-m", str(talking_model), "--temperature", "0", "-n", "3", "Hello"]
    assert tinystar(ask) == 0
    expected = capsys.readouterr().out
    assert tinystar([*ask, "--in-memory"]) == 0
    assert capsys.readouterr().out == expected
    monkeypatch.setattr(memory, "usable_memory", lambda: 0)
    assert tinystar([*ask, "--in-memory"]) == 1
    assert "GB are free" in capsys.readouterr().err


tells_memory = pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="only Linux tells what of a file is in memory"
)


@tells_memory
def test_what_was_copied_no_longer_takes_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": np.ones((2048, 4096), np.float32)}, path)
    checkpoint = open_checkpoint(tmp_path)
    matrix = checkpoint["a"]
    assert matrix.sum() == 2048 * 4096
    assert _in_memory(path) >= 32 << 20
    (copy,) = lay_out([matrix], let_go)
    assert _in_memory(path) < 4 << 20
    np.testing.assert_array_equal(copy, matrix)


@tells_memory
def test_a_part_of_a_mapped_tensor_brings_no_neighbours_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": np.ones((2048, 4096), np.float32)}, path)
    part = open_checkpoint(tmp_path)["a"][2:2042]  # Linux maps 64 KB at once, of large pieces 2 MB
    before = _in_memory(path)
    assert layout.compact(part) is part
    assert part.sum() == part.size
    assert _in_memory(path) - before <= part.nbytes + 2 * mmap.PAGESIZE


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
