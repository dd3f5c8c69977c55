"""Conversion: writing a model's files with its matrices in another element type.

    float32    every number as float32
    bfloat16   matrices as bfloat16; everything else as it was
    int8       matrices of linear layers as int8, with a scale per output; everything else as it was

Names and layouts stay the checkpoint's own, so that transformers and others can read the files: int8 as the
compressed-tensors package stores it (checkpoints/compressed_tensors.py). That format has only linear layers:
the embedding stays as it is, and so do experts that are one tensor together. Experts with tensors of their
own are written in int8 as well; transformers (5.24) refuses those, since it fuses them into one.

What is packed in another way (checkpoints/packed_formats.py, GGUF files) is unpacked, and where it is not
rounded, written in a type in which it is exact. A GGUF file's model becomes a directory with transformers'
names, and with the files that transformers reads beside the weights (converted_files.py).

With the same ``dtype``, ``load`` makes the same weights from the new files as from the old ones.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import partial
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.compressed_tensors import CONV1D, LINEAR, SCALE, int8_settings
from tinystar_np.checkpoints.config_file import CONFIG_FILE
from tinystar_np.checkpoints.element_types import STORAGE_TYPES, WEIGHT_TYPES
from tinystar_np.checkpoints.gather import FittedTable
from tinystar_np.checkpoints.gguf_source import GgufModel
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.model_source import open_source
from tinystar_np.checkpoints.safetensors_writer import Tensor
from tinystar_np.checkpoints.shards import LARGEST_SHARD, write_shards
from tinystar_np.checkpoints.stored_matrix import is_int8, is_scale, read_stored
from tinystar_np.checkpoints.weight_table import Row, expand
from tinystar_np.converted_files import FilesBeside, converted_config
from tinystar_np.errors import InputError
from tinystar_np.fast.mapped import on_file
from tinystar_np.loading import model_config
from tinystar_np.models import Decoder
from tinystar_np.models.base import in_silence
from tinystar_np.models.fitted import fitted
from tinystar_np.models.text_part import text_config, text_tensors
from tinystar_np.progress_bar import FEW, bar
from tinystar_np.whole_file import whole_directory

ELEMENT_TYPES = {"int8": "I8", "bfloat16": "BF16", "float32": "F32"}
WEIGHT = ".weight"
"""The ending of the names of linear layers' tensors."""


class Converted(NamedTuple):
    """The result of a conversion.

    nbytes        of the weights
    numbers       how many weights there are
    of_this_type  how many of them are of the type that was asked for
    missing       what the new directory lacks and why, a sentence; None where nothing is missing
    """

    nbytes: int
    numbers: int
    of_this_type: int
    missing: str | None


@in_silence
def convert(
    name: str | Path,
    directory: str | Path,
    dtype: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    largest_file: int = LARGEST_SHARD,
) -> Converted:
    """Write a model's files into a new directory, with its matrices in another element type.

    name          the model, and ``revision``, ``offline``, ``cache_dir``: as in ``load``
    directory     new, or empty; it is written completely or not at all
    dtype         "int8", "bfloat16" or "float32"
    largest_file  the most bytes of a file of weights; more weights make several files and an index

    Takes the memory of one tensor in float32 and in the new type.
    Raises TinyStarError of the kind that fits, with a message that says what to do.
    """
    if dtype not in ELEMENT_TYPES:
        raise InputError(f"dtype = {dtype!r}, but it must be one of {', '.join(ELEMENT_TYPES)}.")
    source = open_source(find_model(str(name), revision=revision, offline=offline, cache_dir=cache_dir))
    raw = text_config(source.config)
    architecture, config = model_config(source, raw)
    checkpoint = source.checkpoint(raw)
    readable = text_tensors(checkpoint, source.config)
    _, table = fitted(architecture, config, readable)
    # In a GGUF file tensors have other names than in the new ones; those of the checkpoint are transformers'.
    new_name = str if isinstance(source, GgufModel) else readable.name_in_file
    chosen = {new_name(name) for name, rows in table.tensors.items() if _is_chosen(rows, dtype)}
    by_columns = {new_name(name) for name, rows in table.tensors.items() if not rows[0].is_by_rows}
    tensors = dict(_tensors(checkpoint, chosen, by_columns, dtype))
    numbers = {name: prod(tensor.shape) for name, tensor in tensors.items()}
    kinds = sorted({CONV1D if name in by_columns else LINEAR for name in chosen})
    settings = int8_settings(kinds, _ignored(tensors, table)) if dtype == "int8" else None
    content = converted_config(source, dtype, settings)
    beside = FilesBeside(source)
    with (
        bar(sum(numbers.values()), f"converting to {dtype}", " weights") as advance,
        whole_directory(Path(directory), last=CONFIG_FILE) as new,
    ):

        def written(tensor: str) -> None:
            checkpoint.let_go(tensor.removesuffix(SCALE) if tensor not in checkpoint else tensor)
            advance(numbers[tensor])

        beside.write(new)
        write_shards(new, tensors, written, largest_file)
        (new / CONFIG_FILE).write_text(content, encoding="utf-8")
    nbytes = sum(tensor.nbytes for tensor in tensors.values())
    changed = sum(numbers[name] for name in tensors if tensors[name].element_type == ELEMENT_TYPES[dtype])
    scales = sum(count for name, count in numbers.items() if _is_scale(name, tensors))
    return Converted(nbytes, sum(numbers.values()) - scales, changed, beside.missing)


