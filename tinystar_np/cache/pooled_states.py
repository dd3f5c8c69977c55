"""The states of layers in a pool: their parts, their sizes, and views of one text or one row.

A layer's state is keys and values, a recurrence's, or both (``HybridState``). In a pool the keys and values
stand in blocks (cache/paged.py), and a recurrence has a state for each text.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tinystar_np.cache.cache import Cache
from tinystar_np.cache.keys_and_values import KeyValueState
from tinystar_np.cache.layer_state import LayerState
from tinystar_np.cache.paged import PagedState, Table
from tinystar_np.cache.recurrent import HybridState, RecurrentState


class Needs(NamedTuple):
    """Bytes that a model's memory takes.

    block  of keys and values of all layers
    state  of the states of all recurrences of a text
    """

    block: int
    state: int


def needs_of(empty: Cache, size: int) -> Needs:
    """Return how large blocks and states are.

    empty  a cache of one row without tokens
    size   tokens of a block
    """
    parts = [part for state in empty.states for part in parts_of(state)]
    widths = [_width(part) for part in parts if isinstance(part, KeyValueState)]
    return Needs(
        4 * size * sum(widths), sum(part.nbytes for part in parts if isinstance(part, RecurrentState))
    )


def fits_a_pool(cache: object) -> bool:
    """Say whether all states of a model's cache are of kinds that a pool can hold."""
    if not isinstance(cache, Cache):
        return False
    parts = [part for state in cache.states for part in parts_of(state)]
    return all(isinstance(part, KeyValueState | RecurrentState) for part in parts)


def can_share(empty: Cache) -> bool:
    """Say whether texts that begin alike can share blocks: where keys stand at the places of their tokens.

    empty  a cache of one row without tokens
    """
    parts = [part for state in empty.states for part in parts_of(state)]
    return all(part.by_token for part in parts if isinstance(part, KeyValueState))


def parts_of(state: LayerState) -> Iterator[LayerState]:
    """Take apart the state of a layer that has several."""
    if isinstance(state, HybridState):
        for part in state.states:
            yield from parts_of(part)
    else:
        yield state


def _each(state: LayerState, make: Callable[[LayerState], LayerState]) -> LayerState:
    """Make another of each part of a layer's state."""
    if isinstance(state, HybridState):
        return HybridState(*(_each(part, make) for part in state.states))
    return make(state)


def paged(state: LayerState, places: int, size: int) -> LayerState:
    """Put the keys and values of a layer into a pool; a recurrence's state stays as it is.

    places  of the pool, one for each token that it can hold
    size    places of a block
    """

    def in_pool(part: LayerState) -> LayerState:
        return PagedState(part, places, size) if isinstance(part, KeyValueState) else part

    return _each(state, in_pool)


def of_text(state: LayerState, table: Table) -> LayerState:
    """Return the state of the text with this table: of a recurrence, a copy."""
    first = np.array([0])
    return _each(state, lambda part: part.of([table]) if isinstance(part, PagedState) else part.select(first))


def of_row(state: LayerState, row: int) -> LayerState:
    """Return a copy of the state of a row; of keys and values, which stand in blocks, nothing."""
    one = np.array([row])
    return _each(state, lambda part: part.of(()) if isinstance(part, PagedState) else part.select(one))


def _width(state: KeyValueState) -> int:
    """Return how many numbers the keys and values of a token are."""
    return int(state.keys.shape[1] * (state.keys.shape[3] + state.values.shape[3]))
