"""What a pool takes for the tokens and texts of a model, or of a rank's part of one."""

from collections.abc import Sequence
from typing import NamedTuple

from tinystar_np.cache.keys_and_values import KeyValueState
from tinystar_np.cache.layer_state import LayerState
from tinystar_np.cache.recurrent import RecurrentState, parts_of


class Needs(NamedTuple):
    """Bytes that the states of some layers take in a pool, and whether they can be there.

    block     bytes of a block: keys and values of all these layers
    state     bytes of a text's recurrences
    fits      whether all states are of kinds that a pool can hold
    by_token  whether keys stand at the places of their tokens: texts that begin alike can share blocks
    """

    block: int
    state: int
    fits: bool
    by_token: bool


def needs_of(states: Sequence[LayerState], size: int) -> Needs:
    """Return what layers need.

    states  of one row without tokens
    size    tokens of a block
    """
    parts = [part for state in states for part in parts_of(state)]
    keys_and_values = [part for part in parts if isinstance(part, KeyValueState)]
    recurrences = [part for part in parts if isinstance(part, RecurrentState)]
    return Needs(
        4 * size * sum(map(_width, keys_and_values)),
        sum(part.nbytes for part in recurrences),
        len(keys_and_values) + len(recurrences) == len(parts),
        all(part.by_token for part in keys_and_values),
    )


def most_within(needs: Sequence[Needs], memory: int) -> tuple[int | None, int | None]:
    """Return how many blocks, and how many states, fit into so many bytes of each rank.

    needs  of each rank; one that needs both has half of its memory for either

    None stands for as many as one likes.

    >>> most_within([Needs(10, 0, True, True), Needs(5, 20, True, True)], 100)
    (10, 2)
    """
    halves = [memory // 2 if need.block and need.state else memory for need in needs]
    blocks = [half // need.block for half, need in zip(halves, needs, strict=True) if need.block]
    states = [half // need.state for half, need in zip(halves, needs, strict=True) if need.state]
    return min(blocks, default=None), min(states, default=None)


def least_within(needs: Sequence[Needs]) -> int:
    """Return the bytes that each rank must have for one block and one state."""
    return max(max(need.block, need.state) * (2 if need.block and need.state else 1) for need in needs)


def _width(state: KeyValueState) -> int:
    """Return how many numbers the keys and values of a token are."""
    return int(state.keys.shape[1] * (state.keys.shape[3] + state.values.shape[3]))
