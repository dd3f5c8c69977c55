"""Bad weights, one row for each fault: files that are no safetensors, and tensors that are no model's."""

import io
import pickle
import struct
import zipfile
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any

import pytest
from bad_files import (
    AGAIN,
    Row,
    Spoil,
    assert_refused,
    config,
    content,
    entry,
    file_bytes,
    read_tensors,
    sparse,
    weights,
    write_good,
)

from tinystar_np.errors import CheckpointError
from tinystar_np.loading import load

WEIGHTS = "model.safetensors"
FILE = r"/model\.safetensors: "
NAME = "h.0.mlp.c_fc.weight"  # (8, 32)
TENSOR = rf"{FILE}tensor '{NAME}' has"

GOOD = file_bytes({"a": entry([2], 0, 8), "b": entry([1], 8, 12)}, b"\0" * 12)
ONE = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
STRUCTURE: dict[str, bytes] = {
    "empty": b"",
    "length beyond the file": file_bytes({}, length=1000),
    "length of 2^63": file_bytes({}, length=2**63),
    "length of 2^64 - 1": file_bytes({}, length=2**64 - 1),
    "length zero": file_bytes(b"", b"\0" * 12),
    "one byte too many": GOOD + b"\0",
    "header without its closing brace": GOOD[: GOOD.rindex(b"}")],
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
    "offsets of 2^64": file_bytes({"a": entry([1], 2**64 - 4, 2**64)}),
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
    "a long name with orders to the terminal": file_bytes({"\x1b[2J" * 10_000: entry([1], 4, 8)}, b"\0" * 8),
}


class Trap:
    """Opened as a pickle, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def pickled(directory: Path) -> bytes:
    return pickle.dumps(Trap(directory / "opened"), protocol=2)


def zipped_pickle(directory: Path) -> bytes:
    """As torch.save writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(directory))
    return buffer.getvalue()


def only_a_pickle(directory: Path) -> None:
    (directory / WEIGHTS).unlink()
    (directory / "pytorch_model.bin").write_bytes(zipped_pickle(directory))


def stored_as(element_type: str, bits: int) -> Spoil:
    """Store one matrix in another type."""
    return tensor(element_type, [8, 32], bits)


def shaped(*shape: int) -> Spoil:
    """Give one matrix another shape."""
    return tensor("F32", list(shape), 32)


