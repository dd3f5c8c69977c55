"""What other ranks remember of a cache whose model is divided: the leader has a number that stands for it.

    StatesElsewhere   of a cache of its own
    PooledElsewhere   of texts in a pool (cache/pool.py)

The leader alone decides which blocks of a pool a text has, and tells the followers with each call. So these
need to know nothing of texts that begin, wait, share and end: a model without recurrences sends no message
for it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.needs import Needs
from tinystar_np.cache.paged import Table, as_array
from tinystar_np.ranks import Team


class Rows(NamedTuple):
    """What followers are to work on.

    number  of the states
    tables  (B, n), the rows' blocks, where keys and values are in a pool; None where they are not
    """

    number: int
    tables: NDArray[np.int32] | None = None


class StatesElsewhere:
    """The states of all followers, as one ``LayerState``.

    team    the followers
    number  of the states there
    """

    def __init__(self, team: Team, number: int):
        self.team, self.number = team, number
        self.rewindable = team.rewindable
        team.forget_with(self, number)

    @property
    def rows(self) -> Rows:
        """What the followers have of the rows of the batch."""
        return Rows(self.number)

    @property
    def nbytes(self) -> int:
        """Bytes allocated on the followers."""
        return sum(self.team.ask("nbytes", self.number))

    def commit(self) -> None:
        """Make what the call computed the state."""
        self.team.later("commit", self.number)

    def select(self, rows: NDArray[np.integer]) -> Self:
        """Return a copy that holds these rows of the batch, in this order."""
        return type(self)(self.team, self.team.select(self.number, rows))

    @classmethod
    def join(cls, states: Sequence[Self]) -> Self:
        """Put the rows of several states into one batch (copied)."""
        team = states[0].team
        return cls(team, team.join([state.number for state in states]))

    def clear(self, lengths: NDArray[np.int64], before: NDArray[np.int64]) -> None:
        """Empty the places of forgotten tokens, as ``LayerState.clear`` does."""
        self.team.later("clear", self.number, lengths, before)

    def bytes_held(self, tokens: int) -> int:
        """Return the bytes of what the followers remember of rows with up to so many tokens."""
        return sum(self.team.ask("bytes_held", self.rows, tokens))

    def arrays(self, tokens: int) -> Mapping[str, NDArray]:
        """Return what must be saved: each array's name after its rank and its layer there."""
        return _of_all_ranks(self.team.ask("arrays", self.rows, tokens))

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Send what ``arrays(tokens)`` returned back; raises ValueError where it does not fit a layer."""
        of_ranks: dict[int, dict[int, dict[str, NDArray]]] = {}
        for name, array in arrays.items():
            rank, layer, rest = name.split(".", 2)
            of_ranks.setdefault(int(rank), {}).setdefault(int(layer), {})[rest] = array
        faults = self.team.ask("restore", self.number, of_ranks, tokens)
        for fault in faults:
            if fault:
                raise ValueError(fault)

    def needs(self, size: int) -> list[Needs]:
        """Return what each follower would need of a pool with blocks of so many tokens."""
        return self.team.ask("needs", self.number, size)

    def paged(self, blocks: int, size: int) -> "PooledElsewhere":
        """Put the keys and values of a cache of one row into a pool on each follower.

        blocks  of the pool
        size    tokens of a block
        """
        needs = self.needs(size)
        pool = StatesElsewhere(self.team, self.team.paged(self.number, blocks, size))
        return PooledElsewhere(pool, sum(need.block for need in needs), any(need.state for need in needs))


class PooledElsewhere:
    """What all followers have of some texts of a pool, as one ``LayerState``.

    states           of the rows' recurrences; the pool's own where no follower has any
    bytes_per_block  of all followers
    recurrent        whether any of them has recurrences
    tables           the block table of each row
    """

    def __init__(
        self, states: StatesElsewhere, bytes_per_block: int, recurrent: bool, tables: Sequence[Table] = ()
    ):
        self.states, self.bytes_per_block, self.recurrent = states, bytes_per_block, recurrent
        self.tables = tables
        self.rewindable = states.rewindable

    @property
    def rows(self) -> Rows:
        """What the followers have of the rows of the batch."""
        return Rows(self.states.number, as_array(self.tables))

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks that the rows hold, counted once, and of their recurrences."""
        blocks = len({block for table in self.tables for block in table}) * self.bytes_per_block
        return blocks + (self.states.nbytes if self.recurrent else 0)

    def commit(self) -> None:
        """Make what the call computed the state; of keys and values nothing waits."""
        if self.recurrent:
            self.states.commit()

    def of(self, tables: Sequence[Table], rows: NDArray[np.integer]) -> Self:
        """Return the state of texts with these tables, which may grow.

        rows  of this state, whose recurrences are copied
        """
        states = self.states.select(rows) if self.recurrent else self.states
        return type(self)(states, self.bytes_per_block, self.recurrent, tables)

    def select(self, rows: NDArray[np.integer]) -> Self:
        """Return the state of these rows, in this order; only recurrences are copied."""
        return self.of([self.tables[row] for row in rows.tolist()], rows)

    @classmethod
    def join(cls, states: Sequence[Self]) -> Self:
        """Put the rows of several states of a pool into one batch; only recurrences are copied."""
        first, tables = states[0], [table for state in states for table in state.tables]
        joined = StatesElsewhere.join([s.states for s in states]) if first.recurrent else first.states
        return cls(joined, first.bytes_per_block, first.recurrent, tables)

    def clear(self, lengths: NDArray[np.int64], before: NDArray[np.int64]) -> None:
        """Nothing need be emptied: no row reads places beyond its own length."""

    def bytes_held(self, tokens: int) -> int:
        """Return the bytes of what the followers remember of rows with up to so many tokens."""
        return sum(self.states.team.ask("bytes_held", self.rows, tokens))

    def copy_block(self, block: int, to: int) -> None:
        """Copy the keys and values of a block into another."""
        self.states.team.later("copy_block", self.states.number, block, to)

    def arrays(self, tokens: int) -> Mapping[str, NDArray]:
        """Return copies of keys, values and recurrences, named as ``StatesElsewhere`` names them."""
        return _of_all_ranks(self.states.team.ask("arrays", self.rows, tokens))

    def restore(self, arrays: Mapping[str, NDArray], tokens: int) -> None:
        """Raise ValueError: texts of a pool are read, and not loaded."""
        raise ValueError("a text of a pool cannot be loaded")


Elsewhere = StatesElsewhere | PooledElsewhere


def _of_all_ranks(found: Sequence[Sequence[Mapping[str, NDArray]]]) -> dict[str, NDArray]:
    """Name the arrays of each follower's layers after their rank and layer."""
    return {
        f"{rank}.{layer}.{name}": array
        for rank, layers in enumerate(found, start=1)
        for layer, arrays in enumerate(layers)
        for name, array in arrays.items()
    }
