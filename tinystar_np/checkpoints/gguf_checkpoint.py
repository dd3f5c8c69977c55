"""The tensors of a GGUF file, by transformers' names and as transformers has them."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import cache, lru_cache
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.element_types import WEIGHT_TYPES, to_float32
from tinystar_np.checkpoints.gguf_file import GgufFile, GgufTensor
from tinystar_np.checkpoints.gguf_fused import taken_apart
from tinystar_np.checkpoints.gguf_names import NO_WEIGHTS, Names
from tinystar_np.checkpoints.gguf_undo import Heads, Undo, as_it_is
from tinystar_np.checkpoints.json_file import download_again, shown
from tinystar_np.checkpoints.packed_tensor import PackedTensor
from tinystar_np.errors import CheckpointError
from tinystar_np.fast.mapped import let_go
from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.block_types import BLOCK_TYPES, unpack
from tinystar_np.kernels.matrix_in_turns import MatrixInTurns

NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8", "I8": "i1", "I16": "<i2"}
NUMPY_TYPES |= {"I32": "<i4", "I64": "<i8"}
"""Types whose elements NumPy can hold; all others are blocks of several."""
LAYER = re.compile(r"blk\.(0|[1-9][0-9]{0,5})\.")
MOST_NAMES = 300_000  # the largest models have 70 000
MOST_COMPUTED = 1 << 26
"""Elements of a tensor whose undoing is more than moving rows; the largest real ones have 17 million."""


class Converted(NamedTuple):
    """A tensor as transformers has it, made from one or more of a GGUF file.

    sources  these tensors
    undo     how it is made of them
    heads    what that needs to know
    expert   which of those along the first axis is meant; None for all
    """

    sources: tuple[GgufTensor, ...]
    undo: Undo
    heads: Heads
    expert: int | None

    @property
    def element_type(self) -> str:
        """The type that all of it has; "F32" where it is computed, or its parts are of several types."""
        types = {source.element_type for source in self.sources}
        return types.pop() if len(types) == 1 and self.undo.by_rows else "F32"

    @property
    def is_packed(self) -> bool:
        """Whether its numbers lie in blocks."""
        return self.element_type not in NUMPY_TYPES

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape. Raises CheckpointError where the file's tensors have others than they can have."""
        shapes = tuple(source.shape[self.expert is not None :] for source in self.sources)
        try:
            shape = _shape(self.undo, shapes, self.heads)
        except (ValueError, IndexError) as error:
            path = self.sources[0].path
            found = " and ".join(f"{shown(source.name)} {source.shape}" for source in self.sources)
            H, G, K = self.heads
            raise CheckpointError(
                f"{path}: of {found} the original weights cannot be made, with {H} query heads and {G} key "
                f"heads of {K} numbers.\n{download_again(path)}"
            ) from error
        return _swapped(shape) if self.undo.transposed else shape

    def stored(self) -> NDArray:
        """Return what lies in the file: numbers of the stored type, or (..., bytes of a row) of blocks.

        A view of the file where nothing is to be undone. What ``undo`` says lies transposed still does.
        """
        if self.element_type == "F32":
            return self.undo.of([self._float32(source) for source in self.sources], self.heads)
        return self.undo.of([self._rows(source) for source in self.sources], self.heads)

    def float32(self) -> NDArray[np.float32]:
        """Return the numbers as transformers has them: a view of the file where they lie so."""
        array = self.undo.of([self._float32(source) for source in self.sources], self.heads)
        return array.swapaxes(-1, -2) if self.undo.transposed else array

    def parts_of(self, expert: int) -> list[NDArray[np.uint8]]:
        """Return the rows of blocks that each of its tensors has for an expert, as they lie."""
        return [self._rows(source)[expert] for source in self.sources]

    def _rows(self, source: GgufTensor) -> NDArray:
        """View a tensor, or its part for one expert, in the stored type; blocks as bytes."""
        rows: NDArray = source.rows()
        if self.expert is not None:
            rows = rows[self.expert]
        if source.element_type in NUMPY_TYPES:
            rows = rows.view(NUMPY_TYPES[source.element_type]).reshape(
                source.shape[self.expert is not None :]
            )
        return rows if rows.flags.aligned else rows.copy()

    def _float32(self, source: GgufTensor) -> NDArray[np.float32]:
        rows = self._rows(source)
        if source.element_type in WEIGHT_TYPES:
            return to_float32(rows, source.element_type)
        if source.element_type not in BLOCK_TYPES:
            raise CheckpointError(
                f"{source.path}: tensor {shown(source.name)} holds {source.element_type}, expected weights."
            )
        shape = source.shape[self.expert is not None :]
        return unpack(source.element_type, np.ascontiguousarray(rows).reshape(-1)).reshape(shape)


