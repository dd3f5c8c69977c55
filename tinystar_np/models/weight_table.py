"""Tables of weight names, and how a checkpoint's tensors are gathered by one.

A model file says in one table what it calls each array, what the checkpoint calls it, and its shape:

    "blocks.{i}.attention.qkv.weight": ("h.{i}.attn.c_attn.weight", "D 3D"),

An axis is a product of the config's letters and a number: "3D" is three times the model width. Linear layers
want (in, out); where a file stores (out, in), the row says "V D -> D V" and the matrix is used transposed,
which is a view and costs nothing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import prod

from numpy.typing import NDArray

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.errors import CheckpointError
from tinystar_np.kernels.bfloat16 import narrow
from tinystar_np.kernels.int8 import quantise
from tinystar_np.layers.matrices import Bfloat16Matrix, Int8Matrix, NarrowMatrix

WeightTable = Mapping[str, tuple[str, str]]


def expand(table: WeightTable, layers: int) -> dict[str, tuple[str, str]]:
    """Write out the rows with ``{i}`` once per layer."""
    return {
        ours.replace("{i}", str(i)): (theirs.replace("{i}", str(i)), axes)
        for ours, (theirs, axes) in table.items()
        for i in range(layers if "{i}" in ours else 1)
    }


def shape_of(axes: Sequence[str], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Turn axes such as "D" and "3D" into numbers: each is a product of letters and numbers."""
    return tuple(
        prod(int(p) if p.isdigit() else sizes[p] for p in re.findall(r"\d+|\D", axis)) for axis in axes
    )


def gather(
    checkpoint: Checkpoint,
    table: WeightTable,
    sizes: Mapping[str, int],
    *,
    prefix: str,
    ignored: str,
    dtype: str = "auto",
) -> dict[str, NDArray | NarrowMatrix]:
    """Take every array of a table from a checkpoint.

    table    with its rows per layer not yet written out
    sizes    the config's letters
    prefix   what some files put before the names in the table and others do not ("transformer.")
    ignored  a regular expression for the names (without prefix) of tensors that are no weights: mask
             buffers of old files, an output layer that is tied to the embedding
    dtype    the element type to keep matrices in, see ``load``

    Returns {our name: array or matrix}. What keeps its type is a view of the mapped file.
    Raises CheckpointError naming the tensors that are missing, left over, or of the wrong shape.
    """
    rows = expand(table, sizes["L"])
    stored: dict[str, str] = {}
    for name in checkpoint:
        short = name.removeprefix(prefix)
        if short in stored:
            raise CheckpointError(
                f"{checkpoint.file_of(name)}: the tensor {short!r} is there twice, "
                f"as {stored[short]!r} and {name!r}."
            )
        stored[short] = name
    wanted = {theirs for theirs, _ in rows.values()}
    missing = sorted(wanted - stored.keys())
    left_over = sorted(name for name in stored.keys() - wanted if not re.fullmatch(ignored, name))
    if missing or left_over:
        faults = [f"it lacks {_listed(missing)}"] if missing else []
        faults += [f"it has {_listed(left_over)}, which this architecture does not know"] if left_over else []
        raise CheckpointError(
            f"{_where(checkpoint)}: the weights do not fit config.json: {'; '.join(faults)}.\n"
            "The files are of another model or incomplete; check model_type and the sizes, or download again."
        )
    arrays: dict[str, NDArray | NarrowMatrix] = {}
    for ours, (theirs, rearrangement) in rows.items():
        name = stored[theirs]
        as_stored, _, as_used = (side.split() for side in rearrangement.partition("->"))
        expected = shape_of(as_stored, sizes)
        if checkpoint[name].shape != expected:
            raise CheckpointError(
                f"{checkpoint.file_of(name)}: tensor {name!r} has shape {checkpoint[name].shape}, "
                f"the config asks for {expected}.\n"
                "The file and config.json are of different models; download both again."
            )
        array = _in_type(dtype, checkpoint, name, by_rows=bool(as_used) or ours.startswith("embedding."))
        arrays[ours] = array.T if as_used else array
    return arrays


def _in_type(dtype: str, checkpoint: Checkpoint, name: str, by_rows: bool) -> NDArray | NarrowMatrix:
    """Take one tensor in the wanted element type: matrices may be narrow, vectors are always float32.

    by_rows  whether each row, rather than each column, belongs to one output or is looked up by itself
    """
    kept = "bfloat16" if checkpoint.element_type(name) == "BF16" else "float32"
    wanted = kept if dtype == "auto" else dtype
    if checkpoint[name].ndim != 2 or wanted == "float32":
        return checkpoint.float32(name)
    if wanted == "int8":
        values, scales = quantise(checkpoint.float32(name), axis=1 if by_rows else 0)
        return Int8Matrix(values, scales, by_rows=by_rows)
    return Bfloat16Matrix(checkpoint[name] if kept == "bfloat16" else narrow(checkpoint.float32(name)))


def _where(checkpoint: Checkpoint) -> str:
    return str(next((checkpoint.file_of(name).parent for name in checkpoint), "An empty checkpoint"))


def _listed(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more tensors"
