"""One safetensors file: zero copy, all element types, and a table of damaged files."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.checkpoints.element_types import to_float32
from tinystar_np.checkpoints.safetensors_file import SafetensorsFile
from tinystar_np.errors import CheckpointError


def file_bytes(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """Bytes of a file. A header given as an object is padded with spaces to 8 bytes, as every writer does."""
    text = header
    if not isinstance(text, bytes):
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], start: int, end: int, element_type: str = "F32") -> dict[str, object]:
    return {"dtype": element_type, "shape": shape, "data_offsets": [start, end]}


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

    assert isinstance(base(a), np.memmap)
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
    file = SafetensorsFile(path)
    np.testing.assert_array_equal(file.array("x"), values)
    assert file.array("x").flags.aligned
    assert not file.array("x").flags.writeable
    assert not np.shares_memory(file.array("x"), file.array("x"))
    assert np.shares_memory(file.array("byte"), file.array("byte"))


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


@pytest.mark.parametrize(("element_type", "count"), [("F8_E4M3", 4), ("F8_E5M2", 4), ("F4", 8), ("C64", 1)])
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


GOOD = file_bytes({"a": entry([2], 0, 8), "b": entry([1], 8, 12)}, b"\0" * 12)
HEADER_END = len(GOOD) - 12
ONE = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'

DAMAGED = {
    "empty": b"",
    "half a length": GOOD[:7],
    "only a length": GOOD[:8],
    "half a header": GOOD[: HEADER_END // 2],
    "header without its last byte": GOOD[: HEADER_END - 1],
    "header without its closing brace": GOOD[: GOOD.rindex(b"}")],
    "no data": GOOD[:HEADER_END],
    "half a tensor": GOOD[:-6],
    "last byte missing": GOOD[:-1],
    "one byte too many": GOOD + b"\0",
    "length beyond the file": file_bytes({}, length=1000),
    "length of 2^63": file_bytes({}, length=2**63),
    "length of 2^64 - 1": file_bytes({}, length=2**64 - 1),
    "length zero": file_bytes(b"", b"\0" * 12),
    "header is no JSON": file_bytes(b"{{{{"),
    "header is an array": file_bytes(b"[]"),
    "header is not UTF-8": file_bytes(b'{"\xff": 1}'),
    "header nested deeply": file_bytes(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "padded with NUL": file_bytes(b"{}\0\0"),
    "gap at the start": file_bytes({"a": entry([1], 4, 8)}, b"\0" * 8),
    "gap between": file_bytes({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, b"\0" * 12),
    "overlap": file_bytes({"a": entry([1], 0, 4), "b": entry([1], 2, 6)}, b"\0" * 6),
    "the same bytes twice": file_bytes({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"\0" * 4),
    "reversed offsets": file_bytes({"a": entry([1], 4, 0)}, b"\0" * 4),
    "negative offset": file_bytes({"a": entry([1], -4, 0)}),
    "shape too large for its bytes": file_bytes({"a": entry([3], 0, 8)}, b"\0" * 8),
    "shape too small for its bytes": file_bytes({"a": entry([1], 0, 8)}, b"\0" * 8),
    "shape overflows": file_bytes({"a": entry([2**62, 2**62], 0, 0)}),
    "negative shape": file_bytes({"a": entry([-1], 0, 4)}, b"\0" * 4),
    "fractional shape": file_bytes(
        {"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}, b"\0" * 4
    ),
    "unknown type": file_bytes({"a": entry([1], 0, 4, "Q9")}, b"\0" * 4),
    "no type": file_bytes({"a": {"shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
    "three offsets": file_bytes({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, b"\0" * 4),
    "metadata no strings": file_bytes({"__metadata__": {"format": 1}}),
    "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "an LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 548105171\n",
    "a pickle": b"\x80\x02}q\x00.",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_refused_when_opened(tmp_path, content):
    path = write(tmp_path, content)
    with pytest.raises(CheckpointError) as caught:
        SafetensorsFile(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not a complete safetensors file")
    assert message.endswith(f"Delete {path.resolve()} and download it again.")
    assert message.count("\n") == 1


def test_the_file_that_the_damaged_ones_are_made_from_is_good(tmp_path):
    assert SafetensorsFile(write(tmp_path, GOOD)).names == ["a", "b"]


def test_a_name_that_stands_twice_in_the_header_is_refused(tmp_path):
    path = write(tmp_path, file_bytes(f'{{"a": {ONE}, "a": {ONE}}}'.encode(), b"\0" * 4))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: the key 'a' stands there twice"):
        SafetensorsFile(path)


def test_no_file_a_directory_and_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing.safetensors", tmp_path, tmp_path / "pipe"):
        with pytest.raises(CheckpointError, match="there is no such file"):
            SafetensorsFile(path)
