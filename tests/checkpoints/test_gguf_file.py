"""GGUF files: what the package of that name writes is read, and every kind of damage is an error of ours."""

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinystar_np.checkpoints.gguf_file import map_gguf
from tinystar_np.checkpoints.gguf_header import HEADER_LIMIT
from tinystar_np.errors import CheckpointError

gguf = pytest.importorskip("gguf", reason="the gguf package writes the files")

TYPES = ("F32", "F16", "BF16", "Q4_0", "Q8_0", "MXFP4")


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def write(path: Path, keys: Callable[[Any], None] | None = None, **options: Any) -> dict[str, np.ndarray]:
    """Write a small file with a tensor of each type that the package can make; return what is in them."""
    writer = gguf.GGUFWriter(path, "llama", **options)
    if keys is not None:
        keys(writer)
    numbers = {}
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        data = gguf.quants.quantize(normal(3, 64), kind)
        writer.add_tensor(f"matrix.{name}", data, raw_dtype=kind)
        numbers[f"matrix.{name}"] = gguf.quants.dequantize(data, kind)
    for shape in ((5,), (2, 3, 4), (2, 1, 3, 4)):
        writer.add_tensor(f"of {len(shape)} dimensions", normal(*shape))
        numbers[f"of {len(shape)} dimensions"] = normal(*shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return numbers


def every_kind_of_key(writer: Any) -> None:
    for name, value in (("uint8", 255), ("int8", -128), ("uint16", 65535), ("int16", -(2**15))):
        getattr(writer, f"add_{name}")(f"a.{name}", value)
    for name, value in (
        ("uint32", 2**32 - 1),
        ("int32", -(2**31)),
        ("uint64", 2**64 - 1),
        ("int64", -(2**63)),
    ):
        getattr(writer, f"add_{name}")(f"a.{name}", value)
    writer.add_float32("a.float32", 0.5)
    writer.add_float64("a.float64", 1e300)
    writer.add_bool("a.bool", True)
    writer.add_string("a.text", "wörld 😀\0")
    writer.add_array("many.texts", ["", "a", "é", "x" * 300])
    writer.add_array("many.integers", [1, -2, 3])
    writer.add_array("many.floats", [0.5, -1.5])
    writer.add_array("many.bools", [True, False])


def test_what_the_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    numbers = write(path, every_kind_of_key)
    found = map_gguf(path)
    assert found.files == [path]
    assert list(found.tensors) == list(numbers)
    for name, expected in numbers.items():
        tensor = found.tensors[name]
        assert (tensor.path, tensor.name, tensor.shape) == (path, name, expected.shape)
        assert tensor.element_type == (name.partition(".")[2] or "F32")
        assert not tensor.memory.flags.writeable
        np.testing.assert_array_equal(tensor.float32(), expected)
        assert tensor.rows().shape[:-1] == expected.shape[:-1]
    keys = found.metadata
    assert keys["general.architecture"] == "llama"
    assert [keys[f"a.{name}"] for name in ("uint8", "int8", "uint16", "int16")] == [
        255,
        -128,
        65535,
        -(2**15),
    ]
    assert [keys["a.uint32"], keys["a.int32"]] == [2**32 - 1, -(2**31)]
    assert [keys["a.uint64"], keys["a.int64"]] == [2**64 - 1, -(2**63)]
    assert [keys["a.float32"], keys["a.float64"], keys["a.text"]] == [0.5, 1e300, "wörld 😀\0"]
    assert keys["a.bool"] is True
    assert keys["many.texts"] == ["", "a", "é", "x" * 300]
    for name, values, kind in (
        ("integers", [1, -2, 3], np.int32),
        ("floats", [0.5, -1.5], np.float32),
        ("bools", [True, False], np.bool_),
    ):
        array = keys[f"many.{name}"]
        assert isinstance(array, np.ndarray)
        assert array.dtype == kind
        assert array.tolist() == values


def test_alignment_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    numbers = write(path, lambda writer: writer.add_custom_alignment(256))
    for name, expected in numbers.items():
        np.testing.assert_array_equal(map_gguf(path).tensors[name].float32(), expected)


def test_real_vocabularies(shared: Path) -> None:
    for path in sorted((shared / "ggml-vocab").glob("*.gguf")):
        found = map_gguf(path).metadata
        tokens = found["tokenizer.ggml.tokens"]
        assert isinstance(tokens, list)
        assert len(tokens) > 30_000
        if path.stem not in ("ggml-vocab-gpt-2", "ggml-vocab-llama-spm"):
            continue  # the package takes seconds for each
        reader = gguf.GGUFReader(path)
        assert list(found) == [key for key in reader.fields if not key.startswith("GGUF.")]
        field = reader.fields["tokenizer.ggml.tokens"]
        for i in range(0, len(tokens), 997):
            assert tokens[i] == bytes(field.parts[field.data[i]]).decode()


def test_a_large_vocabulary_is_read_quickly(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    count = 250_000
    texts = b"".join(text(f"token {i}") for i in range(count))
    scores = struct.pack("<IQ", 6, count) + np.zeros(count, np.float32).tobytes()
    array = struct.pack("<IQ", 8, count)
    path.write_bytes(
        made(
            keys=[key("tokens", 9, array + texts), key("merges", 9, array + texts), key("scores", 9, scores)]
        )
    )
    start = time.process_time()
    found = map_gguf(path)
    assert time.process_time() - start < 2  # 0.15 s when this was written
    assert found.metadata["merges"][-1] == f"token {count - 1}"  # type: ignore[index]
    assert found.metadata["scores"].shape == (count,)  # type: ignore[union-attr]


# Files as bytes, to write what the package would not.


def text(words: str | bytes) -> bytes:
    data = words.encode() if isinstance(words, str) else words
    return struct.pack("<Q", len(data)) + data


def key(name: str | bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def tensor(
    name: str | bytes = "w", dimensions: tuple[int, ...] = (32, 2), kind: int = 0, offset: int = 0
) -> bytes:
    return text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)


def made(
    keys: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    version: bytes = struct.pack("<I", 3),
    counts: tuple[int, int] | None = None,
    data: bytes = bytes(256),
    magic: bytes = b"GGUF",
) -> bytes:
    keys, tensors = keys or [], [tensor()] if tensors is None else tensors
    tensor_count, key_count = counts or (len(tensors), len(keys))
    header = magic + version + struct.pack("<QQ", tensor_count, key_count) + b"".join(keys + tensors)
    return header + bytes(-len(header) % 32) + data


def uint32(name: str, value: int) -> bytes:
    return key(name, 4, struct.pack("<I", value))


def test_the_least_file(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(made())
    assert map_gguf(path).tensors["w"].shape == (2, 32)
    path.write_bytes(made(version=struct.pack("<I", 2)))
    assert map_gguf(path).tensors["w"].float32().sum() == 0
    path.write_bytes(made(tensors=[tensor(dimensions=())]))
    assert map_gguf(path).tensors["w"].float32().shape == ()
    path.write_bytes(made(tensors=[tensor(kind=26)]))
    with pytest.raises(CheckpointError, match="holds I32, expected weights"):
        map_gguf(path).tensors["w"].float32()


HUGE = 1 << 60
DAMAGED = {
    "another format": (made(magic=b"GGML"), r"is no GGUF file: it begins with b'GGML'"),
    "a pickle": (b"PK\x03\x04" + bytes(100), "is no GGUF file but a pickle"),
    "a web page": (b"<!DOCTYPE html>", "is no GGUF file but a web page"),
    "nothing": (b"", "is an empty file"),
    "a beginning": (b"GG", "it begins with b'GG'"),
    "no counts": (made()[:20], "the number of keys goes beyond its end"),
    "version 1": (made(version=struct.pack("<I", 1)), "of version 1"),
    "version 4": (made(version=struct.pack("<I", 4)), "of version 4"),
    "version 0": (made(version=bytes(4)), "of version 0"),
    "big-endian": (made(version=struct.pack(">I", 3)), "big-endian"),
    "big-endian, version 2": (made(version=struct.pack(">I", 2)), "big-endian"),
    "many tensors": (made(counts=(HUGE, 0)), f"it has {HUGE} tensors"),
    "many keys": (made(counts=(0, HUGE)), f"it has {HUGE} keys"),
    "more tensors than there are": (made(counts=(9, 0)), "ends at byte|goes beyond its end"),
    "more keys than there are": (made(counts=(1, 9)), "goes beyond its end|does not exist|twice"),
    "a long key": (made([struct.pack("<Q", HUGE) + b"key"]), "a key goes beyond its end"),
    "a long text": (made([key("k", 8, struct.pack("<Q", HUGE))]), "'k' goes beyond its end"),
    "a longest text": (made([key("k", 8, struct.pack("<Q", 2**64 - 1))]), "'k' goes beyond its end"),
    "many texts": (made([key("k", 9, struct.pack("<IQ", 8, HUGE))]), "'k' goes beyond its end"),
    "many numbers": (made([key("k", 9, struct.pack("<IQ", 6, HUGE))]), "'k' goes beyond its end"),
    "many bytes": (made([key("k", 9, struct.pack("<IQ", 0, 2**64 - 1))]), "'k' goes beyond its end"),
    "arrays of arrays": (made([key("k", 9, struct.pack("<IQIQ", 9, 1, 9, 1))]), "an array of arrays"),
    "an unknown type": (made([key("k", 13, b"")]), "a value of type 13, which does not exist"),
    "an array of such": (made([key("k", 9, struct.pack("<IQ", 99, 1))]), "a value of type 99"),
    "no bool": (made([key("k", 7, b"\2")]), "neither 0 nor 1"),
    "a key twice": (made([uint32("k", 1), uint32("k", 1)]), "the key 'k' is there twice"),
    "a key not UTF-8": (made([key(b"\xff", 4, bytes(4))]), "a key is not UTF-8"),
    "a value not UTF-8": (made([key("k", 8, text(b"\xc3("))]), "'k' is not UTF-8"),
    "a surrogate": (made([key("k", 8, text(b"\xed\xa0\x80"))]), "'k' is not UTF-8"),
    "alignment 0": (made([uint32("general.alignment", 0)]), "alignment is 0"),
    "alignment 24": (made([uint32("general.alignment", 24)]), "alignment is 24, which is no power of two"),
    "alignment as text": (made([key("general.alignment", 8, text("32"))]), "alignment is '32'"),
    "alignment yes": (made([key("general.alignment", 7, b"\1")]), "alignment is True"),
    "alignment below 0": (made([key("general.alignment", 5, struct.pack("<i", -32))]), "alignment is -32"),
    "alignment beyond the file": (made([uint32("general.alignment", 1 << 31)]), "'w' ends at byte"),
    "a tensor twice": (made(tensors=[tensor(), tensor(offset=256)], data=bytes(512)), "'w' is there twice"),
    "five dimensions": (made(tensors=[tensor(dimensions=(1,) * 5)]), "5 dimensions, 4 at most"),
    "many dimensions": (made(tensors=[text("w") + struct.pack("<I", 2**32 - 1)]), "4294967295 dimensions"),
    "a dimension of 0": (made(tensors=[tensor(dimensions=(32, 0))]), r"has shape \(0, 32\)"),
    "an overflow": (made(tensors=[tensor(dimensions=(2**32, 2**32))]), "'w' ends at byte"),
    "a larger overflow": (made(tensors=[tensor(dimensions=(2**64 - 1,) * 4)]), "'w' ends at byte"),
    "type 99": (made(tensors=[tensor(kind=99)]), "'w' is of type 99, which is not read"),
    "IQ2_XXS": (made(tensors=[tensor(kind=16)]), "'w' is of type IQ2_XXS, which is not read"),
    "TQ1_0": (made(tensors=[tensor(kind=34)]), "'w' is of type TQ1_0, which is not read"),
    "no whole block": (made(tensors=[tensor(dimensions=(33, 32), kind=2)]), "Q4_0, whose blocks have 32"),
    "an offset beyond": (made(tensors=[tensor(offset=32)]), "'w' ends at byte 384, the file at 352"),
    "an offset far beyond": (made(tensors=[tensor(offset=HUGE)]), "'w' ends at byte"),
    "an offset between": (made(tensors=[tensor(offset=4)]), "begins at 4, no multiple of 32"),
    "an overlap": (
        made(tensors=[tensor("a"), tensor("b", offset=224)], data=bytes(512)),
        "'a' and 'b' overlap",
    ),
    "the same place": (made(tensors=[tensor("a"), tensor("b")]), "'a' and 'b' overlap"),
    "a cut tail": (made()[:-1], "'w' ends at byte 352, the file at 351"),
    "a cut entry": (made(tensors=[tensor()[:-4]], data=b"")[:60], "tensor 'w' goes beyond its end"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(name: str, tmp_path: Path) -> None:
    data, message = DAMAGED[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message) as caught:
        map_gguf(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable() or str(caught.value).replace("\n", "").isprintable()


def test_what_a_name_holds_is_shown_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(made(tensors=[tensor("\x1b[31m\n" + "x" * 5000, kind=99)]))
    with pytest.raises(CheckpointError) as caught:
        map_gguf(path)
    assert len(str(caught.value)) < 600
    assert "\x1b" not in str(caught.value)
    assert str(caught.value).count("\n") == 1


def test_cuts_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write(path, every_kind_of_key)
    whole = path.read_bytes()
    found = map_gguf(path)
    end = max(t.memory.__array_interface__["data"][0] + t.memory.nbytes for t in found.tensors.values())
    padding = len(whole) - (
        end - next(iter(found.tensors.values())).memory.base.__array_interface__["data"][0]
    )
    for length in range(0, len(whole) - padding, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            map_gguf(path)


def test_a_header_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with path.open("wb") as file:
        file.write(made([key("k", 9, struct.pack("<IQ", 8, HEADER_LIMIT))], data=b""))
        file.truncate(1 << 33)  # 8 GB of nothing
    with pytest.raises(CheckpointError, match="goes beyond the first 64 MB"):
        map_gguf(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    for name in ("pipe.gguf", "missing.gguf", "."):
        with pytest.raises(CheckpointError, match="there is no such file"):
            map_gguf(tmp_path / name)


# Models in several files.


@pytest.fixture
def split(tmp_path: Path) -> list[Path]:
    write(tmp_path / "model.gguf", every_kind_of_key, split_max_tensors=4)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [f"model-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    return files


def test_files_are_joined(split: list[Path], tmp_path: Path) -> None:
    numbers = write(tmp_path / "whole.gguf", every_kind_of_key)
    for given in split:
        found = map_gguf(given)
        assert found.files == split
        assert list(found.tensors) == list(numbers)
        assert found.metadata["a.text"] == "wörld 😀\0"
        for name, expected in numbers.items():
            np.testing.assert_array_equal(found.tensors[name].float32(), expected)
        assert {tensor.path for tensor in found.tensors.values()} == set(split)


def test_missing_files_are_named(split: list[Path]) -> None:
    split[0].unlink()
    split[1].unlink()
    with pytest.raises(CheckpointError, match=r"2 of the model's 3 files .*: model-00001.*, model-00002"):
        map_gguf(split[2])


def test_a_renamed_file(split: list[Path], tmp_path: Path) -> None:
    other = split[0].rename(tmp_path / "mine.gguf")
    with pytest.raises(CheckpointError, match="is one of 3 files of a model, number 0"):
        map_gguf(other)
    split[1].rename(split[0])
    with pytest.raises(CheckpointError, match="is one of 3 files of a model, number 1"):
        map_gguf(split[0])


def test_a_file_of_another_model(split: list[Path]) -> None:
    split[1].write_bytes(split[0].read_bytes())
    with pytest.raises(CheckpointError, match=r"split.no and split.count are \(0, 3\), expected \(1, 3\)"):
        map_gguf(split[0])


def split_keys(number: int, count: int, tensors: int) -> list[bytes]:
    return [
        key("split.no", 2, struct.pack("<H", number)),
        key("split.count", 2, struct.pack("<H", count)),
        key("split.tensors.count", 5, struct.pack("<i", tensors)),
    ]


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    files = [tmp_path / f"m-0000{i}-of-00002.gguf" for i in (1, 2)]
    for number, (file, name) in enumerate(zip(files, ("a", "b"), strict=True)):
        file.write_bytes(made(split_keys(number, 2, 3), [tensor(name)]))
    with pytest.raises(CheckpointError, match=r"have 2 tensors, but split.tensors.count is 3"):
        map_gguf(files[0])
    files[1].write_bytes(made(split_keys(1, 2, 2), [tensor("a")]))
    with pytest.raises(CheckpointError, match=r"'a' is in m-00001-of-00002.gguf as well"):
        map_gguf(files[0])
    files[1].write_bytes(made(split_keys(1, 9, 2), [tensor("b")]))
    with pytest.raises(CheckpointError, match=r"split.count 9"):
        map_gguf(files[1])


@pytest.mark.parametrize(
    "value", [key("split.count", 8, text("x")), key("split.count", 11, struct.pack("<q", -1))]
)
def test_an_odd_count_of_files(value: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-00002.gguf"
    path.write_bytes(made([value, key("split.no", 2, bytes(2))]))
    with pytest.raises(CheckpointError, match=r"its key split\.count"):
        map_gguf(path)


def test_a_link_out_of_the_directory(split: list[Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    split[1].rename(elsewhere / "secret.gguf")
    split[1].symlink_to(elsewhere / "secret.gguf")
    inside = tmp_path / "model"
    inside.mkdir()
    for file in split:
        file.rename(inside / file.name)
    with pytest.raises(CheckpointError, match="leads out of the model's directory"):
        map_gguf(inside / split[0].name)
