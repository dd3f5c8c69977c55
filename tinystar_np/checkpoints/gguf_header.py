"""The header of a GGUF file: its keys, and where each tensor is in the file (checkpoints/gguf_file.py).

    "GGUF", version, number of tensors, number of keys       4, 4, 8 and 8 bytes, little-endian
    for each key      its name, the type of its value, the value
    for each tensor   its name, dimensions (innermost first), type, where its bytes begin
    data              the tensors' bytes, each from a multiple of ``general.alignment`` bytes (32) on

A text is its length (8 bytes) and UTF-8. The value of a key is a number, a text, or an array of one of them:
the vocabulary is an array of texts.

A file is untrusted. Its counts and lengths are compared with what there is of it before anything is made of
them, and the part before the data has a limit: in Python's memory it takes up to ten times its size. The
arrays of tensors are views of a memory map, as those of safetensors files (checkpoints/safetensors_file.py).

Specification: docs/gguf.md of github.com/ggml-org/ggml.
"""

import math
import mmap
import os
import struct
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.gguf_types import ELEMENT_TYPES, NOT_READ, WEIGHT_TYPES, ElementType
from tinystar_np.checkpoints.json_file import download_again, one_line, shown
from tinystar_np.checkpoints.safetensors_file import IMPOSTORS
from tinystar_np.errors import CheckpointError
from tinystar_np.kernels.block_types import BLOCK_TYPES, unpack

MAGIC = b"GGUF"
VERSIONS = (2, 3)  # 3 only adds big-endian files

# Real files have some tens of keys, some hundreds of tensors, and 10 MB before the data at most.
HEADER_LIMIT = 64_000_000
MOST_KEYS = MOST_TENSORS = 1 << 16
MOST_DIMENSIONS = 4

ALIGNMENT = "general.alignment"
UINT32, BOOL, STRING, ARRAY = 4, 7, 8, 9
NUMBERS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", UINT32: "<u4", 5: "<i4", 6: "<f4", BOOL: "?"}
NUMBERS |= {10: "<u8", 11: "<i8", 12: "<f8"}

Value = bool | int | float | str | list[str] | NDArray
"""A value in the metadata: arrays of numbers are NumPy's, in the type of the file; of texts, lists."""


class GgufTensor(NamedTuple):
    """A tensor within a mapped file; read-only."""

    path: Path
    name: str
    element_type: str  # such as "F32", "BF16" or "Q4_K"
    shape: tuple[int, ...]  # in NumPy's order, the outermost dimension first
    memory: NDArray[np.uint8]  # a view of the file

    def rows(self) -> NDArray[np.uint8]:
        """View the blocks as they lie: (..., bytes of a row), in which a row is the innermost dimension."""
        return self.memory.reshape(*self.shape[:-1], -1)

    def float32(self) -> NDArray[np.float32]:
        """Return the numbers, a new array. Raises CheckpointError for one of whole numbers or float64."""
        if self.element_type not in BLOCK_TYPES:
            raise CheckpointError(
                f"{self.path}: tensor {shown(self.name)} holds {self.element_type}, expected weights."
            )
        return unpack(self.element_type, self.memory).reshape(self.shape)


class Header(NamedTuple):
    """What one file holds: its keys and, by name, its tensors."""

    metadata: dict[str, Value]
    tensors: dict[str, GgufTensor]


def read_header(path: Path) -> Header:
    """Map a file and read its header.

    Raises CheckpointError if it is missing, unreadable or damaged, no GGUF file, or of a version or with
    tensors of a type that cannot be read.
    """
    return _Reader(path).read()


