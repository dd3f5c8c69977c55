"""Bad shards, one row for each fault: what an index may name, and files that do not belong together."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from bad_files import (
    AGAIN,
    NOT_REGULAR,
    OUT,
    SHARDS,
    Row,
    Spoil,
    assert_refused,
    content,
    file_bytes,
    in_place,
    link,
    read_tensors,
    weights,
    write_index,
    write_sharded,
    write_tensors,
)

from tinystar_np.checkpoints.model_files import INDEX_FILE
from tinystar_np.errors import CheckpointError
from tinystar_np.loading import load

FIRST, SECOND = SHARDS
INDEX = r"/model\.safetensors\.index\.json: "


def indexed(**changes: Any) -> Spoil:
    """Change entries of the index."""

    def spoil(directory: Path) -> None:
        weight_map = json.loads((directory / INDEX_FILE).read_text())["weight_map"]
        write_index(directory, weight_map | changes)

    return spoil


def swapped(directory: Path) -> None:
    (directory / FIRST).rename(directory / "aside")
    (directory / SECOND).rename(directory / FIRST)
    (directory / "aside").rename(directory / SECOND)


def many_shards(directory: Path) -> None:
    """Each in the index alone."""
    write_index(directory, {f"h.{i}": f"{i}.safetensors" for i in range(20_000)})


def doubled(directory: Path) -> None:
    """A tensor of the first shard is in the second as well."""
    tensors = read_tensors(directory / SECOND)
    write_tensors(directory / SECOND, tensors | {"wte.weight": read_tensors(directory / FIRST)["wte.weight"]})


def refused(spoil: Spoil, message: str) -> Row:
    return Row(spoil, CheckpointError, message)


NAMES = (
    *("../model.safetensors", "..", "/etc/x.safetensors", "sub/x.safetensors", "..\\x.safetensors"),
    *("x.safetensors\0", "pytorch_model.bin", "", 7, None, ["x.safetensors"], {"file": "x.safetensors"}),
    *([[[[[["x"]]]]]], "\x1b]0;x\x07.safetensors/", "x" * 10_000),
)
TWICE = f'{{"weight_map": {{"a": "{FIRST}", "a": "{SECOND}"}}}}'
ROWS: dict[str, Row] = {
    **{
        f"index: {text[:20]!r}": refused(content(INDEX_FILE, text), f"{INDEX}.*{AGAIN}")
        for text in ("", "{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "[" * 100_000, TWICE)
    },
    "index: a pipe": refused(in_place(INDEX_FILE, os.mkfifo), INDEX + NOT_REGULAR),
    "index: a directory": refused(in_place(INDEX_FILE, Path.mkdir), INDEX + NOT_REGULAR),
    "index: a link to elsewhere": refused(in_place(INDEX_FILE, link("/etc/passwd")), INDEX + OUT),
    **{
        f"name: {str(name)[:20]!r}": refused(
            indexed(evil=name),
            rf"{INDEX}tensor 'evil' is said to be in .*, which is no plain name .*\nThe index",
        )
        for name in NAMES
    },
    "name: longer than a disk allows": refused(
        indexed(evil=f"{'x' * 300}.safetensors"),
        r"/x+…: cannot be opened \(File name too long\)\.\n",
    ),
    "name: of a shard that is not there": refused(
        indexed(ghost="ghost.safetensors"),
        r"/ghost\.safetensors: there is no such file\.\n.*download it again",
    ),
    "name: of 20 000 shards": refused(many_shards, r"/0\.safetensors: there is no such file"),
    "shard: missing": refused(
        lambda d: (d / SECOND).unlink(), rf"/{SECOND}: there is no such file\.\n.*download"
    ),
    "shard: a directory": refused(in_place(SECOND, Path.mkdir), f"/{SECOND}: {NOT_REGULAR}"),
    "shard: a pipe": refused(in_place(SECOND, os.mkfifo), f"/{SECOND}: {NOT_REGULAR}"),
    "shard: a link to elsewhere": refused(
        in_place(SECOND, link("/etc/passwd")), f"/{SECOND}: {OUT}/etc/passwd"
    ),
    "shard: a link to a device": refused(in_place(SECOND, link("/dev/zero")), f"/{SECOND}: {OUT}/dev/zero"),
    "shard: a link to itself": refused(in_place(SECOND, link(SECOND)), f"/{SECOND}: cannot be opened"),
    "shard: a link to nothing": refused(in_place(SECOND, link("none")), f"/{SECOND}: there is no such file"),
    "shard: empty": refused(content(SECOND, b""), rf"/{SECOND}: not a complete safetensors file .*{AGAIN}"),
    "shard: cut": refused(
        lambda d: (d / SECOND).write_bytes((d / SECOND).read_bytes()[:-1]),
        rf"/{SECOND}: not a complete safetensors file .*{AGAIN}",
    ),
    "shard: without tensors": refused(
        content(SECOND, file_bytes({})), f"/{SECOND}: has no tensor .*, but {INDEX_FILE}"
    ),
    "shard: swapped": refused(swapped, rf"/{FIRST}: has no tensor '.*', but {INDEX_FILE} says so\.\n.*again"),
    "shard: the other under both names": refused(
        lambda d: (d / SECOND).write_bytes((d / FIRST).read_bytes()),
        rf"/{SECOND}: tensor '.*' is also in {FIRST}\.",
    ),
    "tensor: in two shards": refused(
        doubled, rf"/{SECOND}: tensor 'wte.weight' is also in {FIRST}\.\nThe files are of different models"
    ),
    "tensor: in no shard": refused(
        indexed(ghost=SECOND), f"/{SECOND}: has no tensor 'ghost', but {INDEX_FILE}"
    ),
    "tensor: in the other shard": refused(
        indexed(**{"wte.weight": SECOND}), f"/{SECOND}: has no tensor 'wte.weight'"
    ),
    "tensor: not in the index, and of no use": refused(
        weights(lambda t: t.update(adapter=t["ln_f.bias"]), SECOND),
        "it has 'adapter', which this architecture",
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_bad_shards_are_refused(row: Row, tmp_path: Path, capsys: Any) -> None:
    assert_refused(row, write_sharded(tmp_path / "model"), capsys)


def test_every_length_of_an_index(tmp_path: Path) -> None:
    directory = write_sharded(tmp_path)
    path = directory / INDEX_FILE
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=INDEX):
            load(directory)