def is_worth_keeping(model: Decoder, dtype: str) -> bool:
    """Say whether loading a model has rounded so many weights that ``convert`` would save time."""
    rows = expand(model.WEIGHTS, model.config)
    rounded = (
        prod(matrix.shape)
        for name, matrix in model.weights.items()
        if not isinstance(matrix, np.ndarray)
        and not on_file(matrix.stored)
        and _is_chosen([rows[name]], dtype)
    )
    return sum(rounded) >= FEW


def _is_chosen(rows: Sequence[Row], dtype: str) -> bool:
    """Say whether the tensor of these rows is converted to the new type."""
    if not all(row.is_matrix for row in rows):
        return False
    in_8_bits = all(
        (row.is_by_rows or not row.part)
        and not row.is_table
        and len(row.stored) == 2
        and row.theirs.endswith(WEIGHT)
        for row in rows
    )
    return in_8_bits or dtype != "int8"


def _tensors(
    checkpoint: Checkpoint, chosen: Set[str], by_columns: Set[str], dtype: str
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors to write: (name, tensor), scales after their tensor.

    chosen      names of the tensors that are converted
    by_columns  names of those that have a column, and not a row, for each output
    """
    for name in checkpoint:
        element_type, shape = checkpoint.element_type(name), checkpoint.shape(name)
        as_it_is = Tensor(element_type, shape, partial(checkpoint.__getitem__, name))
        numbers = partial(_float32, checkpoint, name)
        if (
            checkpoint.packed(name) is not None or element_type not in STORAGE_TYPES
        ):  # nothing is written packed: it stays exact
            exact_in_bfloat16 = element_type == "MXFP4"
            as_it_is = (
                Tensor("BF16", shape, partial(_bfloat16, numbers))
                if exact_in_bfloat16 and dtype != "float32"
                else Tensor("F32", shape, numbers)
            )
        if dtype == "int8":
            if name in chosen and element_type != "I8":
                rounding = _Rounding(numbers, name in by_columns)
                yield name, Tensor("I8", shape, rounding.values)
                scales = (1, shape[1]) if name in by_columns else (shape[0], 1)
                yield name + SCALE, Tensor("F32", scales, rounding.scales)
            else:
                yield name, as_it_is
        elif is_scale(checkpoint, name):
            continue
        elif dtype == "bfloat16" and name in chosen and element_type != "BF16":
            yield name, Tensor("BF16", shape, partial(_bfloat16, numbers))
        elif is_int8(checkpoint, name) or (dtype == "float32" and element_type in WEIGHT_TYPES):
            yield name, Tensor("F32", shape, numbers)
        else:
            yield name, as_it_is


class _Rounding:
    """A matrix to be rounded to 8 bits; its scales are kept until they are written, after its values."""

    def __init__(self, numbers: Callable[[], NDArray[np.float32]], by_columns: bool) -> None:
        self._numbers = numbers
        self._by_columns = by_columns
        self._scales = np.empty(0, np.float32)

    def values(self) -> NDArray[np.int8]:
        """Round the matrix: (out, in), or (in, out) by columns."""
        numbers = self._numbers()
        values, self._scales = fast.quantise(numbers.T if self._by_columns else numbers)
        return values.T if self._by_columns else values

    def scales(self) -> NDArray[np.float32]:
        """Return the scales of the values that were made: (out, 1), or (1, out) by columns."""
        return self._scales[None] if self._by_columns else self._scales[:, None]


def _float32(checkpoint: Checkpoint, name: str) -> NDArray[np.float32]:
    return read_stored(checkpoint, name, as_it_lies=False).values


def _bfloat16(numbers: Callable[[], NDArray[np.float32]]) -> NDArray[np.uint16]:
    return fast.to_bfloat16(numbers())


def _is_scale(name: str, tensors: Mapping[str, Tensor]) -> bool:
    scaled = tensors.get(name.removesuffix(SCALE))
    return name.endswith(SCALE) and scaled is not None and scaled.element_type == "I8"


def _ignored(tensors: Mapping[str, Tensor], table: FittedTable) -> list[str]:
    """List the modules that may be linear layers but are not in 8 bits."""
    kept = {
        name
        for name, tensor in tensors.items()
        if name.endswith(WEIGHT) and len(tensor.shape) == 2 and tensor.element_type in WEIGHT_TYPES
    }
    # A tied output layer has no tensor of its own.
    kept |= {table.tied_head} if table.tied_head else set()
    return sorted(name.removesuffix(WEIGHT) for name in kept)
