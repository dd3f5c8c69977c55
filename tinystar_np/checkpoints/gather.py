"""From a checkpoint to a model's weights: every array of its weight table, taken from where it lies."""

import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.checkpoint import Checkpoint, not_held
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.checkpoints.stored_matrix import (
    ROUNDED,
    Stored,
    Strip,
    is_scale,
    keeps_type,
    matrix_as_stored,
    packed_matrices,
    read_stored,
    rounded_matrix,
    taken_first,
)
from tinystar_np.checkpoints.weight_table import EMBEDDING, HEAD, HasSizes, Row, WeightTable, known_as, rows
from tinystar_np.errors import CheckpointError
from tinystar_np.fast import layout
from tinystar_np.fast.mapped import on_file
from tinystar_np.kernels.linear import Matrix
from tinystar_np.progress_bar import bar
from tinystar_np.ranks import Division

BUFFERS = r"(.+\.)?rotary_emb\w*\.\w*(inv_freq|cos_cached|sin_cached)"
"""Rotations, which old versions saved although they are computed."""
LISTED = 4
"""How many names an error lists."""


class FittedTable(NamedTuple):
    """A table of weight names, and where a checkpoint has each row.

    rows       {our name: row, written out}
    tensors    {the checkpoint's name of a tensor: the rows that are taken from it}
    tied_head  see ``fit``
    """

    rows: Mapping[str, Row]
    tensors: Mapping[str, Sequence[Row]]
    tied_head: str | None

    def only(self, wanted: Callable[[Row], bool]) -> "FittedTable":
        """Return the rows that are wanted, and their tensors."""
        rows = {ours: row for ours, row in self.rows.items() if wanted(row)}
        of_tensors = {name: [row for row in its if row.ours in rows] for name, its in self.tensors.items()}
        return FittedTable(rows, {name: its for name, its in of_tensors.items() if its}, self.tied_head)


OF_HEAD = HEAD.removesuffix("weight")
"""The output layer's tensors, of which no file puts the prefix before their names."""


class Faults(NamedTuple):
    """What keeps a checkpoint from fitting a weight table.

    missing    tensors that the table names and the checkpoint lacks
    left_over  tensors that the checkpoint has and the table does not know
    misfits    {the checkpoint's name of a tensor: its shape, and the one that the config asks for}
    """

    missing: Sequence[str]
    left_over: Sequence[str]
    misfits: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def raise_if_any(self, checkpoint: Checkpoint) -> None:
        """Raise CheckpointError, naming the tensors, unless there are none."""
        if self.missing or self.left_over:
            faults = [f"it lacks {_listed(self.missing)}"] if self.missing else []
            if self.left_over:
                faults.append(f"it has {_listed(self.left_over)}, which this architecture does not know")
            raise CheckpointError(
                f"{checkpoint.files[0].parent}: the weights do not fit config.json: {'; '.join(faults)}.\n"
                "The files are of another model or incomplete; check model_type and the sizes, or download "
                "again."
            )
        for name, (found, asked) in self.misfits.items():
            turned = ", of which it is the transpose" if found == asked[::-1] else ""
            raise CheckpointError(
                f"{checkpoint.file_of(name)}: tensor {shown(name)} has shape {shown(found)}, "
                f"the config asks for {asked}{turned}.\n"
                "The file and config.json are of different models; download both again."
            )


def fit(
    checkpoint: Checkpoint,
    table: WeightTable,
    config: HasSizes,
    *,
    prefix: str,
    other_names: Mapping[str, str],
    ignored: str,
    tied_head: str | None = None,
    division: Division | None = None,
) -> tuple[FittedTable, Faults]:
    """Find every row of a table in a checkpoint.

    prefix, other_names  see ``known_as``
    ignored    a regular expression for the names of tensors that are no weights, beside ``BUFFERS``: masks
               of old files, layers for other tasks
    tied_head  the output layer's name where it is tied to the embedding: a file holds the one or the other,
               or a copy
    division   of which arrays this rank has a part; None for all of each

    Returns the rows whose tensors are there in the right shape, and what is wrong with the others.
    Raises CheckpointError for a tensor that is not in the file that the index says.
    """
    stored = checkpoint.by_other_names(
        lambda name: None if is_scale(checkpoint, name) else known_as(name, prefix, other_names)
    )
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
    fitting: dict[str, Row] = {}
    tensors: dict[str, list[Row]] = {}
    known: set[str] = set()
    missing: dict[str, None] = {}  # as the file would call them
    named_long = prefix and any(name.startswith(prefix) for name in stored.values())
    misfits: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    # Only rows that fit are kept: those of a wrong config may be many more than the file's tensors.
    for row in rows(table, config, division):
        if row.theirs not in stored:
            missing[
                prefix + row.theirs if named_long and not row.ours.startswith(OF_HEAD) else row.theirs
            ] = None
            continue
        known.add(row.theirs)
        name = stored[row.theirs]
        found = checkpoint.shape(name)
        if found != row.stored:
            misfits[name] = found, row.stored
            continue
        fitting[row.ours] = row
        tensors.setdefault(name, []).append(row)
    left_over = sorted(
        stored[name]
        for name in stored.keys() - known
        if not (is_needless(name) or _is_zero_bias(checkpoint, stored[name]))
    )
    return FittedTable(fitting, tensors, tied_head), Faults(list(missing), left_over, misfits)


