"""Where a checkpoint has an architecture's weights: which form of names it has, and whether it is tied."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

import numpy as np

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.gather import Faults, FittedTable, fit
from tinystar_np.checkpoints.weight_table import EMBEDDING, HEAD, WeightTable, filled_in, known_as, rows
from tinystar_np.models.config import AnyConfig
from tinystar_np.ranks import Division


class HasWeights(Protocol):
    """A class whose weights are found in a checkpoint: a decoder, a vision encoder, what is between them."""

    WEIGHTS: ClassVar[WeightTable]
    OTHER_FORMS: ClassVar[Sequence[WeightTable]]
    """Rows instead of those with the same names, in files with their tensors, or with their shapes."""
    PREFIX: ClassVar[str]
    """What some checkpoints put before the names in the weight table and others do not."""
    OTHER_NAMES: ClassVar[Mapping[str, str]]
    """{regular expression for what some checkpoints call a tensor, without prefix: the table's name}"""
    IGNORED: ClassVar[str]
    """Regular expression for tensors in checkpoints that are no weights."""


def fitted(
    model: type[HasWeights], config: AnyConfig, checkpoint: Checkpoint, division: Division | None = None
) -> tuple[AnyConfig, FittedTable]:
    """Find where a checkpoint has each row of a model's weight table.

    division  of which arrays this rank has a part; None for all of each

    Returns the config, untied where the file has two tables of the vocabulary, and the fitted table.
    Raises CheckpointError where the weights do not fit the config.
    """
    config, table, faults = fitting(model, config, checkpoint, division)
    faults.raise_if_any(checkpoint)
    return config, table


def fitting(
    model: type[HasWeights], config: AnyConfig, checkpoint: Checkpoint, division: Division | None = None
) -> tuple[AnyConfig, FittedTable, Faults]:
    """Find where a checkpoint has the rows of a model's weight table, and what is wrong with those it lacks.

    Returns the config and the table as ``fitted`` does.
    """
    stored = {known_as(name, model.PREFIX, model.OTHER_NAMES): name for name in checkpoint}

    def has_shapes(form: WeightTable) -> bool:
        """Whether the file has all tensors of a form of the same names in its shapes."""
        return all(
            row.theirs in stored and checkpoint.shape(stored[row.theirs]) == row.stored
            for row in rows(form, config)
        )

    table = model.WEIGHTS
    usual = {_tensor(theirs) for theirs, *_ in model.WEIGHTS.values()}
    for form in model.OTHER_FORMS:
        # A name that both have, of whichever layer, does not tell the one from the other.
        own = {ours: row for ours, row in form.items() if _tensor(row[0]) not in usual}
        if any(row.theirs in stored for row in rows(own, config)) if own else has_shapes(form):
            table = {**table, **form}
    tied_head = None
    if HEAD in table and getattr(config, "tie_word_embeddings", False):
        (head, head_axes, *_), (embedding, axes, *_) = table[HEAD], table[EMBEDDING]
        head = filled_in(head, config)
        if _differ(checkpoint, [stored[name] for name in (head, embedding) if name in stored]):
            config = replace(config, **{"tie_word_embeddings": False})
        elif head_axes.strip("()ᵀ") == axes:  # so that one can stand for the other
            tied_head = head
    fitted_table, faults = fit(
        checkpoint,
        table,
        config,
        prefix=model.PREFIX,
        other_names=model.OTHER_NAMES,
        ignored=filled_in(model.IGNORED, config),
        tied_head=tied_head,
        division=division,
    )
    return config, fitted_table, faults


def _tensor(name: str) -> str:
    """Return the tensor of a row's name, however layers are counted and whichever part of it is meant."""
    return name.replace("{i+1}", "{i}").partition("[")[0]


def _differ(checkpoint: Checkpoint, names: Sequence[str]) -> bool:
    """Say whether the file has both tables of the vocabulary and they differ, although the config ties them.

    transformers then follows the file, as is done here. A few rows are compared: tables that were trained
    separately differ everywhere.
    """
    if len(names) != 2:
        return False
    shapes = [checkpoint.shape(name) for name in names]
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or 0 in shapes[0]:
        return False  # which of them is wrong is found when they are gathered
    one, other = (checkpoint[name] for name in names)
    some = np.linspace(0, len(one) - 1, 16, dtype=int)
    return not np.array_equal(one[some], other[some])
