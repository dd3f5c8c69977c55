"""The states of layers in a pool: their parts, their sizes, and views of one text or one row.

A layer's state is keys and values, a recurrence's, or both (``HybridState``). In a pool the keys and values
stand in blocks (cache/paged.py), and a recurrence has a state for each text.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.cache import Cache
from tinystar_np.cache.elsewhere import PooledElsewhere, StatesElsewhere
from tinystar_np.cache.keys_and_values import KeyValueState
from tinystar_np.cache.layer_state import LayerState
from tinystar_np.cache.needs import Needs, needs_of
from tinystar_np.cache.paged import PagedState, Table
from tinystar_np.cache.recurrent import HybridState

ONE = np.array([0])


def needs_of_ranks(empty: Cache, size: int) -> list[Needs]:
    """Return what each rank needs in a pool: of one, or of all that share the model.

    empty  a cache of one row without tokens
    size   tokens of a block
    """
    own = [state for state in empty.states if not isinstance(state, StatesElsewhere)]
    others = [state for state in empty.states if isinstance(state, StatesElsewhere)]
    return [needs_of(own, size), *(need for state in others for need in state.needs(size))]


def fits_a_pool(cache: object) -> bool:
    """Say whether all states of a model's cache are of kinds that a pool can hold."""
    return isinstance(cache, Cache) and all(need.fits for need in needs_of_ranks(cache, 1))


def _each(state: LayerState, make: Callable[[LayerState], LayerState]) -> LayerState:
    """Make another of each part of a layer's state."""
    if isinstance(state, HybridState):
        return HybridState(*(_each(part, make) for part in state.states))
    return make(state)


def paged(state: LayerState, blocks: int, size: int) -> LayerState:
    """Put the keys and values of a layer into a pool; a recurrence's state stays as it is.

    blocks  of the pool
    size    places of a block, one for each token
    """

    def in_pool(part: LayerState) -> LayerState:
        if isinstance(part, StatesElsewhere):
            return part.paged(blocks, size)
        return PagedState(part, blocks * size, size) if isinstance(part, KeyValueState) else part

    return _each(state, in_pool)


def of_text(state: LayerState, table: Table) -> LayerState:
    """Return the state of the text with this table: of a recurrence, a copy."""

    def copied(part: LayerState) -> LayerState:
        if isinstance(part, PooledElsewhere):
            return part.of([table], ONE)
        return part.of([table]) if isinstance(part, PagedState) else part.select(ONE)

    return _each(state, copied)


def of_rows(state: LayerState, rows: NDArray[np.integer]) -> LayerState:
    """Return a copy of the state of rows; of keys and values, which stand in blocks, nothing."""

    def copied(part: LayerState) -> LayerState:
        if isinstance(part, PooledElsewhere):
            return part.of((), rows)
        return part.of(()) if isinstance(part, PagedState) else part.select(rows)

    return _each(state, copied)


def with_tables(state: LayerState, tables: Sequence[Table]) -> LayerState:
    """Return the state of the texts with these tables, whose recurrences it has already."""
    return _each(state, lambda part: part.of(tables) if isinstance(part, PagedState) else part)