def gather(
    checkpoint: Checkpoint, table: FittedTable, dtype: str, in_parts: bool = False
) -> dict[str, Matrix]:
    """Take every array of a table from a checkpoint.

    dtype     the element type to keep matrices in, see ``load``
    in_parts  whether other ranks take the rest: only what the table names is read, and kept in memory

    Returns {our name: array or matrix}. What keeps its type is a view of the mapped file; what is rounded is
    so one tensor after the other, each let go of before the next, with a bar on the terminal.
    """
    kept = {
        name
        for name, its_rows in table.tensors.items()
        if all(row.is_matrix for row in its_rows)
        and keeps_type(checkpoint, name, dtype, all(row.is_by_rows for row in its_rows))
    }
    to_round = {
        row.ours: prod(row.shape)
        for name, its_rows in table.tensors.items()
        for row in its_rows
        if row.is_matrix and dtype in ROUNDED and name not in kept
    }
    arrays: dict[str, Matrix] = {}
    with bar(sum(to_round.values()), f"rounding to {dtype}", " weights") as advance:
        for name, its_rows in table.tensors.items():
            packed = checkpoint.packed(name)
            if packed is not None:
                arrays |= packed_matrices(packed, its_rows, dtype)
                if dtype != "auto":
                    checkpoint.let_go(name)
                advance(sum(to_round.get(row.ours, 0) for row in its_rows))
                continue
            rounds = any(row.ours in to_round for row in its_rows)
            tensor = _Tensor(checkpoint, name, its_rows, keep=name in kept, in_parts=in_parts or rounds)
            for row in its_rows:
                if row.ours in to_round:
                    arrays[row.ours] = tensor.rounded(row, dtype)
                    checkpoint.let_go(name)  # another form of it is in memory now
                    advance(to_round[row.ours])
                else:
                    arrays[row.ours] = tensor.matrix(row)
            if tensor.is_in_memory:
                checkpoint.let_go(name)
            del tensor  # before the next is made
    return {ours: arrays[ours] for ours in table.rows}


class _Tensor:
    """A tensor of which a table's rows are taken.

    keep      whether in the type that it has in the file, see ``keeps_type``
    in_parts  whether parts are converted, and not the whole before they are taken
    """

    def __init__(self, checkpoint: Checkpoint, name: str, rows: Sequence[Row], keep: bool, in_parts: bool):
        self._converts = in_parts and not keep and taken_first(checkpoint, name)
        self._type = checkpoint.element_type(name)
        self._where = f"{checkpoint.file_of(name)}: tensor {shown(name)}"
        whole = all(row.names_experts for row in rows)
        self._stored = read_stored(checkpoint, name, as_it_lies=keep or self._converts, whole=whole)
        self.is_in_memory = not on_file(self._stored.values)
        """Whether something of it has been copied, so that its pages in the file can be let go of."""

    def matrix(self, row: Row) -> Matrix:
        """Return what a row names, in the type that it is kept in."""
        values, scales = self._taken(row)
        if row.undivided is not None:
            values = layout.compact(values)
        self.is_in_memory = self.is_in_memory or not on_file(values)
        return matrix_as_stored(Stored(values, scales), row.transposed, row.is_table)

    def rounded(self, row: Row, dtype: str) -> Matrix:
        """Return what a row names, rounded."""
        whole = self._strips(row.with_all_inputs) if row.has_some_inputs else None
        shape = row.shape if row.is_table else row.shape[::-1]
        return rounded_matrix(self._strips(row), shape, row.is_table, dtype, whole)

    def _strips(self, row: Row) -> Strip:
        """Return what a row names, of some outputs at a time."""
        whole = self._stored.part(row.taken_from)
        by_output = whole if row.has_outputs_first else whole.part(np.transpose)

        def strip(some: slice) -> NDArray[np.float32]:
            part = by_output.part(lambda array: array[some])
            return (part.float32(self._type, self._where) if self._converts else part).values

        return strip

    def _taken(self, row: Row) -> Stored:
        part = self._stored.part(row.taken_from)
        return part.float32(self._type, self._where) if self._converts else part


def _is_zero_bias(checkpoint: Checkpoint, name: str) -> bool:
    """Say whether a tensor is a bias of zeros beside a packed matrix: GPTQ's first tools gave one to each."""
    matrix = name.removesuffix("bias") + "weight"
    is_beside = name.endswith(".bias") and matrix in checkpoint and checkpoint.packed(matrix) is not None
    return is_beside and not checkpoint[name].any()


def _listed(names: Sequence[str]) -> str:
    """List the first names, and say how many there are besides."""
    others = len(names[LISTED:])
    return ", ".join(map(shown, names[:LISTED])) + (f" and {others} more tensors" if others else "")
