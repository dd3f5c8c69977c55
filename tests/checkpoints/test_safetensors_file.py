"""One safetensors file: zero copy, and all element types. Faults: test_bad_weights.py."""

import mmap
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_files import entry, file_bytes
from safetensors.torch import save_file

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.checkpoints.element_types import to_float32
from tinystar_np.checkpoints.safetensors_file import map_safetensors
from tinystar_np.errors import CheckpointError


def write(directory: Path, content: bytes) -> Path:
    path = directory / "model.safetensors"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("torch_type", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_float32_equals_torch(tmp_path, torch_type):
    special = torch.tensor([0.0, -0.0, 1.0, -1.5, torch.inf, -torch.inf, torch.nan, 1e-40, 3.3e38, 6e-8])
    values = torch.cat([special, torch.randn(1000)]).to(torch_type).reshape(2, 505)
    save_file({"x": values}, tmp_path / "model.safetensors")
    ours = open_checkpoint(tmp_path).float32("x")
    expected = values.to(torch.float32).numpy()
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(np.signbit(ours), np.signbit(expected))


def test_every_bfloat16_widens_to_what_torch_says():
    bits = np.arange(65536, dtype=np.uint16)
    expected = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16).to(torch.float32)
    np.testing.assert_array_equal(to_float32(bits, "BF16"), expected.numpy())


def test_float64_beyond_float32_is_infinite_without_a_warning(recwarn):
    assert to_float32(np.array([1e300, -1e300]), "F64").tolist() == [np.inf, -np.inf]
    assert not recwarn.list


def test_arrays_are_views_of_one_memory_map(tmp_path):
    save_file({"a": torch.randn(3, 4), "b": torch.randn(5)}, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    a, b = checkpoint["a"], checkpoint["b"]
    assert np.shares_memory(a, checkpoint["a"])
    assert np.shares_memory(a, checkpoint.float32("a"))

    def base(array):
        while isinstance(array.base, np.ndarray):
            array = array.base
        return array

    assert isinstance(base(a).base.obj, mmap.mmap)
    assert base(a) is base(b)
    assert type(a) is np.ndarray
    assert not a.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 1


def test_opening_reads_no_tensor(tmp_path):
    # A sparse file: 3 GB of zeros that are neither on the disk nor, if all is well, ever in memory.
    size = 3 << 30
    path = write(tmp_path, file_bytes({"x": entry([size // 4], 0, size)}))
    os.truncate(path, path.stat().st_size + size)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is measured through /proc")
    before = resident()
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.float32("x")[-1] == 0.0
    assert checkpoint.nbytes == size
    assert resident() - before < 16 << 20


def test_a_tensor_at_an_odd_offset_is_copied_and_the_others_are_not(tmp_path):
    values = np.array([1.5, -2.0], dtype="<f4")
    header = {"byte": entry([1], 0, 1, "U8"), "x": entry([2], 1, 9)}
    path = write(tmp_path, file_bytes(header, b"\x07" + values.tobytes()))
    tensors = map_safetensors(path).tensors
    np.testing.assert_array_equal(tensors["x"].array(), values)
    assert tensors["x"].array().flags.aligned
    assert not tensors["x"].array().flags.writeable
    assert not np.shares_memory(tensors["x"].array(), tensors["x"].array())
    assert np.shares_memory(tensors["byte"].array(), tensors["byte"].array())


def test_empty_tensors_scalars_metadata_and_an_empty_file(tmp_path):
    header = {"__metadata__": {"format": "pt"}, "none": entry([0, 3], 0, 0), "one": entry([], 0, 4)}
    checkpoint = open_checkpoint(write(tmp_path, file_bytes(header, b"\0\0\x80?")).parent)
    assert list(checkpoint) == ["none", "one"]
    assert checkpoint["none"].shape == (0, 3)
    assert checkpoint["one"].shape == ()
    assert checkpoint["one"] == 1.0
    assert len(open_checkpoint(write(tmp_path, file_bytes({})).parent)) == 0


def test_old_mask_buffers_can_be_looked_at_but_are_no_weights(tmp_path):
    buffers = {
        "h.0.attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.bool).tril(),
        "mask8": torch.ones(2, dtype=torch.uint8),
        "steps": torch.tensor([2**40]),
        "i8": torch.tensor([-1], dtype=torch.int8),
        "i32": torch.tensor([-7], dtype=torch.int32),
    }
    save_file(buffers, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    for name, expected in buffers.items():
        np.testing.assert_array_equal(checkpoint[name], expected.numpy())
        with pytest.raises(CheckpointError) as caught:
            checkpoint.float32(name)
        for word in (name, checkpoint.element_type(name), "model.safetensors"):
            assert word in str(caught.value)


@pytest.mark.parametrize(("element_type", "count"), [("F4", 8), ("C64", 1)])
def test_a_type_without_a_numpy_counterpart_is_named_when_touched(tmp_path, element_type, count):
    size = 8 if element_type == "C64" else 4
    header = {"good": entry([1], 0, 4), "strange": entry([count], 4, 4 + size, element_type)}
    checkpoint = open_checkpoint(write(tmp_path, file_bytes(header, b"\0" * (4 + size))).parent)
    assert checkpoint["good"] == 0.0
    assert "strange" in checkpoint
    for touch in (checkpoint.__getitem__, checkpoint.float32):
        with pytest.raises(CheckpointError, match=rf"model\.safetensors: tensor 'strange' .*{element_type}"):
            touch("strange")


def test_an_empty_tensor_of_impossible_shape(tmp_path):
    checkpoint = open_checkpoint(write(tmp_path, file_bytes({"x": entry([0, 2**62], 0, 0)})).parent)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: tensor 'x' of shape"):
        checkpoint["x"]
