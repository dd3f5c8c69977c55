"""Tables of weight names: our name of each array, the checkpoint's, its shape, and when it is there.

    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":   ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),

The shape is that of the stored tensor. An axis is a product of the config's letters and numbers, "3D" is
three times the model width, or a sum of such products, "HK+2GK"; "G[QK+2K]" is such a sum once for each of G
groups. A letter may mean another number in some of the layers (``other_sizes`` of the config). Linear layers
want (in, out): where a file stores (out, in), the row says "(HK D)ᵀ", and the transpose is used, a view that
costs nothing. Where ranks share a model, letters say what each has a part of (axes.py).

The third entry names an attribute of the config: the row is there where it is true, or, where it is a list of
layers' numbers, in these layers. "not …" is its opposite, "… and …" asks for both.

A row is written out for every layer ``{i}``, every expert ``{e}``, and every head ``{h}`` of queries or
``{g}`` of keys; ``{n}``, ``{m}`` and ``{p}`` count up to the letters N, M and P. ``{i+1}`` counts layers from
1; ``{i//2}`` and ``{i%2}`` are for files that have two of our layers in each of theirs. A longer name in
braces is an attribute of the config, and ``{home[i]}`` its entry for the layer, where it has one for each. A
tensor may hold several of our arrays:

- those of all experts: ``{e}`` stands in our name only. "E (M D)ᵀ" says that the first axis counts the
  experts; with "(EM D)ᵀ" their matrices lie one below the other in one matrix.
- parts side by side: "qkv_proj.weight[:HK]" are the first HK rows, "c_attn.weight[:, D:2D]" some of the
  columns.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.axes import own_of_axis, size_of, slice_of
from tinystar_np.ranks import Division

WeightTable = Mapping[str, tuple[str, str] | tuple[str, str, str]]
EMBEDDING, HEAD = "embedding.tokens.weight", "head.weight"
"""What we call the two tables of the vocabulary, which may be one and the same."""
COUNTED = {"{i}": "L", "{e}": "E", "{h}": "H", "{g}": "G", "{n}": "N", "{m}": "M", "{p}": "P"}
"""Which letter says how many there are."""

NAMED = re.compile(r"\{(\w{2,})\}")
"""What stands for an attribute of the config."""
OF_LAYER = re.compile(r"\{(\w{2,})\[i\]\}")
"""What stands for an attribute's part for the layer."""


class HasSizes(Protocol):
    """A config, of which only the shape letters are asked here, and the attributes that rows name."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """{"D": 768, …}."""

    @property
    def other_sizes(self) -> Mapping[int, Mapping[str, int]]:
        """{a layer in which letters mean other numbers: those letters}."""


class Row(NamedTuple):
    """One row of a table, written out.

    ours        our name
    theirs      the tensor's name
    stored      the tensor's shape
    expert      which of the tensor's equal blocks along the first axis is meant; None for all of it
    block       the shape of such a block, or of the whole tensor
    part        which part of that, along each axis: slices or indices; () for all
    transposed  whether the transpose of that is used
    joins       how what ranks compute with their parts becomes one: products by a "sum" or "side by side", a
                norm's squares by a "mean"; "" for not at all
    share       of the whole in this part, where joined by a mean; 0 where another rank has the same part
    elsewhere   whether other ranks have it
    undivided   where a rank has a part: what ``part`` would be of all ranks'; None for what it has whole
    """

    ours: str
    theirs: str
    stored: tuple[int, ...]
    expert: int | None
    block: tuple[int, ...]
    part: tuple[slice | NDArray[np.intp], ...]
    transposed: bool
    joins: str = ""
    share: float = 1.0
    elsewhere: bool = False
    undivided: tuple[slice, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of our array."""
        cut = [
            len(range(*some.indices(size))) if isinstance(some, slice) else len(some)
            for some, size in zip(self.part, self.block, strict=False)
        ]
        shape = (*cut, *self.block[len(cut) :])
        return shape[::-1] if self.transposed else shape

    @property
    def is_matrix(self) -> bool:
        """Whether a linear layer or an embedding multiplies by it: it may then be of a narrow type.

        A router is none of them: a rounded score may choose another expert, and it is small.
        """
        return self.ours.endswith(".weight") and len(self.block) == 2 and ".router." not in self.ours

    @property
    def is_table(self) -> bool:
        """Whether it is looked up by rows, and not multiplied by."""
        return self.ours.startswith("embedding.")

    @property
    def names_experts(self) -> bool:
        """Whether its numbers are those of experts (kernels/hash_routing.py): files have integers."""
        return self.ours.endswith(".router.table")

    @property
    def is_by_rows(self) -> bool:
        """Whether the file has a row, and not a column, for each number that 8 bits give a scale."""
        return self.transposed != self.is_table

    def taken_from(self, tensor: NDArray) -> NDArray:
        """Take what the row names out of its tensor, as it is stored: a view, or a copy of several runs."""
        block: NDArray = tensor if self.expert is None else tensor.reshape(-1, *self.block)[self.expert]
        for axis, some in enumerate(self.part):
            block = (
                block[(slice(None),) * axis + (some,)] if isinstance(some, slice) else block.take(some, axis)
            )
        return block

    @property
    def has_outputs_first(self) -> bool:
        """Whether the file has what belongs to one output, or to one token of a table, in a row."""
        return self.transposed or self.is_table

    @property
    def has_some_inputs(self) -> bool:
        """Whether other ranks have other inputs of the same outputs."""
        return self.joins == "sum" and not self.is_table

    @property
    def with_all_inputs(self) -> "Row":
        """The row with those inputs, too, that other ranks have of the same outputs."""
        assert self.undivided is not None
        part = list(self.part)
        axis = 1 if self.transposed else 0
        part[axis] = self.undivided[axis]
        return self._replace(part=tuple(part))


