"""From a checkpoint to a model's weights: every array of its weight table, taken from where it lies."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.checkpoints.checkpoint import Checkpoint, not_held
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.checkpoints.safetensors_file import on_file
from tinystar_np.checkpoints.weight_table import EMBEDDING, HasSizes, Row, WeightTable, expand, known_as, rows
from tinystar_np.errors import CheckpointError
from tinystar_np.kernels.linear import Matrix
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix

BUFFERS = r"(.+\.)?rotary_emb\w*\.\w*(inv_freq|cos_cached|sin_cached)"
"""Rotations, which old versions saved although they are computed."""
LISTED = 4
"""How many names an error lists."""


def gather(
    checkpoint: Checkpoint,
    table: WeightTable,
    config: HasSizes,
    *,
    prefix: str,
    other_names: Mapping[str, str],
    ignored: str,
    tied_head: str | None = None,
    dtype: str = "auto",
) -> dict[str, Matrix]:
    """Take every array of a table from a checkpoint.

    prefix, other_names  see ``known_as``
    ignored    a regular expression for the names of tensors that are no weights, beside ``BUFFERS``: masks
               of old files, layers for other tasks
    tied_head  the output layer's name where it is tied to the embedding: a file holds the one or the other,
               or a copy
    dtype      the element type to keep matrices in, see ``load``

    Returns {our name: array or matrix}. What keeps its type is a view of the mapped file.
    Raises CheckpointError naming the tensors that are missing, left over, or of the wrong shape.
    """
    stored = checkpoint.by_other_names(lambda name: known_as(name, prefix, other_names))
    needless = [BUFFERS, *([ignored] if ignored else [])]
    if tied_head is not None:
        embedding = table[EMBEDDING][0]
        if embedding not in stored and tied_head in stored:  # safetensors.torch.save_model keeps one name
            stored[embedding] = stored[tied_head]
        needless += [re.escape(tied_head), re.escape(embedding)]
    is_needless = re.compile("|".join(needless)).fullmatch
    for name, file in checkpoint.absent.items():
        if not is_needless(known_as(name, prefix, other_names)):
            raise not_held(name, file)
    _check_fit(checkpoint, table, config, stored, lambda name: is_needless(name) is not None)
    # Only now, as the rows of a wrong config may be many more than the file's tensors.
    written_out = expand(table, config)
    by_tensor: dict[str, list[Row]] = {}  # a tensor that holds several is converted once
    for row in written_out.values():
        by_tensor.setdefault(stored[row.theirs], []).append(row)
    arrays: dict[str, Matrix] = {}
    for name, its_rows in by_tensor.items():
        arrays |= _taken(checkpoint, name, its_rows, dtype)
    return {ours: arrays[ours] for ours in written_out}


def _taken(
    checkpoint: Checkpoint, name: str, its_rows: Sequence[Row], dtype: str
) -> Iterator[tuple[str, Matrix]]:
    """Take all arrays that one tensor holds: (our name, array)."""
    is_bfloat16 = checkpoint.element_type(name) == "BF16" and dtype in ("auto", "bfloat16")
    in_bits = is_bfloat16 and all(row.is_matrix for row in its_rows)
    tensor = checkpoint[name] if in_bits else checkpoint.float32(name)
    taken = [(row.ours, _kept_as(_part(tensor, row), row, in_bits, dtype)) for row in its_rows]
    if not on_file(tensor) or (dtype in ("bfloat16", "int8") and not in_bits):
        checkpoint.let_go(name)  # another form of it is in memory now
    return iter(taken)


def _part(tensor: NDArray, row: Row) -> NDArray:
    """Take the part of a tensor that a row names: a view, as it is stored."""
    block: NDArray = tensor if row.expert is None else tensor.reshape(-1, *row.block)[row.expert]
    return block[row.part]


def _kept_as(array: NDArray, row: Row, in_bits: bool, dtype: str) -> Matrix:
    """Give an array the form in which the model keeps it."""
    if in_bits:
        return Bfloat16Matrix(array, row.transposed)
    if not row.is_matrix or dtype not in ("bfloat16", "int8"):
        return array.T if row.transposed else array
    is_table = row.ours.startswith("embedding.")
    by_output = array if row.transposed or is_table else array.T
    if dtype == "bfloat16":
        return Bfloat16Matrix(fast.to_bfloat16(by_output), transposed=not is_table)
    return Int8Matrix(*fast.quantise(by_output), table=is_table)


def _check_fit(
    checkpoint: Checkpoint,
    table: WeightTable,
    config: HasSizes,
    stored: Mapping[str, str],
    is_needless: Callable[[str], bool],
) -> None:
    """Raise CheckpointError for tensors that are missing, left over, or of the wrong shape.

    stored       {the table's name: the file's}
    is_needless  whether a tensor of this name may be left over
    """
    known: set[str] = set()
    missing: dict[str, None] = {}
    misfit: Row | None = None
    for row in rows(table, config):
        if row.theirs in known:
            continue  # the same tensor once more
        if row.theirs not in stored:
            missing[row.theirs] = None
            continue
        known.add(row.theirs)
        if misfit is None and checkpoint.shape(stored[row.theirs]) != row.stored:
            misfit = row
    left_over = sorted(name for name in stored.keys() - known if not is_needless(name))
    if missing or left_over:
        faults = [f"it lacks {_listed(list(missing))}"] if missing else []
        if left_over:
            faults.append(f"it has {_listed(left_over)}, which this architecture does not know")
        raise CheckpointError(
            f"{checkpoint.files[0].parent}: the weights do not fit config.json: {'; '.join(faults)}.\n"
            "The files are of another model or incomplete; check model_type and the sizes, or download again."
        )
    if misfit is not None:
        name = stored[misfit.theirs]
        raise CheckpointError(
            f"{checkpoint.file_of(name)}: tensor {shown(name)} has shape {shown(checkpoint.shape(name))}, "
            f"the config asks for {misfit.stored}.\n"
            "The file and config.json are of different models; download both again."
        )


def _listed(names: Sequence[str]) -> str:
    """List the first names, and say how many there are besides."""
    others = len(names[LISTED:])
    return ", ".join(map(shown, names[:LISTED])) + (f" and {others} more tensors" if others else "")