def _swapped(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-2], *shape[:-3:-1])


@lru_cache(maxsize=1000)
def _shape(undo: Undo, shapes: tuple[tuple[int, ...], ...], heads: Heads) -> tuple[int, ...]:
    """Return the shape that tensors of these shapes are made into, by doing it with bytes."""
    by_rows = undo.by_rows and min(map(len, shapes)) > 1
    if by_rows and len({shape[-1] for shape in shapes}) > 1:
        raise ValueError
    # Rows are moved as wholes: one byte of each is enough.
    if not by_rows and max(map(prod, shapes)) > MOST_COMPUTED:
        raise ValueError
    some = [np.zeros((*shape[:-1], 1) if by_rows else shape, np.float32) for shape in shapes]
    shape = undo.of(some, heads).shape
    return (*shape[:-1], shapes[0][-1]) if by_rows else shape


class GgufCheckpoint(Checkpoint):
    """The tensors of a GGUF file by transformers' names; those that it has no name for keep their own."""

    def __init__(self, file: GgufFile, names: Names, heads: Heads) -> None:
        """Name the tensors.

        names  of the file's architecture, from gguf_names.py
        heads  of the model's attention
        """
        self.files = file.files
        self.absent = {}
        self.unused = ()
        self._converted = _converted(taken_apart(file.tensors, names, heads), names, heads)
        self._sources = list(file.tensors.values())
        self.nbytes = sum(tensor.memory.nbytes for tensor in self._sources)

    def __getitem__(self, name: str) -> NDArray:
        """Return a tensor in the stored type, as transformers has it; of blocks, their bytes by rows."""
        tensor = self._converted[name]
        array = tensor.stored()
        return array.swapaxes(-1, -2) if tensor.undo.transposed and not tensor.is_packed else array

    def __iter__(self) -> Iterator[str]:
        return iter(self._converted)

    def __len__(self) -> int:
        return len(self._converted)

    def __contains__(self, name: object) -> bool:
        return name in self._converted

    def file_of(self, name: str) -> Path:
        """Path of the file that holds a tensor."""
        return self._converted[name].sources[0].path

    def name_in_file(self, name: str) -> str:
        """Name of a tensor in its file, of the first where it is made of several."""
        return self._converted[name].sources[0].name

    def element_type(self, name: str) -> str:
        """Type of a tensor as its file names it, such as "F32", "BF16" or "Q4_K"."""
        return self._converted[name].element_type

    def types(self) -> dict[str, int]:
        """Count the file's tensors of each element type."""
        return Counter(source.element_type for source in self._sources)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, as transformers has it."""
        return self._converted[name].shape

    def nbytes_of(self, name: str) -> int:
        """Bytes that a tensor takes in its file; of an expert's, its share of those of all."""
        experts = 1 if (tensor := self._converted[name]).expert is None else tensor.sources[0].shape[0]
        return super().nbytes_of(name) // experts

    def in_file(self, name: str) -> tuple[GgufTensor, ...]:
        """Return the tensors of the file that one is made of."""
        return self._converted[name].sources

    def packed(self, name: str) -> PackedTensor | None:
        """Return a matrix whose numbers lie in blocks, or one for each expert; None for any other tensor."""
        tensor = self._converted[name]
        if not tensor.is_packed or len(tensor.shape) not in (2, 3):
            return None
        rows = cache(tensor.stored)  # of all experts, which may have been in two tensors

        def read(expert: int | None) -> BlockMatrix | MatrixInTurns:
            if tensor.undo.in_turns and expert is not None:
                parts = tensor.parts_of(expert)
                return MatrixInTurns([blocks(part) for part in parts])
            return blocks(rows() if expert is None else rows()[expert])

        def blocks(stored: NDArray[np.uint8]) -> BlockMatrix:
            return BlockMatrix(stored, tensor.element_type, tensor.undo.transposed)

        path = tensor.sources[0].path
        return PackedTensor(path, name, tensor.element_type, tensor.shape, tensor.sources, read)

    def float32(self, name: str) -> NDArray[np.float32]:
        """Return a tensor as float32: a view of the file if it is stored so, else a converted copy."""
        return self._converted[name].float32()

    def blocks(self, name: str, most: int) -> Iterator[NDArray]:
        """Yield a tensor's elements in the stored type, or of packed ones in float32, some at a time."""
        tensor = self._converted[name]
        stored = tensor.stored()
        rows = stored.reshape(-1, stored.shape[-1]) if tensor.is_packed else stored.reshape(-1)
        many = max(most // tensor.sources[0].shape[-1], 1) if tensor.is_packed else most
        for i in range(0, len(rows), many):
            some = rows[i : i + many]
            yield unpack(tensor.element_type, some) if tensor.is_packed else some

    def let_go(self, name: str) -> None:
        """Release the memory of a tensor's pages in the mapped file; they can be read again."""
        for source in self._converted[name].sources:
            let_go(source.memory)

    def renamed(self, rename: Callable[[str], str | None]) -> "GgufCheckpoint":
        """Return the checkpoint with renamed tensors; leaves out those for which it returns None."""
        other = copy(self)
        other._converted = {new: self._converted[name] for new, name in self.by_other_names(rename).items()}
        return other


def _converted(tensors: Mapping[str, GgufTensor], names: Names, heads: Heads) -> dict[str, Converted]:
    """Return the tensors by transformers' names; raises CheckpointError where two have one."""
    found: dict[str, Converted] = {}
    patterns = {pattern.split(" + ")[0]: pattern for pattern in names}
    used = set(NO_WEIGHTS)
    for name in tensors:
        layer, pattern, ending = _pattern_of(name)
        known = next((patterns[each] for each in pattern if each in patterns), None)
        if known is None:
            continue
        in_file = [part.replace("{i}", layer).replace("*", ending) for part in known.split(" + ")]
        if not all(each in tensors for each in in_file):
            continue
        value = names[known]
        theirs, undo = value if isinstance(value, tuple) else (value, as_it_is)
        theirs = theirs.replace("{i}", layer).replace("*", ending)
        sources = tuple(tensors[each] for each in in_file)
        experts: Sequence[int | None] = range(sources[0].shape[0]) if "{e}" in theirs else (None,)
        if len(found) + len(experts) > MOST_NAMES:
            raise CheckpointError(f"{sources[0].path}: has more than {MOST_NAMES} matrices of experts.")
        for expert in experts:
            full = theirs.replace("{e}", str(expert))
            if full in found:
                raise CheckpointError(
                    f"{sources[0].path}: holds {shown(full)} twice, as {shown(found[full].sources[0].name)} "
                    f"and {shown(name)}.\n{download_again(sources[0].path)}"
                )
            found[full] = Converted(sources, undo, heads, expert)
        used |= {*in_file}
    # Whoever gathers weights refuses those by name.
    return found | {
        name: Converted((tensor,), as_it_is, heads, None)
        for name, tensor in tensors.items()
        if name not in used
    }


def _pattern_of(name: str) -> tuple[str, tuple[str, str], str]:
    """Return the number of a tensor's layer, how the tables may write its name, and the name's ending."""
    numbered = LAYER.match(name)
    layer = numbered[1] if numbered else ""
    exact = f"blk.{{i}}.{name[numbered.end() :]}" if numbered else name
    stem, _, ending = exact.rpartition(".")
    return layer, (exact, f"{stem}.*" if ending in ("weight", "bias") else exact), ending
