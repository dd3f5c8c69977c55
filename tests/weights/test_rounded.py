"""Matrices that were rounded once and kept: the same numbers, whatever happens to the file or the disk."""

import errno
import os
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import reference_model, save
from safetensors.numpy import load_file, save_file
from terminals import TINYSTAR, on_terminal

from tinystar_np.checkpoints.element_types import to_float32
from tinystar_np.cli.main import tinystar
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix
from tinystar_np.loading import load
from tinystar_np.weights import rounded
from tinystar_np.weights.rounded import cache_folder

IDS = np.random.default_rng(1).integers(0, 211, 30)
NARROW = pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
SMALL = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 64},  # (in, out), a table of positions
    "llama": SMALL | {"tie_word_embeddings": False},  # (out, in)
    "mixtral": SMALL | {"num_local_experts": 3},
    "gpt_oss": SMALL | {"num_local_experts": 4, "head_dim": 8},  # all experts in one tensor
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, where even small models are kept."""
    monkeypatch.setattr(rounded, "LEAST_KEPT", 0)
    monkeypatch.setenv("TINYSTAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rounded"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(reference_model("llama", **MODELS["llama"]), tmp_path / "model")


def files(cache: Path) -> list[Path]:
    return sorted(cache.iterdir()) if cache.exists() else []


def logits(directory: Path, dtype: str = "int8") -> np.ndarray:
    return load(directory, dtype)[0](IDS)


def unkept(directory: Path, monkeypatch: pytest.MonkeyPatch, dtype: str = "int8") -> np.ndarray:
    with monkeypatch.context() as patch:
        patch.setenv("TINYSTAR_CACHE", "off")
        return logits(directory, dtype)


def rounding_again(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows when a matrix is rounded."""
    seen: list[int] = []

    def watched(name: str) -> Callable[[Any], Any]:
        plain = getattr(rounded, name)
        return lambda weight: (seen.append(weight.size), plain(weight))[1]

    for name in ("quantise", "to_bfloat16"):
        monkeypatch.setattr(rounded, name, watched(name))
    return seen