class _Reader:
    """Reads what is before the data, from front to back.

    data  the mapped file
    at    where the next byte to read is
    end   the file's end, or where the header must have ended
    """

    def __init__(self, path: Path):
        self.path = path
        self.data = _mapped(path)
        self.at = 0
        self.end = min(len(self.data), HEADER_LIMIT)

    def read(self) -> Header:
        """Read the header; raises CheckpointError for whatever is wrong with the file."""
        self._check_version()
        counts = self._number("<Q", "the number of tensors"), self._number("<Q", "the number of keys")
        for count, most, what in zip(counts, (MOST_TENSORS, MOST_KEYS), ("tensors", "keys"), strict=True):
            if count > most:
                raise self._damaged(f"it says that it has {count} {what}, which no model has")
        metadata: dict[str, Value] = {}
        for _ in range(counts[1]):
            key = self._text("a key")
            if key in metadata:
                raise self._damaged(f"the key {shown(key)} is there twice")
            metadata[key] = self._value(key)
        entries = [self._tensor() for _ in range(counts[0])]
        return Header(metadata, self._placed(entries, self._alignment(metadata)))

    def _check_version(self) -> None:
        beginning = self.data[:32]
        if beginning[:4] != MAGIC:
            for first, words in IMPOSTORS.items():
                if beginning.startswith(first):
                    raise CheckpointError(
                        f"{self.path}: is no GGUF file but {words}.\n{download_again(self.path)}"
                    )
            raise CheckpointError(
                f"{self.path}: is no GGUF file: it begins with {shown(beginning[:4])}.\n"
                f"{download_again(self.path)}"
            )
        self.at = len(MAGIC)
        version = self._number("<I", "the version")
        if version in VERSIONS:
            return
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        if swapped in (1, *VERSIONS):
            what = "is a GGUF file whose numbers are big-endian"
        elif version == 1:
            what = "is a GGUF file of version 1, the first of 2023"
        else:
            raise CheckpointError(
                f"{self.path}: is a GGUF file of version {version}, only {VERSIONS} are read.\n"
                f"{download_again(self.path)}"
            )
        raise CheckpointError(f"{self.path}: {what}.\nUse a newer, little-endian file of this model.")

    def _value(self, key: str) -> Value:
        kind = self._number("<I", f"the type of {shown(key)}")
        if kind == STRING:
            return self._text(shown(key))
        if kind == ARRAY:
            return self._array(key)
        return self._array_of_numbers(kind, 1, key)[0].item()

    def _array(self, key: str) -> list[str] | NDArray:
        kind, count = self._number("<I", shown(key)), self._number("<Q", shown(key))
        if kind == ARRAY:
            raise self._damaged(f"{shown(key)} is an array of arrays, which no model has")
        return self._texts(count, shown(key)) if kind == STRING else self._array_of_numbers(kind, count, key)

    def _array_of_numbers(self, kind: int, count: int, key: str) -> NDArray:
        if kind not in NUMBERS:
            raise self._damaged(f"{shown(key)} has a value of type {kind}, which does not exist")
        item = np.dtype(NUMBERS[kind])
        start = self._pass(count * item.itemsize, shown(key))
        array = np.frombuffer(self.data, np.uint8 if kind == BOOL else item, count, start)
        if kind == BOOL and (array > 1).any():
            raise self._damaged(f"{shown(key)} is true or false, but a byte of it is neither 0 nor 1")
        array = array.astype(item)  # aligned, and not a view that keeps the file mapped
        array.flags.writeable = False
        return array

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Read one entry: name, shape, number of the type, and offset in the data."""
        name = self._text("a tensor's name")
        dimensions = self._number("<I", f"tensor {shown(name)}")
        if dimensions > MOST_DIMENSIONS:
            raise self._damaged(
                f"tensor {shown(name)} has {dimensions} dimensions, {MOST_DIMENSIONS} at most"
            )
        *shape, kind, offset = struct.unpack_from(
            f"<{dimensions}QIQ", self.data, self._pass(8 * dimensions + 12, f"tensor {shown(name)}")
        )
        return name, tuple(reversed(shape)), kind, offset

    def _alignment(self, metadata: dict[str, Value]) -> int:
        alignment = metadata.get(ALIGNMENT, 32)
        if not isinstance(alignment, int) or isinstance(alignment, bool) or alignment <= 0:
            raise self._damaged(f"{ALIGNMENT} is {shown(alignment)}, expected a power of two")
        if alignment & (alignment - 1):
            raise self._damaged(f"{ALIGNMENT} is {alignment}, which is no power of two")
        return alignment

    def _placed(
        self, entries: list[tuple[str, tuple[int, ...], int, int]], alignment: int
    ) -> dict[str, GgufTensor]:
        """View the tensors' bytes, after a check that each has its own."""
        beginning = -(-self.at // alignment) * alignment  # of the data
        whole = np.frombuffer(self.data, np.uint8)
        tensors: dict[str, GgufTensor] = {}
        places: list[tuple[int, int, str]] = []
        for name, shape, kind, offset in entries:
            if name in tensors:
                raise self._damaged(f"tensor {shown(name)} is there twice")
            element_type = self._element_type(name, kind)
            size = self._size(name, shape, element_type)
            if offset % alignment:
                raise self._damaged(f"tensor {shown(name)} begins at {offset}, no multiple of {alignment}")
            start = beginning + offset
            if start + size > len(whole):
                raise self._damaged(
                    f"tensor {shown(name)} ends at byte {start + size}, the file at {len(whole)}"
                )
            places.append((start, start + size, name))
            tensors[name] = GgufTensor(self.path, name, element_type.name, shape, whole[start : start + size])
        places.sort()
        for (_, end, first), (start, _, second) in pairwise(places):
            if start < end:
                raise self._damaged(f"the tensors {shown(first)} and {shown(second)} overlap")
        return tensors

    def _element_type(self, name: str, kind: int) -> ElementType:
        if kind in ELEMENT_TYPES:
            return ELEMENT_TYPES[kind]
        raise CheckpointError(
            f"{self.path}: tensor {shown(name)} is of type {NOT_READ.get(kind, kind)}, which is not read.\n"
            f"Use a file of this model whose tensors are of {', '.join(WEIGHT_TYPES.values())}."
        )

    def _size(self, name: str, shape: tuple[int, ...], element_type: ElementType) -> int:
        """Return how many bytes a tensor has."""
        # NumPy cannot hold every shape of nothing, such as (0, 2⁶³), and no model has a tensor of nothing.
        if 0 in shape:
            raise self._damaged(f"tensor {shown(name)} has shape {shape}")
        kind, elements, size = element_type
        if (shape[-1] if shape else 1) % elements:
            raise self._damaged(
                f"tensor {shown(name)} of shape {shape} is of {kind}, whose blocks have {elements} weights"
            )
        return math.prod(shape) // elements * size

    def _number(self, form: str, what: str) -> int:
        number: int = struct.unpack_from(form, self.data, self._pass(struct.calcsize(form), what))[0]
        return number

    def _pass(self, size: int, what: str) -> int:
        """Go on by so many bytes, if they are there; return where they begin."""
        start = self.at
        if size > self.end - start:
            raise self._too_long(what)
        self.at += size
        return start

    def _text(self, what: str) -> str:
        return self._texts(1, what)[0]

    def _texts(self, count: int, what: str) -> list[str]:
        """Read texts; a vocabulary and its merges have some hundred thousand, so this is one tight loop."""
        if count > (self.end - self.at) // 8:  # each has a length of 8 bytes at least
            raise self._too_long(what)
        data, at, end = self.data, self.at, self.end
        length_at = struct.Struct("<Q").unpack_from
        found: list[str] = []
        try:
            for _ in range(count):
                start = at + 8
                at = start + length_at(data, at)[0]
                if at > end:
                    raise self._too_long(what)
                found.append(data[start:at].decode())
        except UnicodeDecodeError as error:
            raise self._damaged(f"{what} is not UTF-8: {one_line(error.reason)}") from error
        except struct.error as error:  # the length itself is cut off
            raise self._too_long(what) from error
        self.at = at
        return found

    def _too_long(self, what: str) -> CheckpointError:
        if self.end < len(self.data):
            return self._damaged(
                f"{what} goes beyond the first {HEADER_LIMIT / 1e6:g} MB, in which all but tensors must be"
            )
        return self._damaged(f"{what} goes beyond its end")

    def _damaged(self, problem: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: the GGUF file is damaged: {problem}.\n{download_again(self.path)}"
        )


def _mapped(path: Path) -> mmap.mmap:
    """Map a file; raises CheckpointError if it is missing, no regular file, empty, or unreadable."""
    if not os.path.isfile(path):  # a pipe or a device may never end
        raise CheckpointError(f"{path}: there is no such file.")
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:  # of a file without a byte
        raise CheckpointError(f"{path}: is an empty file.\n{download_again(path)}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
