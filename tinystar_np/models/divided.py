"""A model of which this process has a part (ranks/): what the leader sends, and what a follower does with it.

The leader calls its model as any other. With every call the followers are told what it is about, and compute
their part of it in step with the leader:

- by layers, rank r has a run of them. The residual stream goes from rank to rank, T·D numbers each time, and
  from the last back to the leader, which has the output layer. With it goes what later layers read of what
  earlier ones gave (``Step.give``), which in most models is nothing. The same is computed as in one process,
  in the same order: logits are equal to the last bit.
- by heads, each rank has a share of every layer. Each computes the whole stream, and the ranks add up their
  results once for each branch, T·D numbers: twice in most blocks. What they agree on besides is short, such
  as the experts that rank 0 has chosen.

    BlocksElsewhere  what the leader has in place of the followers' blocks, when layers are divided
    in_step          what the leader does around each call, when heads are
    Follower         what the others do when they are told
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import LayerState, Step
from tinystar_np.cache.elsewhere import Elsewhere, Rows, StatesElsewhere
from tinystar_np.cache.needs import needs_of
from tinystar_np.cache.paged import PagedState
from tinystar_np.cache.pooled_states import of_rows, paged, with_tables
from tinystar_np.cache.recurrent import parts_of
from tinystar_np.errors import InputError
from tinystar_np.layers.basic import Mixer
from tinystar_np.layers.module import Module, read_of_earlier
from tinystar_np.models.caches import fingerprint
from tinystar_np.models.config import AnyConfig
from tinystar_np.ranks import Part, Team
from tinystar_np.ranks.team import Result, to_its_end
from tinystar_np.tap import listening

if TYPE_CHECKING:
    from tinystar_np.models.base import Decoder


class BlocksElsewhere(Module):
    """The blocks that the followers have, as the leader calls them: one block after its own.

    team    the followers
    layers  that they have
    read    the keys of what these read that the leader's layers give (``Step.give``)
    """

    def __init__(self, team: Team, layers: range, read: frozenset[Hashable]):
        self.layers = layers
        self._team, self._read = team, read
        self._calls = count()

    def new_state(self, batch_size: int, capacity: int) -> StatesElsewhere:
        """Make the states of all these blocks."""
        return new_states_elsewhere(self._team, batch_size, capacity)

    def __call__(self, x: NDArray, step: Step, state: LayerState | None) -> NDArray:
        """Send the residual stream (B, T, D) on, and wait until it comes back: (B, T, D), or (B, 1, D)."""
        ranks = self._team.ranks
        rows = None if state is None else rows_of([state])
        with ranks.turn:
            call = self._team.number, next(self._calls)
            with to_its_end(ranks):
                self._team.tell("through_layers", call, rows, step.for_other_ranks())
                ranks.send((x, step.given_of(self._read)), to=1)
            result: Result = ranks.receive(ranks.size - 1)
            while result.call != call:  # of one that Ctrl-C ended
                result = ranks.receive(ranks.size - 1)
        return result.x

    def __repr__(self) -> str:
        return f"{type(self).__name__}(layers {self.layers.start} to {self.layers.stop - 1})"


def new_states_elsewhere(team: Team, batch_size: int, capacity: int) -> StatesElsewhere:
    """Make the followers' states of a new cache."""
    return StatesElsewhere(team, team.new_states(batch_size, capacity))


def own_blocks(blocks: Sequence[Mixer], part: Part | None) -> Sequence[Mixer]:
    """Take the blocks of a rank, on rank 0 with what stands for the others.

    blocks  of the whole model, those of other ranks hollow
    part    None in one process

    Lets the part know what later ranks' blocks read that earlier ones give.
    """
    if part is None or part.layers is None:
        return blocks
    own = part.own_layers
    later = blocks[own.stop :]
    found, part.read_later = list(blocks[own.start : own.stop]), read_of_earlier(later)
    if part.team is not None:
        part.team.rewindable = all(block.new_state(1, 0).rewindable for block in later)
        found.append(BlocksElsewhere(part.team, range(own.stop, len(blocks)), part.read_later))
    return found


@contextmanager
def in_step(
    part: Part,
    states: Sequence[LayerState] | None,
    tokens: NDArray[np.integer],
    step: Step,
    last_only: bool,
) -> Iterator[None]:
    """Let followers that have a share of every layer compute a call in step with the ``with`` block.

    Other threads of the leader wait until it has ended. Where it ends too early, the ranks can do nothing
    together any more. By layers nothing is to be done: the followers are told when it is their layers' turn.

    tokens  (B, T)
    others  as of ``Decoder.from_block``

    Raises InputError where somebody listens to activations, of which this process has a part.
    """
    if listening():
        raise InputError(
            "Parts of the model are in other processes, where activations are not recorded or changed. "
            "Do that with the whole model in one process."
        )
    if part.team is None or part.layers is not None:
        yield
        return
    with part.ranks.turn, to_its_end(part.ranks):
        part.team.tell("call", rows_of(states), tokens, step.for_other_ranks(), last_only)
        yield


