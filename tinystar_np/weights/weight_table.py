"""Tables of weight names, and how a checkpoint's tensors are gathered by one.

A model file says in one table what it calls each array, what the checkpoint calls it, and its shape:

    "blocks.{i}.attention.qkv.weight": ("h.{i}.attn.c_attn.weight", "D 3D"),

An axis is a product of the config's letters and a number: "3D" is three times the model width; "HK+2GK" is
a sum of two such products. Linear layers want (in, out); where a file stores (out, in), the row says
"V D -> D V" and the matrix is used transposed, which is a view and costs nothing.

A row is written out for every layer ``{i}`` and every expert ``{e}``. The matrices of all experts of a layer
may be one tensor: then ``{e}`` stands in our name only, and "E F D -> D F" says that the first axis counts
the experts; with "EF D -> D F" their matrices lie one below the other in one matrix. So do other matrices in
some files: ("ff_proj.weight[1]", "2F D -> D F") is the second of two. ``{i+1}`` counts layers from 1.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.checkpoint import Checkpoint, not_held
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.checkpoints.safetensors_file import on_file
from tinystar_np.errors import CheckpointError
from tinystar_np.kernels.packed import Bfloat16Matrix, PackedMatrix
from tinystar_np.weights.rounded import Matrix, rounded

WeightTable = Mapping[str, tuple[str, str]]
UNTIED_HEAD: WeightTable = {"head.weight": ("lm_head.weight", "V D -> D V")}
EMBEDDING, HEAD = "embedding.tokens.weight", "head.weight"
"""What we call the two tables of the vocabulary, which may be one and the same."""
BUFFERS = r"(.+\.)?rotary_emb\w*\.\w*(inv_freq|cos_cached|sin_cached)"
"""Rotations, which old versions saved although they are computed."""
LISTED = 4
"""How many names an error lists."""


class Row(NamedTuple):
    """One row of a table, written out.

    ours    our name
    theirs  the checkpoint's name
    stored  the axes of the tensor
    used    the axes of the array that is taken from it
    turned  whether it is used transposed
    part    which of the matrices that the tensor holds, of experts or others; None for the whole tensor
    """

    ours: str
    theirs: str
    stored: tuple[str, ...]
    used: tuple[str, ...]
    turned: bool
    part: int | None

    @property
    def is_matrix(self) -> bool:
        """Whether a linear layer or an embedding multiplies by it: it may then be of a narrow type.

        A router is none of them: a rounded score may choose another expert, and it is small.
        """
        return self.ours.endswith(".weight") and len(self.used) == 2 and ".router." not in self.ours


def with_switches(
    rows: WeightTable, config: Any, head: WeightTable = UNTIED_HEAD, **switched: WeightTable
) -> dict[str, tuple[str, str]]:
    """Add to a table what the config switches on.

    rows      those of every file
    head      the output layer's, which are there unless it is tied to the embedding
    switched  {key of the config: rows that are there where it is true}
    """
    there = [part for key, part in switched.items() if getattr(config, key)]
    parts = [rows, *there, *([] if config.tie_word_embeddings else [head])]
    return {ours: row for part in parts for ours, row in part.items()}


def only(rows: WeightTable, *parts: str) -> dict[str, tuple[str, str]]:
    """Take the rows of which our name has one of these parts."""
    return {ours: row for ours, row in rows.items() if any(part in ours for part in parts)}


def without(rows: WeightTable, *parts: str) -> dict[str, tuple[str, str]]:
    """Leave out the rows of which our name has one of these parts."""
    left_out = only(rows, *parts)
    return {ours: row for ours, row in rows.items() if ours not in left_out}


def for_layers(rows: WeightTable, layers: Iterable[int]) -> dict[str, tuple[str, str]]:
    """Write out rows with ``{i}`` for some layers only: those of one kind, in a model that has several."""
    return {
        ours.replace("{i}", str(i)): (_of_layer(theirs, i), axes)
        for i in layers
        for ours, (theirs, axes) in rows.items()
    }


def expand(table: WeightTable, sizes: Mapping[str, int]) -> dict[str, Row]:
    """Write out every row, once per layer and once per expert: {our name: row}."""
    return {row.ours: row for row in _rows(table, sizes)}


def _rows(table: WeightTable, sizes: Mapping[str, int]) -> Iterator[Row]:
    for ours, (theirs, axes) in table.items():
        for i in range(sizes["L"]) if "{i}" in ours else (0,):
            yield from _experts(ours.replace("{i}", str(i)), _of_layer(theirs, i), axes, sizes)


def _of_layer(name: str, i: int) -> str:
    return name.replace("{i}", str(i)).replace("{i+1}", str(i + 1))


def _experts(ours: str, theirs: str, axes: str, sizes: Mapping[str, int]) -> Iterator[Row]:
    stored, arrow, used = (tuple(side.split()) for side in axes.partition("->"))
    theirs, bracket, number = theirs.partition("[")
    part = int(number[:-1]) if bracket else None
    together = bracket or ("{e}" in ours and "{e}" not in theirs)
    # Of a tensor for all, each has what follows the first axis, or its share of it.
    whole = (*([stored[0][1:]] if stored[0] != "E" else []), *stored[1:]) if together else stored
    turned = bool(arrow) and not (together and used == whole)
    for e in range(sizes["E"] if "{e}" in ours else 1):
        names = ours.replace("{e}", str(e)), theirs.replace("{e}", str(e))
        yield Row(*names, stored, used or stored, turned, e if together and part is None else part)


def shape_of(axes: Sequence[str], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Turn axes such as "D", "3D" and "HK+2GK" into numbers: sums of products of letters and numbers."""
    return tuple(
        sum(
            prod(int(p) if p.isdigit() else sizes[p] for p in re.findall(r"\d+|\D", product))
            for product in axis.split("+")
        )
        for axis in axes
    )


