"""Conversion: writing a model's files with its matrices in another element type.

    float32    every number as float32
    bfloat16   matrices as bfloat16; everything else as it was
    int8       matrices of linear layers as int8, with a scale per output; everything else as it was
    mxfp4      matrices of linear layers as floats of 4 bits (kernels/mxfp4.py); other matrices as bfloat16

Names and layouts stay the checkpoint's own, so that transformers and others can read the files: int8 and
MXFP4 as the compressed-tensors package stores them (checkpoints/compressed_tensors.py). Those formats have
only linear layers: embeddings are not in them, and neither are experts that are one tensor together. Experts
with tensors of their own are written in int8 and MXFP4 as well; transformers (5.24) refuses those in int8,
since it fuses them into one. gpt-oss is the exception: what it has in MXFP4 is its experts, and nothing else
(checkpoints/packed_mxfp4.py), and so it is written here. An output layer is never in MXFP4.

What is packed in another way (checkpoints/packed_formats.py, GGUF files) is unpacked, and where it is not
rounded, written in a type in which it is exact. A GGUF file's model becomes a directory with transformers'
names, and with the files that transformers reads beside the weights (converted_files.py).

With the same ``dtype``, ``load`` makes the same weights from the new files as from the old ones. "mxfp4" is
none of those: its files are loaded as they are.
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinystar_np.checkpoints.compressed_tensors import (
    CONV1D,
    LINEAR,
    endings,
    int8_settings,
    mxfp4_settings,
)
from tinystar_np.checkpoints.config_file import CONFIG_FILE
from tinystar_np.checkpoints.element_types import WEIGHT_TYPES
from tinystar_np.checkpoints.gather import FittedTable
from tinystar_np.checkpoints.gguf_source import GgufModel
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.checkpoints.model_source import open_source
from tinystar_np.checkpoints.packed_mxfp4 import SETTINGS
from tinystar_np.checkpoints.safetensors_writer import Tensor
from tinystar_np.checkpoints.shards import LARGEST_SHARD, write_shards
from tinystar_np.checkpoints.weight_table import expand
from tinystar_np.converted_files import FilesBeside, converted_config
from tinystar_np.converted_tensors import ELEMENT_TYPES, EXPERTS_IN_MXFP4, WEIGHT, new_tensors, type_of
from tinystar_np.errors import InputError
from tinystar_np.fast.mapped import on_file
from tinystar_np.kernels.mxfp4 import BLOCK
from tinystar_np.loading import model_config
from tinystar_np.models import Decoder
from tinystar_np.models.base import in_silence
from tinystar_np.models.fitted import fitted
from tinystar_np.models.text_part import has_vision, text_config, text_tensors
from tinystar_np.progress_bar import FEW, bar
from tinystar_np.whole_file import whole_directory

OUTPUT_LAYER = "lm_head"
"""What transformers calls an output layer."""
__all__ = ["ELEMENT_TYPES", "Converted", "convert", "is_worth_keeping"]


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
    dtype         "int8", "mxfp4", "bfloat16" or "float32"
    largest_file  the most bytes of a file of weights; more weights make several files and an index

    Takes the memory of one tensor in float32 and in the new type; of one expert where that is gpt-oss'.
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
    wanted = {name: type_of(rows, dtype, raw["model_type"]) for name, rows in table.tensors.items()}
    if dtype == "mxfp4":
        _check_mxfp4(str(name), wanted, table, raw["model_type"])
    types = {new_name(name): found for name, found in wanted.items() if found is not None}
    by_columns = {new_name(name) for name, rows in table.tensors.items() if not rows[0].is_by_rows}
    new = dict(new_tensors(checkpoint, types, by_columns, dtype))
    tensors = {name: each.tensor for name, each in new.items()}
    rounded = {name for name, found in types.items() if found == ELEMENT_TYPES[dtype]}
    ignored = _ignored(tensors, table)
    if has_vision(checkpoint):
        ignored += endings(ignored, rounded)
    kinds = sorted({CONV1D if name in by_columns else LINEAR for name in rounded})
    settings: Mapping[str, object] | None = None
    if dtype == "int8":
        settings = int8_settings(kinds, ignored)
    elif dtype == "mxfp4":
        of_experts = raw["model_type"] == EXPERTS_IN_MXFP4
        # transformers may call an output layer by another name than the file.
        ignored = sorted({OUTPUT_LAYER, *ignored})
        settings = SETTINGS if of_experts else mxfp4_settings(kinds, ignored)
    content = converted_config(source, {"int8": None, "mxfp4": "bfloat16"}.get(dtype, dtype), settings)
    beside = FilesBeside(source)
    weights = sum(each.weights for each in new.values())
    with (
        bar(weights, f"converting to {dtype}", " weights") as advance,
        whole_directory(Path(directory), last=CONFIG_FILE) as folder,
    ):

        def written(tensor: str) -> None:
            checkpoint.let_go(new[tensor].source)
            advance(new[tensor].weights)

        beside.write(folder)
        write_shards(folder, tensors, written, largest_file)
        (folder / CONFIG_FILE).write_text(content, encoding="utf-8")
    nbytes = sum(tensor.nbytes for tensor in tensors.values())
    of_this_type = sum(each.weights for each in new.values() if each.is_of_type)
    return Converted(nbytes, weights, of_this_type, beside.missing)


def is_worth_keeping(model: Decoder, dtype: str) -> bool:
    """Say whether loading a model has rounded so many weights that ``convert`` would save time."""
    rows = expand(model.WEIGHTS, model.config)
    rounded = (
        prod(matrix.shape)
        for name, matrix in model.weights.items()
        if not isinstance(matrix, np.ndarray)
        and not on_file(matrix.stored)
        and type_of([rows[name]], dtype, "") == ELEMENT_TYPES[dtype]
    )
    return sum(rounded) >= FEW


def _check_mxfp4(model: str, wanted: Mapping[str, str | None], table: FittedTable, model_type: str) -> None:
    """Raise InputError where no matrix fits into MXFP4, or of gpt-oss, whose experts must, one does not."""
    must_fit = [
        name
        for name, rows in table.tensors.items()
        if model_type == EXPERTS_IN_MXFP4 and rows[0].expert is not None and rows[0].is_matrix
    ]
    unfit = [name for name in must_fit if wanted[name] != "MXFP4"]
    if unfit or "MXFP4" not in wanted.values():
        which = f"tensor {shown(unfit[0])} has others" if unfit else "none of its linear layers has"
        raise InputError(
            f"{model}: MXFP4 is for layers whose inputs are a multiple of {BLOCK}: {which}.\n"
            "Use another type: int8 or bfloat16."
        )


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