def expand(table: WeightTable, config: HasSizes) -> dict[str, Row]:
    """Write out every row, once per layer, expert or head: {our name: row}."""
    return {row.ours: row for row in rows(table, config)}


def rows(table: WeightTable, config: HasSizes, division: Division | None = None) -> Iterator[Row]:
    """Write out a table row by row; what a wrong config asks for may be endless.

    division  of which arrays this rank has a part; None for all of each
    """
    sizes, other_sizes = config.sizes, config.other_sizes
    for ours, (named, axes, *condition) in table.items():
        theirs = filled_in(named, config)
        of_layer = {name: getattr(config, name) for name in OF_LAYER.findall(named)}
        layers = _layers(condition[0], config) if condition else range(sizes.get("L", 1))
        if "{i}" not in ours:
            if layers:
                yield from _counted(ours, theirs, axes, sizes, division)
            continue
        for i in layers:
            numbered = theirs.replace("{i}", str(i)).replace("{i+1}", str(i + 1))
            numbered = numbered.replace("{i//2}", str(i // 2)).replace("{i%2}", str(i % 2))
            for name, parts in of_layer.items():
                numbered = numbered.replace(f"{{{name}[i]}}", str(parts[i]))
            own = {**sizes, **other_sizes[i]} if i in other_sizes else sizes
            yield from _counted(ours.replace("{i}", str(i)), numbered, axes, own, division)


def filled_in(name: str, config: HasSizes) -> str:
    """Write attributes of the config into a tensor's name, as into "h.{i}.{first_norm}.bias"."""
    return NAMED.sub(lambda found: str(getattr(config, found[1])), name)


def _layers(condition: str, config: HasSizes) -> Collection[int]:
    """Return the layers that have a row."""
    there: Collection[int] = range(config.sizes.get("L", 1))
    for wanted in condition.split(" and "):
        name = wanted.removeprefix("not ")
        value = getattr(config, name)
        if isinstance(value, Collection) and not isinstance(value, str):
            there = [i for i in there if (i in value) == (name == wanted)]
        elif bool(value) != (name == wanted):
            return ()
    return there


def _counted(
    ours: str, theirs: str, axes: str, sizes: Mapping[str, int], division: Division | None
) -> Iterator[Row]:
    """Write out a layer's row for each of what it counts."""
    counted = next((mark for mark in COUNTED if mark in ours), None)
    if counted is None:
        yield _row(ours, theirs, axes, sizes, None, division)
        return
    together = counted not in theirs
    letter, count = COUNTED[counted], sizes[COUNTED[counted]]
    # An expert is on one rank, unless each rank has some heads of it.
    is_cut = division is not None and division.has_heads(axes)
    row = _row(ours, theirs, axes, sizes, 0 if together else None, division if is_cut else None)
    own = range(count) if division is None or is_cut else division.counted(letter, count)
    for n in range(count):
        names = ours.replace(counted, str(n)), row.theirs.replace(counted, str(n))
        expert = n if together else None
        yield row._replace(ours=names[0], theirs=names[1], expert=expert, elsewhere=n not in own)


def _row(
    ours: str,
    theirs: str,
    axes: str,
    sizes: Mapping[str, int],
    expert: int | None,
    division: Division | None = None,
) -> Row:
    inner = axes.removesuffix("ᵀ").replace("(", "").replace(")", "").split()
    stored = tuple(size_of(axis, sizes) for axis in inner)
    block = stored
    if expert is not None:  # with M and N, others are counted as well, after the experts
        block = stored[1:] if inner[0] in ("E", "M", "N") else (size_of(inner[0][1:], sizes), *stored[1:])
    name, bracket, part = theirs.partition("[")
    some = tuple(slice_of(axis, sizes) for axis in part[:-1].split(",")) if bracket else ()
    row = Row(ours, name, stored, expert, block, some, axes.endswith("ᵀ"))
    if division is None or row.names_experts:
        return row
    return _of_rank(row, inner[len(inner) - len(block) :], sizes, division)


def _of_rank(row: Row, axes: Sequence[str], sizes: Mapping[str, int], division: Division) -> Row:
    """Return a rank's part of a row, and how what ranks compute with their parts becomes one."""
    cuts = [row.part[n] if n < len(row.part) else slice(None) for n in range(len(axes))]
    own = [
        own_of_axis(axis, cut.indices(size), sizes, division)
        for axis, size, cut in zip(axes, row.block, cuts, strict=True)
        if isinstance(cut, slice)
    ]
    if not any(run is not None for run in own):
        return row
    whole = row.shape[0]
    part = tuple(cut if run is None else run for cut, run in zip(cuts, own, strict=True))
    row = row._replace(part=part, undivided=tuple(cut for cut in cuts if isinstance(cut, slice)))
    inputs = own[-1] if row.transposed else own[0]
    if row.is_matrix and inputs is not None:
        return row._replace(joins="sum")
    if row.ours == HEAD:
        return row._replace(joins="side by side")
    if row.ours.endswith(".gain") and len(axes) == 1:
        share = row.shape[0] / whole if division.counts(axes[0], sizes) else 0.0
        return row._replace(joins="mean", share=share)
    return row


def known_as(name: str, prefix: str, other_names: Mapping[str, str]) -> str:
    """Say what a table calls a tensor of the file.

    prefix       what some files put before the names in the table and others do not ("transformer.")
    other_names  {regular expression for a name without prefix: what the table calls it}
    """
    short = name.removeprefix(prefix)
    found = ((re.fullmatch(pattern, short), known) for pattern, known in other_names.items())
    return next((match.expand(known) for match, known in found if match), short)
