"""Files of caches that somebody changed: refused, never taken for what they are not."""

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_files import file_bytes
from parity import random_ids, reference_model, save
from safetensors.numpy import load_file

from tinystar_np.checkpoints.json_file import SIZE_LIMIT
from tinystar_np.checkpoints.safetensors_writer import write_arrays
from tinystar_np.errors import CheckpointError
from tinystar_np.loading import load
from tinystar_np.whole_file import whole_file

SMALL = {"hidden_size": 32, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4}
MAMBA = {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 4}
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "mistral": {**SMALL, "num_key_value_heads": 2, "sliding_window": 5},
    "deepseek_v3": {**SMALL, "num_key_value_heads": 4, "first_k_dense_replace": 2},
    "mamba2": {**MAMBA, "hidden_size": 32, "num_hidden_layers": 2},
    "falcon_h1": {
        **SMALL,
        "num_key_value_heads": 2,
        "mamba_d_ssm": 64,
        "mamba_n_heads": 4,
        "mamba_d_state": 4,
    },
}
ROWS, TOKENS = 2, 7

Changed = tuple[Any, Path]


@pytest.fixture(scope="module")
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Changed:
    """A model, and a cache of its own in a file."""
    folder = tmp_path_factory.mktemp(request.param)
    model, _ = load(save(reference_model(request.param, **MODELS[request.param]), folder))
    cache = model.new_cache(ROWS, capacity=20)
    model(random_ids(ROWS, TOKENS), cache=cache)
    cache.save(folder / "whole.cache")
    return model, folder / "whole.cache"


def change(saved: Changed, path: Path, **changes: np.ndarray | None) -> None:
    """Copy the file with some arrays replaced, or left out where they are None."""
    model, whole = saved
    arrays = {name: array for name, array in (load_file(whole) | changes).items() if array is not None}
    with whole_file(path) as file:
        write_arrays(file, arrays, {"format": "tinystar_np cache 1", "model": model.fingerprint()})


each_model = pytest.mark.parametrize("saved", MODELS, indirect=True)


@each_model
def test_unchanged(saved: Changed, tmp_path: Path) -> None:
    model, whole = saved
    change(saved, tmp_path / "copy.cache")
    caches = [model.load_cache(path) for path in (whole, tmp_path / "copy.cache")]
    ids = random_ids(ROWS, 3, seed=2)
    expected = model(np.concatenate([random_ids(ROWS, TOKENS), ids], axis=1))[:, TOKENS:]
    first, second = (model(ids, cache=cache) for cache in caches)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - expected).max() < 1e-5 * np.abs(expected).max()


@each_model
def test_each_array(saved: Changed, tmp_path: Path) -> None:
    """Left out, of another type, rank or shape along any axis: the message says which arrays there are."""
    path = tmp_path / "prompt.cache"
    names = {name: array for name, array in load_file(saved[1]).items() if name != "lengths"}
    assert len({name.partition(".")[0] for name in names}) == 2
    for name, array in names.items():
        others = [None, array.astype(np.float64), array.astype(np.int32), array[None], np.zeros(3, "f4")]
        others += [np.concatenate([array, array], axis=axis) for axis in range(array.ndim) if array.size]
        others += [array.take(range(array.shape[a] - 1), axis=a) for a in range(array.ndim) if array.shape[a]]
        for other in others:
            change(saved, path, **{name: other})
            with pytest.raises(CheckpointError, match=r"prompt\.cache: this cache does not fit the model"):
                saved[0].load_cache(path)


@each_model
def test_further_arrays(saved: Changed, tmp_path: Path) -> None:
    path, more = tmp_path / "prompt.cache", np.zeros((ROWS, 1, TOKENS, 1), dtype=np.float32)
    for name, message in (
        ("1.other\x1b[2J", r"does not fit the model \(a[^\x1b]*other\\x1b\[2J"),
        ("1.1.other", "does not fit the model"),
        ("2.keys", r"does not fit the model \(arrays of layer 2, but layers 0 to 1\)"),
        ("3.keys", r"does not fit the model \(arrays of layer 3, but layers 0 to 1\)"),
        ("-1.keys", r"no complete saved cache \(its arrays are not those of layers\)"),
        ("x.keys", r"no complete saved cache \(its arrays are not those of layers\)"),
        ("keys", r"no complete saved cache \(its arrays are not those of layers\)"),
        ("01.keys", r"no complete saved cache \(its arrays are not those of layers\)"),
        ("1" * 5000 + ".keys", r"no complete saved cache \(its arrays are not those of layers\)"),
    ):
        change(saved, path, **{name: more})
        with pytest.raises(CheckpointError, match=rf"prompt\.cache: .*{message}"):
            saved[0].load_cache(path)