def known_as(name: str, prefix: str, other_names: Mapping[str, str]) -> str:
    """Say what the table calls a tensor of the file; prefix and other names as in ``gather``."""
    short = name.removeprefix(prefix)
    found = ((re.fullmatch(pattern, short), known) for pattern, known in other_names.items())
    return next((match.expand(known) for match, known in found if match), short)


def gather(
    checkpoint: Checkpoint,
    table: WeightTable,
    sizes: Mapping[str, int],
    *,
    prefix: str,
    other_names: Mapping[str, str],
    ignored: str,
    tied_head: str | None = None,
    dtype: str = "auto",
) -> dict[str, NDArray | PackedMatrix]:
    """Take every array of a table from a checkpoint.

    table        with its rows per layer not yet written out
    sizes        the config's letters
    prefix       what some files put before the names in the table and others do not ("transformer.")
    other_names  {regular expression for a name without prefix: what the table calls it}
    ignored      a regular expression for the names of tensors that are no weights, beside ``BUFFERS``: masks
                 of old files, layers for other tasks
    tied_head    the output layer's name where it is tied to the embedding: a file holds the one or the other,
                 or a copy
    dtype        the element type to keep matrices in, see ``load``

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
    _check_fit(checkpoint, table, sizes, stored, is_needless)
    # Only now, as the rows of a wrong config may be many more than the file's tensors.
    rows = expand(table, sizes)

    def bits(row: Row) -> bool:
        """Whether a matrix stays in the file's bfloat16."""
        name = stored[row.theirs]
        return row.is_matrix and checkpoint.element_type(name) == "BF16" and dtype in ("auto", "bfloat16")

    def read(some: Iterable[Row]) -> Iterator[tuple[str, NDArray]]:
        taken: tuple[str, NDArray] = "", np.empty(0)
        for row in some:
            name = stored[row.theirs]
            if taken[0] != name:  # the experts of one tensor follow each other: it is converted once
                taken = "", np.empty(0)  # let go of the last one first
                taken = name, checkpoint[name] if bits(row) else checkpoint.float32(name)
            yield row.ours, taken[1] if row.part is None else _part(taken[1], row, sizes)
            if row.ours in wanted or not on_file(taken[1]):  # another form of it is in memory now
                checkpoint.let_go(name)

    to_round = [
        row for row in rows.values() if row.is_matrix and dtype in ("bfloat16", "int8") and not bits(row)
    ]
    wanted = {row.ours: _unrounded(row, sizes) for row in to_round}
    arrays: dict[str, NDArray | PackedMatrix] = {}
    if wanted:
        arrays |= rounded(wanted, lambda: read(to_round), dtype, checkpoint.files, [dict(table), dict(sizes)])
    for ours, array in read(row for row in rows.values() if row.ours not in wanted):
        matrix = Bfloat16Matrix(array) if bits(rows[ours]) else array
        arrays[ours] = matrix.T if rows[ours].turned else matrix
    return {ours: arrays[ours] for ours in rows}


def _check_fit(
    checkpoint: Checkpoint,
    table: WeightTable,
    sizes: Mapping[str, int],
    stored: Mapping[str, str],
    is_needless: Callable[[str], Any],
) -> None:
    """Raise CheckpointError for tensors that are missing, left over, or of the wrong shape.

    stored       {the table's name: the file's}
    is_needless  whether a tensor of this name may be left over
    """
    known: set[str] = set()
    missing: list[str] = []
    count = 0
    misfit: Row | None = None
    for row in _rows(table, sizes):
        if row.part:
            continue  # the same tensor once more
        if row.theirs not in stored:
            count += 1
            missing += [row.theirs] if count <= LISTED else []
            continue
        known.add(row.theirs)
        if misfit is None and checkpoint.shape(stored[row.theirs]) != shape_of(row.stored, sizes):
            misfit = row
    left_over = sorted(name for name in stored.keys() - known if not is_needless(name))
    if missing or left_over:
        faults = [f"it lacks {_listed(missing, count)}"] if missing else []
        if left_over:
            listed = _listed(left_over[:LISTED], len(left_over))
            faults.append(f"it has {listed}, which this architecture does not know")
        raise CheckpointError(
            f"{checkpoint.files[0].parent}: the weights do not fit config.json: {'; '.join(faults)}.\n"
            "The files are of another model or incomplete; check model_type and the sizes, or download again."
        )
    if misfit is not None:
        name = stored[misfit.theirs]
        raise CheckpointError(
            f"{checkpoint.file_of(name)}: tensor {shown(name)} has shape {shown(checkpoint.shape(name))}, "
            f"the config asks for {shape_of(misfit.stored, sizes)}.\n"
            "The file and config.json are of different models; download both again."
        )


def _part(experts: NDArray, row: Row, sizes: Mapping[str, int]) -> NDArray:
    """Take one expert's share of a tensor that holds all: a view, as it is stored."""
    shape = shape_of(row.used[::-1] if row.turned else row.used, sizes)
    one: NDArray = experts.reshape(-1, *shape)[row.part]
    return one


def _unrounded(row: Row, sizes: Mapping[str, int]) -> Matrix:
    """Describe a matrix as the file has it."""
    inputs, outputs = shape_of(row.used, sizes)
    shape = (outputs, inputs) if row.turned else (inputs, outputs)
    return Matrix(shape, row.turned, table=row.ours.startswith("embedding."))


def _listed(names: Sequence[str], count: int) -> str:
    """List the first names, and say how many there are besides."""
    others = count - len(names)
    return ", ".join(map(shown, names)) + (f" and {others} more tensors" if others else "")