def tensor(element_type: str, shape: list[int], bits: int, *names: str) -> Spoil:
    found = element_type, shape, bytes(prod(shape) * bits // 8)
    return weights(lambda t: t.update(dict.fromkeys(names or [NAME], found)))


def refused(spoil: Spoil, message: str) -> Row:
    return Row(spoil, CheckpointError, message)


ENDS = "wte.weight", "lm_head.weight"
UNREADABLE = {"F4": 4, "C64": 64}
NO_WEIGHTS = {"F8_E4M3": 8, "F8_E5M2": 8, "I8": 8, "U8": 8, "BOOL": 8, "I32": 32, "U64": 64}
SHAPES = ((8, 31), (32, 8), (8, 0), (0, 2**62), (8, 32, 1), (1,) * 1000)
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 548105171\n"
ANY_CODE = r"is no safetensors file but a pickle.*can run code\.\nConvert it"
ROWS: dict[str, Row] = {
    **{
        f"file: {name}": refused(
            content(WEIGHTS, data), rf"{FILE}not a complete safetensors file \(.*\)\.{AGAIN}"
        )
        for name, data in STRUCTURE.items()
    },
    "file: a name twice": refused(
        content(WEIGHTS, file_bytes(f'{{"a": {ONE}, "a": {ONE}}}'.encode(), bytes(4))),
        rf"{FILE}the key 'a' stands there twice\.{AGAIN}",
    ),
    "file: a header of 2 GB": refused(
        sparse(WEIGHTS, 1 << 32, struct.pack("<Q", 1 << 31)),
        rf"{FILE}.*its header has 2147483648 bytes, which no model's has",
    ),
    "file: a web page": refused(
        content(WEIGHTS, "<!DOCTYPE html><html><body>404"),
        rf"{FILE}is no safetensors file but a web page\.{AGAIN}",
    ),
    "file: an LFS pointer": refused(content(WEIGHTS, LFS), rf"{FILE}.* but a pointer of Git LFS.*{AGAIN}"),
    "file: GGUF": refused(
        content(WEIGHTS, b"GGUF\x03\0\0\0" + bytes(32)), rf"{FILE}.* but one of GGUF\.{AGAIN}"
    ),
    "file: a pickle": refused(lambda d: (d / WEIGHTS).write_bytes(pickled(d)), FILE + ANY_CODE),
    "file: a zipped pickle": refused(lambda d: (d / WEIGHTS).write_bytes(zipped_pickle(d)), FILE + ANY_CODE),
    "file: only a pickle": refused(
        only_a_pickle,
        r"no safetensors, only pytorch_model\.bin, which is not opened: it can run code\.\nConvert",
    ),
    **{
        f"type: {name}": refused(
            stored_as(name, bits),
            rf"{TENSOR} element type {name}, which cannot be read\.\nQuantised.*use the original",
        )
        for name, bits in UNREADABLE.items()
    },
    **{
        f"type: {name}": refused(
            stored_as(name, bits),
            rf"{TENSOR} element type {name}, which is none of F64, F32, F16, BF16\.\nQuantised",
        )
        for name, bits in NO_WEIGHTS.items()
    },
    **{
        f"shape: {str(shape)[:15]}": refused(
            shaped(*shape),
            rf"{TENSOR} shape \({shape[0]}, .*\), the config asks for \(8, 32\)"
            + (r", of which it is the transpose" if shape == (32, 8) else "")
            + r"\.\n.*download both",
        )
        for shape in SHAPES
    },
    "shape: no axis": refused(shaped(), rf"{TENSOR} shape \(\), the config asks for"),
    "shape: one axis": refused(shaped(256), rf"{TENSOR} shape \(256,\), the config asks for"),
    "shape: no axis at both ends": refused(
        tensor("F32", [], 32, *ENDS), r"'wte.weight' has shape \(\), the config"
    ),
    "shape: nothing at both ends": refused(
        tensor("F32", [0, 8], 32, *ENDS), r"'wte.weight' has shape \(0, 8\), the"
    ),
    "shape: a larger vocabulary in the config": refused(
        config(vocab_size=2**53),
        r"'wte.weight' has shape \(48, 8\), the config asks for \(9007199254740992, 8\)",
    ),
    "tensors: none": refused(
        content(WEIGHTS, file_bytes({})),
        r"it lacks 'wte.weight', 'wpe.weight', .* and 24 more tensors\.\n.*again",
    ),
    "tensors: one missing": refused(
        weights(lambda t: t.pop("h.1.ln_2.bias")),
        r"do not fit config.json: it lacks 'h.1.ln_2.bias'\.\nThe files",
    ),
    "tensors: one too many": refused(
        weights(lambda t: t.update(adapter=t[NAME])),
        r"it has 'adapter', which this architecture does not know\.\n",
    ),
    "tensors: a name of 20 kB": refused(
        weights(lambda t: t.update({"a\n" * 10_000: t[NAME]})), r"it has 'a\\na\\n.*\.\.\..*', which this"
    ),
    "tensors: one renamed": refused(
        weights(lambda t: t.update({"h.0.mlp.wi": t.pop(NAME)})),
        rf"it lacks '{NAME}'; it has 'h.0.mlp.wi', which",
    ),
    "tensors: one under both its names": refused(
        weights(lambda t: t.update({"transformer.wte.weight": t["wte.weight"]})),
        rf"{FILE}the tensor 'wte.weight' is there twice, as .*'transformer.wte.weight'\.\n.*again",
    ),
    "tensors: a layer too few": refused(
        config(n_layer=3), r"it lacks 'h.2.ln_1.weight', .* and 8 more tensors\.\n"
    ),
    "tensors: a layer too many": refused(
        config(n_layer=1), r"it has 'h.1.attn.c_attn.bias', .* and 8 more tensors, "
    ),
    "tensors: no output layer": refused(config(tie_word_embeddings=False), r"it lacks 'lm_head.weight'\."),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_bad_weights_are_refused(row: Row, tmp_path: Path, capsys: Any) -> None:
    directory = write_good(tmp_path / "model")
    assert_refused(row, directory, capsys)
    assert not (directory / "opened").exists()  # by a pickle


def test_weights_that_are_cut_around_every_boundary(tmp_path: Path) -> None:
    directory = write_good(tmp_path)
    path = directory / WEIGHTS
    whole, sizes = path.read_bytes(), [len(data) for _, _, data in read_tensors(path).values()]
    header = len(whole) - sum(sizes)
    ends = [0, 8, header // 2, header, *accumulate(sizes, initial=header)]
    for length in sorted({end + step for end in ends for step in range(-2, 3)} & set(range(len(whole)))):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=f"{FILE}not a complete safetensors file"):
            load(directory)
    path.write_bytes(whole)
    load(directory)