class Follower:
    """A follower's part of a model, and its part of each cache.

    model  the part
    part   which one it is
    """

    def __init__(self, model: "Decoder[AnyConfig]", part: Part):
        self.model, self.ranks, self.part = model, part.ranks, part
        self.states: dict[int, list[LayerState]] = {}

    def do(self, waiting: Sequence[tuple[Any, ...]], message: tuple[Any, ...]) -> None:
        """Do what the leader's message says, and before it what waited; see ``Team``."""
        for what, *how in (*waiting, message):
            action: Callable[..., None] = getattr(self, what)
            action(*how)

    def new_states(self, number: int, batch_size: int, capacity: int) -> None:
        """Make the empty states of a cache."""
        self.states[number] = [block.new_state(batch_size, capacity) for block in self.model.blocks]

    def needs(self, number: int, size: int) -> None:
        """Say what the states of a cache of one row would need of a pool; see ``needs_of``."""
        self.ranks.send(needs_of(self.states[number], size), to=0)

    def paged(self, number: int, of: int, blocks: int, size: int) -> None:
        """Put keys and values into a pool, as the states of a cache of one row have them."""
        self.states[number] = [paged(state, blocks, size) for state in self.states[of]]

    def copy_block(self, number: int, block: int, to: int) -> None:
        """Copy a block of a pool into another."""
        for state in self.states[number]:
            for part in parts_of(state):
                if isinstance(part, PagedState):
                    part.copy_block(block, to)

    def select(self, number: int, of: int, rows: NDArray[np.integer]) -> None:
        """Copy rows of the states of another cache; of a pool, those of recurrences."""
        self.states[number] = [of_rows(state, rows) for state in self.states[of]]

    def join(self, number: int, of: Sequence[int]) -> None:
        """Put the rows of the states of several caches into one batch."""
        layers = zip(*(self.states[each] for each in of), strict=True)
        self.states[number] = [type(layer[0]).join(list(layer)) for layer in layers]

    def commit(self, number: int) -> None:
        """Make what a call computed the states."""
        for state in self.states[number]:
            state.commit()

    def clear(self, number: int, lengths: NDArray[np.int64], before: NDArray[np.int64]) -> None:
        """Empty the places of forgotten tokens."""
        for state in self.states[number]:
            state.clear(lengths, before)

    def drop(self, number: int) -> None:
        """Forget the states of a cache."""
        del self.states[number]

    def nbytes(self, number: int) -> None:
        """Say how many bytes states occupy."""
        self.ranks.send(sum(state.nbytes for state in self.states[number]), to=0)

    def bytes_held(self, rows: Rows, tokens: int) -> None:
        """Say how many bytes are remembered."""
        self.ranks.send(sum(state.bytes_held(tokens) for state in self._states_of(rows)), to=0)

    def arrays(self, rows: Rows, tokens: int) -> None:
        """Send what must be saved of states."""
        self.ranks.send([dict(state.arrays(tokens)) for state in self._states_of(rows)], to=0)

    def restore(self, number: int, of_ranks: Mapping[int, Mapping[int, Any]], tokens: int) -> None:
        """Take over saved states; says what does not fit, or nothing."""
        own = of_ranks.get(self.ranks.rank, {})
        fault = ""
        try:
            for layer, state in enumerate(self.states[number]):
                state.restore(own.get(layer, {}), tokens)
        except (ValueError, MemoryError) as error:
            fault = f"rank {self.ranks.rank}: {error}"
        self.ranks.send(fault, to=0)

    def fingerprint(self) -> None:
        """Tell this part from those of other models."""
        self.ranks.send(fingerprint(self.model.config, self.model.weights), to=0)

    def call(self, rows: Rows | None, tokens: NDArray[np.integer], step: Step, last_only: bool) -> None:
        """Compute this rank's share of all layers in a call of the model."""
        states = None if rows is None else self._states_of(rows)
        self.model.from_block(0, self.model.embed(tokens, step), step, states, last_only)

    def through_layers(self, call: tuple[int, int], rows: Rows | None, step: Step) -> None:
        """Take the residual stream from the rank before, and send it on, from the last to rank 0.

        call  its number, see ``Result``
        """
        states = None if rows is None else self._states_of(rows)
        rank, last = self.ranks.rank, self.ranks.size - 1
        x, given = self.ranks.receive(rank - 1)
        for key, value in given.items():
            step.give(key, value)
        blocks, for_all = self.model.blocks, step.for_all_tokens()
        for i, block in enumerate(blocks):
            ends = rank == last and i + 1 == len(blocks)  # there only the last token's result may be wanted
            x = block(x, step if ends else for_all, None if states is None else states[i])
        if rank == last:
            self.ranks.send(Result(call, x), to=0)
        else:
            self.ranks.send((x, step.given_of(self.part.read_later)), to=rank + 1)

    def _states_of(self, rows: Rows) -> list[LayerState]:
        """Return the states that the leader names."""
        states, tables = self.states[rows.number], rows.tables
        return states if tables is None else [with_tables(state, list(tables)) for state in states]


def rows_of(states: Sequence[LayerState] | None) -> Rows | None:
    """Return what stands for what the followers remember of a cache; None without one."""
    if states is None:
        return None
    beside = states[-1]
    assert isinstance(beside, Elsewhere)
    return beside.rows
