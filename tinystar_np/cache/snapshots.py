"""Snapshots: copies of recurrent states after some tokens of a text, for texts that go on from there.

The state of a recurrence stands for all tokens up to one, and no token can be taken back from it. So a prefix
cache of a model with recurrences keeps copies, as many as there is memory for; a new one evicts the least
recently used. They are found by the name of the last full block (cache/blocks.py) and the tokens after it.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from tinystar_np.cache.blocks import Blocks
from tinystar_np.cache.layer_state import LayerState


@dataclass(eq=False)
class Snapshot:
    """What a recurrent model remembers of the beginning of a text.

    before  the name of the last full block
    tail    the tokens after it
    length  tokens in all
    states  one per layer, of one row; those of attention name no blocks
    block   the block of the tail's keys and values; None where there are none
    """

    before: bytes
    tail: tuple[int, ...]
    length: int
    states: list[LayerState]
    block: int | None


class Snapshots:
    """The snapshots of a pool.

    blocks  the pool's; a snapshot holds one of them where its tail has keys and values
    most    how many there may be
    """

    def __init__(self, blocks: Blocks, most: int) -> None:
        self._blocks, self._most = blocks, most
        self._all: OrderedDict[Snapshot, None] = OrderedDict()  # the least recently used first
        self._by_name: dict[bytes, list[Snapshot]] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._all)

    def __iter__(self) -> Iterator[Snapshot]:
        """Return an iterator over them, the least recently used first."""
        return iter(self._all)

    def after(self, name: bytes) -> list[Snapshot]:
        """Return those whose last full block has that name, the longest first."""
        return sorted(self._by_name.get(name, ()), key=lambda snapshot: -snapshot.length)

    def use(self, snapshot: Snapshot) -> None:
        """Make it the most recently used."""
        self._all.move_to_end(snapshot)

    def add(self, snapshot: Snapshot) -> None:
        """Keep one, and hold its block; the least recently used ones are dropped where there are too many."""
        while len(self._all) >= self._most:
            self.drop_oldest()
        if snapshot.block is not None:
            self._blocks.hold(snapshot.block)
        self._all[snapshot] = None
        self._by_name.setdefault(snapshot.before, []).append(snapshot)

    def drop_oldest(self) -> None:
        """Forget the least recently used one, and let go of its block."""
        snapshot, _ = self._all.popitem(last=False)
        alike = self._by_name[snapshot.before]
        alike.remove(snapshot)
        if not alike:
            del self._by_name[snapshot.before]
        if snapshot.block is not None:
            self._blocks.let_go(snapshot.block)