@NARROW
@pytest.mark.parametrize("model_type", MODELS)
def test_the_second_start_finds_the_same_numbers(
    model_type: str, dtype: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = save(reference_model(model_type, **MODELS[model_type]), tmp_path / "model")
    expected = unkept(directory, monkeypatch, dtype)
    assert files(cache) == []
    seen = rounding_again(monkeypatch)
    np.testing.assert_array_equal(logits(directory, dtype), expected)
    assert len(files(cache)) == 1
    assert seen
    seen.clear()
    found, _ = load(directory, dtype)
    np.testing.assert_array_equal(found(IDS), expected)
    assert seen == []
    kinds = {type(array) for array in found.weights.values() if not isinstance(array, np.ndarray)}
    assert kinds == {Int8Matrix if dtype == "int8" else Bfloat16Matrix}
    for array in found.weights.values():
        stored = array if isinstance(array, np.ndarray) else array.stored
        assert not stored.flags.owndata  # of the mapped files
        assert not stored.flags.writeable


def test_vectors_and_routers_stay_in_the_model(cache: Path, tmp_path: Path) -> None:
    directory = save(reference_model("mixtral", **MODELS["mixtral"]), tmp_path / "model")
    found, _ = load(directory, "int8")
    matrices = {name for name, array in found.weights.items() if not isinstance(array, np.ndarray)}
    kept = load_file(files(cache)[0])
    assert set(kept) == matrices | {f"{name}.scales" for name in matrices}
    assert not any("router" in name or "norm" in name for name in kept)


def test_a_bfloat16_file_needs_no_copy_in_bfloat16(cache: Path, tmp_path: Path) -> None:
    directory = save(reference_model("llama", **MODELS["llama"]).bfloat16(), tmp_path / "model")
    for dtype in ("auto", "bfloat16", "float32"):
        load(directory, dtype)
    assert files(cache) == []
    load(directory, "int8")
    assert len(files(cache)) == 1


@NARROW
@pytest.mark.parametrize("same_date", [False, True])
def test_other_weights_in_the_same_place_are_seen(
    same_date: bool, dtype: str, cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = logits(model, dtype)
    weights, before = model / "model.safetensors", (model / "model.safetensors").stat()
    others = {name: array[..., ::-1].copy() for name, array in load_file(weights).items()}
    save_file(others, weights, {"format": "pt"})
    assert weights.stat().st_size == before.st_size
    if same_date:  # as in images of containers, where every file has the same
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    expected = unkept(model, monkeypatch, dtype)
    np.testing.assert_array_equal(logits(model, dtype), expected)
    assert np.abs(first - expected).max() > 1e-3
    assert len(files(cache)) == 1  # the file of the old weights is gone


def test_types_and_models_do_not_meet(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [
        save(reference_model("llama", seed, **MODELS["llama"]), tmp_path / str(seed) / "model")
        for seed in (1, 2)
    ]
    for _ in range(2):
        for folder in folders:
            np.testing.assert_array_equal(logits(folder), unkept(folder, monkeypatch))
    assert len(files(cache)) == 2


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def replaced(file: Path) -> None:
    file.write_bytes(b"something else")


def of_other_shapes(file: Path) -> None:
    arrays = load_file(file)
    name = min(name for name in arrays if arrays[name].ndim == 2)
    save_file(arrays | {name: arrays[name].T.copy()}, file)


def of_other_types(file: Path) -> None:
    arrays = load_file(file)
    save_file({name: array.view(np.uint8).reshape(*array.shape, -1) for name, array in arrays.items()}, file)


def incomplete(file: Path) -> None:
    arrays = load_file(file)
    arrays.popitem()
    save_file(arrays, file)


@NARROW
@pytest.mark.parametrize("damage", [cut, replaced, of_other_shapes, of_other_types, incomplete])
def test_a_damaged_file_is_quietly_made_again(
    damage: Callable[[Path], None], dtype: str, cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = logits(model, dtype)
    (file,) = files(cache)
    whole = file.read_bytes()
    damage(file)
    assert file.read_bytes() != whole
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(logits(model, dtype), expected)
    assert files(cache) == [file]
    assert file.read_bytes() == whole


def no_room(*given: Any) -> None:
    given[0].write(b"a beginning")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_without_room_the_model_is_loaded_all_the_same(
    cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = unkept(model, monkeypatch)
    monkeypatch.setattr(rounded, "write_safetensors", no_room)
    with pytest.warns(UserWarning, match="not kept for the next start.*No space left"):
        np.testing.assert_array_equal(logits(model), expected)
    assert files(cache) == []  # nothing unfinished


def test_where_no_folder_can_be_made(cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.write_text("a file")
    with pytest.warns(UserWarning, match="TINYSTAR_CACHE=off"):
        np.testing.assert_array_equal(logits(model), unkept(model, monkeypatch))


def test_the_command_says_it_in_a_note(cache: Path, talking_model: Path, capsys: Any) -> None:
    cache.parent.write_text("a file")
    ask = ["ask", "-m", str(talking_model), "--dtype", "int8", "-n", "2", "Hello"]
    assert tinystar(ask) == 0
    err = capsys.readouterr().err
    assert err.startswith("The rounded weights are not kept for the next start: ")
    assert len(err.splitlines()) == 1
    assert tinystar([*ask, "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_small_models_are_not_kept(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYSTAR_CACHE", str(tmp_path / "cache"))
    load(model, "int8")
    assert not (tmp_path / "cache").exists()


def test_several_at_once(cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = unkept(model, monkeypatch)
    found: list[np.ndarray] = []
    all_at_once = [threading.Thread(target=lambda: found.append(logits(model))) for _ in range(4)]
    for thread in all_at_once:
        thread.start()
    for thread in all_at_once:
        thread.join()
    assert len(found) == 4
    for one in found:
        np.testing.assert_array_equal(one, expected)
    assert len(files(cache)) == 1


def test_what_killed_processes_left_is_removed(cache: Path, model: Path) -> None:
    cache.mkdir(parents=True)
    old, new, other = cache / ".a.1.part", cache / ".b.2.part", cache / "notes.txt"
    for path in (old, new, other):
        path.write_text("x")
    os.utime(old, (time.time() - 2 * rounded.DAY,) * 2)
    load(model, "int8")
    assert {new, other} < set(files(cache))
    assert old not in files(cache)


@pytest.mark.parametrize(
    ("platform", "environment", "folder"),
    [
        ("linux", {}, "~/.cache/tinystar_np"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/tinystar_np"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "~/.cache/tinystar_np"),
        ("darwin", {}, "~/Library/Caches/tinystar_np"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/tinystar_np"),
        ("linux", {"TINYSTAR_CACHE": "~/mine", "XDG_CACHE_HOME": "/x"}, "~/mine"),
        ("linux", {"TINYSTAR_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/tinystar_np"),
        ("linux", {"TINYSTAR_CACHE": "off"}, None),
        ("linux", {"TINYSTAR_CACHE": "0"}, None),
    ],
)
def test_where_it_lies(
    platform: str, environment: dict[str, str], folder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TINYSTAR_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert cache_folder() == (None if folder is None else Path(folder).expanduser())


def test_names_say_which_model(cache: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--some--one" / "snapshots" / ("0" * 40)
    save(reference_model("llama", **MODELS["llama"]), snapshot)
    save(reference_model("llama", **MODELS["llama"]), tmp_path / "mein Modell ü")
    for directory in (snapshot, tmp_path / "mein Modell ü"):
        load(directory, "int8")
    assert [file.name.rsplit("-", 2)[0] for file in files(cache)] == ["mein_Modell__", "some--one"]


AT_ONCE = (
    "import tinystar_np.weights.rounded as r; import tinystar_np.progress_bar as b; "
    "r.LEAST_KEPT = b.FEW = b.SECONDS_BEFORE = 0; "
)


def test_progress_is_shown_on_a_terminal(talking_model: Path, tmp_path: Path) -> None:
    ask = ["ask", "-m", str(talking_model), "--dtype", "int8", "--temperature", "0", "-n", "3", "Hello"]
    how: dict[str, Any] = {"environment": {"TINYSTAR_CACHE": str(tmp_path / "cache")}}
    code, shown = on_terminal(*ask, program=AT_ONCE + TINYSTAR, **how)
    assert code == 0
    assert "rounding to int8: " in shown
    assert "keeping them for the next start: " in shown
    text = shown[shown.rindex("\r") + 1 :]  # what is left of the line
    code, again = on_terminal(*ask, program=AT_ONCE + TINYSTAR, **how)
    assert (code, again) == (0, text)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell")
@pytest.mark.parametrize(
    ("stored", "dtype"),
    [("float32", "int8"), ("float32", "bfloat16"), ("bfloat16", "int8"), ("float16", "auto")],
)
def test_the_file_is_not_in_memory_beside_what_was_made_of_it(
    stored: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither at the end, nor while one matrix after the other is read."""
    monkeypatch.setenv("TINYSTAR_CACHE", "off")
    sizes = SMALL | {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4}
    directory = save(reference_model("llama", **sizes).to(getattr(torch, stored)), tmp_path / "model")
    file = directory / "model.safetensors"
    seen: list[int] = []

    def watched(*arguments: Any) -> Any:
        seen.append(resident(file))
        return to_float32(*arguments)

    monkeypatch.setattr("tinystar_np.checkpoints.checkpoint.to_float32", watched)
    model, _ = load(directory, dtype)
    assert model.weights
    assert len(seen) > 20
    assert max(*seen, resident(file)) < file.stat().st_size / 4


def resident(file: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    found, mapped = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:  # a mapping's first line: where it lies, and what it is of
            mapped = line.endswith(str(file))
        elif mapped and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found