@pytest.mark.parametrize("saved", ["gpt2"], indirect=True)
@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (None, "no complete saved cache"),
        (np.array([-1, 7]), "no complete saved cache"),
        (np.array([7.0, 7.0]), "no complete saved cache"),
        (np.array([[7, 7]]), "no complete saved cache"),
        (np.zeros(0, "i8"), "no complete saved cache"),
        (np.array([7]), "does not fit the model"),
        (np.array([7, 7, 7]), "does not fit the model"),
        (np.array([7, 8]), "does not fit the model"),
        (np.array([3, 6]), "does not fit the model"),
        (np.array([7, 65]), r"does not fit the model \(65 tokens, where the context holds 64\)"),
        (np.array([7, 2**53]), "where the context holds 64"),
        (np.array([7, 2**63 - 1]), "no complete saved cache"),
    ],
)
def test_lengths(saved: Changed, lengths: np.ndarray | None, message: str, tmp_path: Path) -> None:
    change(saved, tmp_path / "prompt.cache", lengths=lengths)
    with pytest.raises(CheckpointError, match=rf"prompt\.cache: .*{message}"):
        saved[0].load_cache(tmp_path / "prompt.cache")


@pytest.mark.parametrize("saved", ["mistral"], indirect=True)
def test_lengths_beyond_what_a_window_holds(saved: Changed, tmp_path: Path) -> None:
    """A window of 5 is full from 5 tokens on; with fewer there must be fewer."""
    model, path = saved[0], tmp_path / "prompt.cache"
    change(saved, path, lengths=np.array([7, 4]))
    assert model.load_cache(path).lengths.tolist() == [7, 4]
    change(saved, path, lengths=np.array([4, 4]))
    with pytest.raises(CheckpointError, match="does not fit the model"):
        model.load_cache(path)


@pytest.mark.parametrize("saved", ["mamba2"], indirect=True)
def test_more_rows_than_memory(saved: Changed, tmp_path: Path) -> None:
    model, path = saved[0], tmp_path / "prompt.cache"
    change(saved, path, lengths=np.zeros(10**7, dtype=np.int64))
    with pytest.raises(CheckpointError, match="does not fit the model"):
        model.load_cache(path)


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header of a file, and the bytes after it."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def name_twice(header: dict[str, Any]) -> bytes:
    entry = json.dumps(header["lengths"])
    return json.dumps(header).replace('"lengths":', f'"lengths": {entry}, "lengths":', 1).encode()


def endless(header: dict[str, Any]) -> bytes:
    header["__metadata__"]["more"] = "x" * SIZE_LIMIT
    return json.dumps(header).encode()


def long_name(header: dict[str, Any]) -> bytes:
    header["1." + "x" * 1_000_000] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    return json.dumps(header).encode()


def huge_and_odd(header: dict[str, Any]) -> bytes:
    """Two TB at an odd address, which a copy of would fill the memory."""
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    header["2.byte"] = {"dtype": "U8", "shape": [1], "data_offsets": [end, end + 1]}
    header["2.keys"] = {"dtype": "F32", "shape": [1 << 39], "data_offsets": [end + 1, end + 1 + (1 << 41)]}
    return json.dumps(header).encode()


@pytest.mark.parametrize("saved", ["gpt2"], indirect=True)
@pytest.mark.parametrize(
    ("change_header", "message"),
    [
        (name_twice, r"no complete saved cache \(.*lengths.*\)\. Read the prompt again"),
        (endless, r"no complete saved cache \(.*its header has 30\d+ bytes, which no model's has"),
        (long_name, "does not fit the model"),
        (huge_and_odd, r"does not fit the model \(arrays of layer 2, but layers 0 to 1\)"),
    ],
)
def test_headers_as_those_of_a_model(
    saved: Changed, change_header: Callable[[dict[str, Any]], bytes], message: str, tmp_path: Path
) -> None:
    """The same checks, and nothing is read or copied that does not fit."""
    path = tmp_path / "prompt.cache"
    header, data = header_of(saved[1])
    path.write_bytes(file_bytes(change_header(header)) + data)
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    os.truncate(path, path.stat().st_size - len(data) + max(ends))  # sparse
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=rf"prompt\.cache: .*{message}") as caught:
            saved[0].load_cache(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("saved", ["gpt2"], indirect=True)
@pytest.mark.parametrize(
    "make",
    [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: None],
    ids=["directory", "pipe", "device", "nothing"],
)
def test_no_regular_file(saved: Changed, make: Callable[[Path], Any], tmp_path: Path) -> None:
    """Refused at once: reading a pipe would wait, reading a device never end."""
    make(tmp_path / "prompt.cache")
    with pytest.raises(CheckpointError, match=r"no complete saved cache \(there is no such file\)"):
        saved[0].load_cache(tmp_path / "prompt.cache")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "\ud800"])
@pytest.mark.parametrize("saved", ["gpt2"], indirect=True)
def test_names_that_no_file_has(saved: Changed, name: str) -> None:
    with pytest.raises(CheckpointError, match="no complete saved cache"):
        saved[0].load_cache(name)


@each_model
def test_the_file_is_needed_no_more(saved: Changed, tmp_path: Path) -> None:
    """Once it is read, it may be shortened."""
    model, path = saved[0], tmp_path / "prompt.cache"
    change(saved, path)
    cache = model.load_cache(path)
    expected = model(random_ids(ROWS, 3, seed=2), cache=cache.copy())
    os.truncate(path, 10)
    np.testing.assert_array_equal(model(random_ids(ROWS, 3, seed=2), cache=cache), expected)
