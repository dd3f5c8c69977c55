"""What the tables of bad files are made of: small good models, ways to spoil them, and what must follow."""

import json
import os
import re
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tinystar_np.checkpoints.model_files import INDEX_FILE
from tinystar_np.checkpoints.weight_table import expand
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import TinyStarError
from tinystar_np.loading import load
from tinystar_np.models.gpt2 import GPT2

MEMORY = 12_000_000  # bytes, a hundred times what the good model takes
CONFIG = {"model_type": "gpt2", "vocab_size": 48, "n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2}
SHARDS = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"

AGAIN = r"\nDelete /.* and download it again\.$"
NOT_REGULAR = r"is not a regular file\.\n.*download it again"
OUT = "leads out of the model's directory, to "

Tensor = tuple[str, list[int], bytes]
"""Element type, shape and bytes, as a file holds them."""
Spoil = Callable[[Path], Any]


class Row(NamedTuple):
    """One kind of fault.

    spoil    what makes a good directory bad
    error    what loading it raises, exactly
    message  a regular expression that the message must hold
    """

    spoil: Spoil
    error: type[TinyStarError]
    message: str


def file_bytes(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """Bytes of a safetensors file. A header given as an object is padded to 8 bytes, as every writer does."""
    text = header
    if not isinstance(text, bytes):
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], start: int, end: int, element_type: str = "F32") -> dict[str, object]:
    return {"dtype": element_type, "shape": shape, "data_offsets": [start, end]}


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    header, data = {}, b""
    for name, (element_type, shape, content) in tensors.items():
        header[name] = entry(shape, len(data), len(data) + len(content), element_type)
        data += content
    path.write_bytes(file_bytes(header, data))


def read_tensors(path: Path) -> dict[str, Tensor]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    data = content[8 + length :]
    return {
        name: (found["dtype"], found["shape"], data[slice(*found["data_offsets"])])
        for name, found in json.loads(content[8 : 8 + length]).items()
    }


def good_tensors(**config: Any) -> dict[str, Tensor]:
    """The weights of a small GPT-2, all random."""
    checked = GPT2.Config.from_dict({**CONFIG, **config})
    random = np.random.default_rng(0)
    shapes = {row.theirs: list(row.stored) for row in expand(GPT2.WEIGHTS, checked).values()}
    return {
        name: ("F32", shape, random.standard_normal(shape).astype("<f4").tobytes())
        for name, shape in shapes.items()
    }


def write_good(directory: Path) -> Path:
    """Write a model that loads, in one file."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    write_tensors(directory / "model.safetensors", good_tensors())
    return directory


def write_sharded(directory: Path) -> Path:
    """Write a model that loads, in two files."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    tensors = list(good_tensors().items())
    parts = dict(zip(SHARDS, (dict(tensors[:9]), dict(tensors[9:])), strict=True))
    for shard, part in parts.items():
        write_tensors(directory / shard, part)
    write_index(directory, {name: shard for shard, part in parts.items() for name in part})
    return directory


def write_index(directory: Path, weight_map: object) -> None:
    (directory / INDEX_FILE).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def content(name: str, data: bytes | str) -> Spoil:
    """Put something else into a file."""
    return lambda directory: (directory / name).write_bytes(data.encode() if isinstance(data, str) else data)


def config(**changes: Any) -> Spoil:
    """Change keys of config.json."""
    return content("config.json", json.dumps(CONFIG | changes))


def in_place(name: str, make: Callable[[Path], Any]) -> Spoil:
    """Put something into the place of a file that is no file."""

    def spoil(directory: Path) -> None:
        (directory / name).unlink(missing_ok=True)
        make(directory / name)

    return spoil


def sparse(name: str, size: int, beginning: bytes = b"") -> Spoil:
    """Put a file of any size there, which takes no room."""

    def spoil(directory: Path) -> None:
        (directory / name).write_bytes(beginning)
        os.truncate(directory / name, size)

    return spoil


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def weights(change: Callable[[dict[str, Tensor]], Any], file: str = "model.safetensors") -> Spoil:
    """Change the tensors of a file."""

    def spoil(directory: Path) -> None:
        tensors = read_tensors(directory / file)
        change(tensors)
        write_tensors(directory / file, tensors)

    return spoil


def assert_refused(row: Row, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Spoil a good directory, and hold what loading and the command line make of it against the row."""
    row.spoil(directory)
    tracemalloc.start()
    try:
        with pytest.raises(TinyStarError) as caught:
            load(directory)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.type is row.error
    message = str(caught.value)
    assert re.search(row.message, message), message
    assert str(directory) in message or "config.json" in message
    assert message.endswith(".")
    assert message.isprintable() or message.replace("\n", "").isprintable()
    assert len(message.splitlines()) <= 2
    assert len(message) < 1200
    assert peak < MEMORY
    assert tinystar(["ask", "-m", str(directory), "Hello", "-n", "1"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert re.search(row.message, err.rstrip()), err  # of two faults it may name the other
    assert len(err.splitlines()) <= 2
