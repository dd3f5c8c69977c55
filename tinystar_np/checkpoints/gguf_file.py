"""Reading GGUF files, llama.cpp's format: a model in one file, with its config and tokenizer as keys.

What is in a file, and how far it is trusted, is in checkpoints/gguf_header.py. Large models come in several
files, of which the first has the keys, and the others tensors:

    model-00001-of-00003.gguf, model-00002-of-00003.gguf, model-00003-of-00003.gguf

All are found beside the one that is given, by their names.
"""

import re
from pathlib import Path
from typing import NamedTuple

from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.gguf_header import GgufTensor, Header, Value, read_header
from tinystar_np.checkpoints.json_file import one_line, shown
from tinystar_np.errors import CheckpointError

__all__ = ["GgufFile", "GgufTensor", "Value", "map_gguf"]

SPLIT_NAME = re.compile(r"(?P<model>.*)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)


class GgufFile(NamedTuple):
    """A GGUF file, or all files of a model that was split.

    metadata  the keys of the first
    tensors   by name, in the order of the files
    files     the file, or all of them in order
    """

    metadata: dict[str, Value]
    tensors: dict[str, GgufTensor]
    files: list[Path]


def map_gguf(path: Path) -> GgufFile:
    """Check a file and map it; with it all others of a model that was split, whichever is given.

    Raises CheckpointError if a file is missing, unreadable, damaged, of a version or with tensors of a type
    that cannot be read, or no GGUF file.
    """
    given = read_header(path)
    count = given.metadata.get("split.count", 1)
    if count == 1:
        return GgufFile(given.metadata, given.tensors, [path])
    named = SPLIT_NAME.fullmatch(path.name)
    number = given.metadata.get("split.no")
    if named is None or not _is_number(number, int(named["number"]) - 1):
        raise CheckpointError(
            f"{path}: is one of {shown(count)} files of a model, number {shown(number)} from 0 on.\n"
            "Give the files the names that they were made with, such as model-00001-of-00003.gguf: "
            "by these the others are found."
        )
    files = _files_of(path, named, count)
    return _joined([given if file == path else read_header(file) for file in files], files)


def _is_number(value: object, expected: int) -> bool:
    return isinstance(value, int) and value == expected


def _files_of(path: Path, named: re.Match[str], count: object) -> list[Path]:
    """List all files of a model from the name of one; raises CheckpointError where some are missing."""
    many = int(named["count"])
    if not _is_number(count, many):
        raise CheckpointError(
            f"{path}: its name says that it is one of {many} files, its key split.count {shown(count)}.\n"
            "Give it the name that it was made with."
        )
    names = [f"{named['model']}-{number:05d}-of-{many:05d}.gguf" for number in range(1, many + 1)]
    missing = [name for name in names if not (path.parent / name).exists()]
    if missing:
        listed = ", ".join(map(one_line, missing[:3])) + (", …" if len(missing) > 3 else "")
        raise CheckpointError(
            f"{path}: {len(missing)} of the model's {many} files are not beside it: {listed}.\n"
            "Download them as well."
        )
    return [path if name == path.name else file_inside(path.parent, name) for name in names]


def _joined(parts: list[Header], files: list[Path]) -> GgufFile:
    """Put the files of a model together."""
    tensors: dict[str, GgufTensor] = {}
    for number, (file, part) in enumerate(zip(files, parts, strict=True)):
        keys = "split.no", "split.count"
        found = tuple(part.metadata.get(key) for key in keys)
        if not (_is_number(found[0], number) and _is_number(found[1], len(files))):
            raise CheckpointError(
                f"{file}: {keys[0]} and {keys[1]} are {shown(found)}, expected {(number, len(files))}.\n"
                "The files are of different models; download them again."
            )
        for name, tensor in part.tensors.items():
            if name in tensors:
                raise CheckpointError(
                    f"{file}: tensor {shown(name)} is in {one_line(tensors[name].path.name)} as well.\n"
                    "The files are of different models; download them again."
                )
            tensors[name] = tensor
    metadata = parts[0].metadata
    count = metadata.get("split.tensors.count", len(tensors))
    if not _is_number(count, len(tensors)):
        raise CheckpointError(
            f"{files[0]}: all files together have {len(tensors)} tensors, but split.tensors.count is "
            f"{shown(count)}.\n"
            "The files are of different models; download them again."
        )
    return GgufFile(metadata, tensors, files)
