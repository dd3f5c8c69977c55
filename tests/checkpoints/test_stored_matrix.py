"""Matrices rounded while a model is loaded: in memory, one after the other, and no file is written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import reference_model, save
from terminals import TINYSTAR, on_terminal

from tinystar_np.checkpoints.element_types import to_float32
from tinystar_np.conversion import convert
from tinystar_np.kernels.linear import unpacked
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix, PackedMatrix
from tinystar_np.loading import load

SIZES = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
AT_ONCE = "import tinystar_np.progress_bar as b; b.FEW = 1; b.SECONDS_BEFORE = 0; "
NEEDS_SMAPS = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell")


@pytest.mark.parametrize(("dtype", "kind"), [("int8", Int8Matrix), ("bfloat16", Bfloat16Matrix)])
def test_vectors_and_routers_stay_float32(dtype: str, kind: type, tmp_path: Path) -> None:
    small = SIZES | {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_local_experts": 3,
    }
    model, _ = load(save(reference_model("mixtral", **small), tmp_path / "model"), dtype)
    for name, array in model.weights.items():
        stays = "router" in name or "norm" in name
        assert isinstance(array, np.ndarray if stays else kind), name


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    directory = save(reference_model("llama", **SIZES), tmp_path / "model")
    before = set(tmp_path.rglob("*"))
    load(directory, "int8")
    assert set(tmp_path.rglob("*")) == before


def test_progress_is_shown_on_a_terminal(talking_model: Path, tmp_path: Path) -> None:
    asked = ["--temperature", "0", "-n", "3", "Hello"]
    rounding = ["ask", "-m", str(talking_model), "--dtype", "bfloat16", *asked]
    code, shown = on_terminal(*rounding, program=AT_ONCE + TINYSTAR)
    assert code == 0
    assert "rounding to bfloat16: " in shown
    assert "DIR --dtype bfloat16 keeps the result." in " ".join(shown.split())  # broken to fit
    code, converted = on_terminal(
        "convert",
        str(talking_model),
        str(tmp_path / "new"),
        "--dtype",
        "bfloat16",
        program=AT_ONCE + TINYSTAR,
    )
    assert code == 0
    assert "converting to bfloat16: " in converted
    code, again = on_terminal("ask", "-m", str(tmp_path / "new"), *asked, program=AT_ONCE + TINYSTAR)
    assert code == 0
    assert shown.endswith(again)


def llama(stored: str, tmp_path: Path) -> Path:
    return save(reference_model("llama", **SIZES).to(getattr(torch, stored)), tmp_path / "model")


@pytest.fixture
def largest(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much of a mapped file is in memory, each time that a tensor of it is converted."""
    seen: list[int] = []

    def watched(*arguments: Any) -> Any:
        seen.append(resident("model/model.safetensors"))
        return to_float32(*arguments)

    monkeypatch.setattr("tinystar_np.checkpoints.checkpoint.to_float32", watched)
    monkeypatch.setattr("tinystar_np.checkpoints.stored_matrix.to_float32", watched)
    return seen


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
@pytest.mark.parametrize("stored", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])  # (out, in) in the file, and (in, out)
def test_a_large_matrix_is_rounded_some_outputs_at_a_time(
    architecture: str, stored: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its float32 is never in memory as a whole, and the result is the same."""
    sizes = SIZES if architecture == "llama" else {"n_embd": 64, "n_layer": 1, "n_head": 2}
    reference = reference_model(architecture, **sizes).to(getattr(torch, stored))
    directory = save(reference, tmp_path / "model")
    at_once, _ = load(directory, dtype)
    made: list[int] = []

    def counted(array: Any, *others: Any) -> Any:
        made.append(array.size)
        return to_float32(array, *others)

    monkeypatch.setattr("tinystar_np.checkpoints.stored_matrix.STRIP", 1000)
    monkeypatch.setattr("tinystar_np.checkpoints.stored_matrix.to_float32", counted)
    in_strips, _ = load(directory, dtype)
    assert not made or max(made) <= 1024  # what keeps its type is not rounded
    assert bool(made) == ((stored, dtype) != ("bfloat16", "bfloat16"))
    for name, matrix in at_once.weights.items():
        other = in_strips.weights[name]
        if isinstance(matrix, PackedMatrix):
            assert isinstance(other, PackedMatrix)
            np.testing.assert_array_equal(other.stored, matrix.stored)
            np.testing.assert_array_equal(unpacked(other), unpacked(matrix))


@NEEDS_SMAPS
@pytest.mark.parametrize(
    ("stored", "dtype"),
    [("float32", "int8"), ("float32", "bfloat16"), ("bfloat16", "int8"), ("float16", "auto")],
)
def test_the_file_is_not_in_memory_beside_what_was_made_of_it(
    stored: str, dtype: str, tmp_path: Path, largest: list[int]
) -> None:
    """Neither at the end, nor while one matrix after the other is read."""
    directory = llama(stored, tmp_path)
    size = (directory / "model.safetensors").stat().st_size
    model, _ = load(directory, dtype)
    assert model.weights
    assert len(largest) > 20
    assert max(*largest, resident("model/model.safetensors")) < size / 4


@NEEDS_SMAPS
@pytest.mark.parametrize("dtype", ["int8", "bfloat16", "float32"])
def test_nor_when_it_is_converted(dtype: str, tmp_path: Path, largest: list[int]) -> None:
    directory = llama("float32", tmp_path)
    convert(directory, tmp_path / "new", dtype)
    assert len(largest) > 20
    assert max(largest) < (directory / "model.safetensors").stat().st_size / 4


def resident(file: str) -> int:
    """Bytes of a mapped file, named by the end of its path, that are in this process's memory."""
    found, mapped = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:  # a mapping's first line: where it lies, and what it is of
            mapped = line.endswith(file)
        elif mapped and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found
