"""A pool: the cache of many texts, which share what they begin with (a prefix cache).

Keys and values stand in blocks (cache/blocks.py), and each text has a table of its blocks, the block table of
paged attention. A text that begins as another did holds the same blocks as far as the two agree, and only the
rest is read.

**Recurrences** have no blocks: their state stands for all tokens up to one, and no token can be taken back
from it. What can be shared is a copy of the state at some length, a snapshot (cache/snapshots.py). They are
taken where another text may go on: at a text's end, where the next turn of a conversation begins; at the end
of each long piece of a prompt; where somebody says that a message ends; and at the block up to which a text
agrees with an earlier one, so that the third text of a kind finds it. A text then begins at the longest
snapshot that its tokens allow. A layer of attention in the same model needs its keys and values up to there,
those of the last block too, which is not full: the snapshot holds it, and whoever goes on from it writes into
a copy.

**Memory.** All of it is laid out at the start: blocks, and as many states as rows and snapshots may have. In
a model that has both, half of it is for either. What is not used costs nothing until it is.

**Ranks.** Where processes share the model (ranks/), each has the keys, values and recurrences of its part, in
blocks of the same numbers. All that is said here of blocks and texts happens on rank 0. It tells the others
with each call which blocks the rows have, and which recurrences to copy. Memory is counted by rank: each may
take as much as one process could, so that two hold up to twice as many tokens.
"""

import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np

from tinystar_np.amounts import size_of
from tinystar_np.cache.blocks import FIRST_NAME, Blocks, name_after
from tinystar_np.cache.cache import Cache
from tinystar_np.cache.elsewhere import PooledElsewhere
from tinystar_np.cache.layer_state import LayerState
from tinystar_np.cache.needs import Needs, least_within, most_within
from tinystar_np.cache.paged import PagedState
from tinystar_np.cache.pooled_states import needs_of_ranks, of_rows, of_text, paged
from tinystar_np.cache.recurrent import parts_of
from tinystar_np.cache.snapshots import Snapshot, Snapshots
from tinystar_np.cache.text import HeldText
from tinystar_np.errors import InputError

BLOCK = 16  # tokens
MOST_SEEN = 1 << 16  # names of blocks that a recurrent model has read


class NewCache(Protocol):
    """A model, as far as a pool needs it."""

    def new_cache(self, batch_size: int = 1, capacity: int = 0) -> Cache:
        """Make an empty cache."""


class PooledText:
    """A text whose memory is in a pool.

    number  of the text
    root    the name of what precedes its first block: texts of different roots share nothing
    shares  whether it may share blocks with others

    table   the numbers of its blocks
    cached  tokens that were in the pool when it began
    """

    def __init__(self, number: int, root: bytes, shares: bool) -> None:
        self.number, self.shares = number, shares
        self.table: list[int] = []
        self.names = [root]  # of the full blocks, after the root
        self.named = 0  # how many of them were given to the pool
        self.cached = 0

    def name_up_to(self, ids: Sequence[int], size: int) -> None:
        """Know the names of all full blocks of these tokens."""
        for start in range((len(self.names) - 1) * size, len(ids) - size + 1, size):
            self.names.append(name_after(self.names[-1], ids[start : start + size]))


class Pool:
    """The memory of many texts of one model.

    model   makes the caches of which the pool takes the shapes
    blocks  how many blocks
    states  how many states of recurrences, those of the rows among them
    rows    how many texts can be read or generated at once
    size    tokens of a block
    """

    def __init__(self, model: NewCache, blocks: int, states: int, rows: int, size: int = BLOCK) -> None:
        self.size, self.rows = size, rows
        self._empty = model.new_cache(1)
        needs = needs_of_ranks(self._empty, size)
        self.bytes_per_block, self.bytes_per_state = _sums(needs)
        self._can_share = all(need.by_token for need in needs)
        self._recurrent = self.bytes_per_state > 0
        self._states = states
        self.blocks = Blocks(blocks)
        self._layers = [paged(state, blocks, size) for state in self._empty.states]
        self.snapshots = Snapshots(self.blocks, states - rows)
        self._seen: OrderedDict[bytes, None] = OrderedDict()  # names that were read, of recurrent models
        self._texts = 0
        self._owed: dict[int, int] = {}  # blocks that texts will take for what they have to read

    @classmethod
    def within(cls, model: NewCache, memory: int, rows: int, size: int = BLOCK) -> Self:
        """Make a pool that takes so many bytes, or less than a block less.

        memory  of each rank at most, where several share the model
        rows    how many texts are read or generated at once, if there is memory for their states

        Raises InputError where the memory is too small for anything.
        """
        needs = needs_of_ranks(model.new_cache(1), size)
        blocks, states = most_within(needs, memory)
        if blocks == 0 or states == 0:
            raise InputError(
                f"A cache of {size_of(memory)} is too small for this model, which needs "
                f"{size_of(least_within(needs))}."
            )
        blocks, states = 1 if blocks is None else blocks, rows if states is None else states
        return cls(model, blocks, states, min(rows, states), size)

    @classmethod
    def for_texts(cls, model: NewCache, lengths: Sequence[int], rows: int, memory: int) -> Self:
        """Make a pool for texts that will have so many tokens each.

        rows    how many are read or generated at once
        memory  bytes of each rank at most, unless a single text needs more
        """
        needs = [need._replace(state=0) for need in needs_of_ranks(model.new_cache(1), BLOCK)]
        blocks = [-(-length // BLOCK) for length in lengths]
        most = most_within(needs, memory)[0] or 1
        return cls(model, max(min(sum(blocks), most), *blocks), rows, rows)

    @property
    def tokens(self) -> int:
        """How many tokens a single text can have."""
        return self.blocks.count * self.size if self.bytes_per_block else sys.maxsize

    @property
    def nbytes(self) -> int:
        """Bytes for all blocks and states, of all ranks that share the model."""
        return self.blocks.count * self.bytes_per_block + self._states * self.bytes_per_state

    def paged_layers(self) -> list[PagedState]:
        """Return the layers' keys and values, as far as they are in this process."""
        return [part for part in self._parts() if isinstance(part, PagedState)]

    def _parts(self) -> list[LayerState]:
        return [part for layer in self._layers for part in parts_of(layer)]

    def text(self, ids: Sequence[int], shares: bool = True) -> PooledText:
        """Make a text that begins with these tokens; it takes nothing yet.

        shares  whether it may share with others, where the model's memory allows that
        """
        shares = shares and self._can_share
        self._texts += 1
        text = PooledText(self._texts, self._root(len(ids)), shares)
        if shares:
            text.name_up_to(ids, self.size)
        return text

    def should_wait(self, text: PooledText, others: Sequence[PooledText], most_cached: int) -> bool:
        """Say whether another text, which is being read, will soon hold more of this one than the pool."""
        if self._recurrent or not text.shares:
            return False
        most = most_cached // self.size
        known = len(self._named(text, most))
        return any(_in_common(text, other, most) > known for other in others)

    def begin(self, text: PooledText, ids: Sequence[int], expected: int, most_cached: int) -> Cache | None:
        """Make a cache that holds as much of the beginning of a text as the pool knows.

        ids          the text's, at least one
        expected     how many tokens the text will have at its end
        most_cached  how many may be taken from the pool, fewer than all

        Returns None where there is no room now.
        """
        shared: list[int] = []
        snapshot = None
        if text.shares and self._recurrent:
            snapshot = self._longest_snapshot(text, ids, most_cached)
            shared = [] if snapshot is None else self._named(text, snapshot.length // self.size)
        elif text.shares:
            shared = self._named(text, most_cached // self.size)
        # With one for the next token; a text that fills the pool has none to come that would be read.
        needed = self._blocks_of(min(len(ids) + 1, self.tokens)) - len(shared)
        # What texts will take for what they are reading, and a block for each that is being generated.
        others = sum(max(owed, 1) for owed in self._owed.values())
        others += sum(1 for block in shared if not self.blocks.is_held(block))
        if self.bytes_per_block and not self._are_available(needed + others):
            return None
        self._owed[text.number] = needed
        for block in shared:
            self.blocks.hold(block)
        text.table, text.named, text.cached = list(shared), len(shared), len(shared) * self.size
        if self.bytes_per_block:
            self.blocks.promise(text.number, needed, max(needed, self._blocks_of(expected) - len(shared)))
        if snapshot is None:
            states = [of_text(state, text.table) for state in self._layers]
        else:
            states = self._go_on(text, snapshot)
        held = np.array([text.cached])
        return Cache(states, held, self._empty.fingerprint, self._held_text(ids, text.cached))

    def make_room(self, text: PooledText, tokens: int) -> bool:
        """Take blocks until a text has room for so many tokens; False where there are none left."""
        while len(text.table) < self._blocks_of(tokens):
            block = self.blocks.take(text.number, text.table[-1] if text.table else None)
            if block is not None:
                text.table.append(block)
                self._owed[text.number] -= 1
            elif not self._are_available(1):
                return False
        return True

    def note(self, text: PooledText, ids: Sequence[int], length: int) -> None:
        """Let others share the blocks of a text that are full now.

        ids     its tokens, of which the pool holds the first ``length``
        """
        full = length // self.size
        if not text.shares or full <= text.named:
            return
        text.name_up_to(ids[: full * self.size], self.size)
        for number in range(text.named, full):
            name = text.names[number + 1]
            if self.bytes_per_block:
                self.blocks.name(text.table[number], name)
            if self._recurrent:
                self._seen[name] = None
                self._seen.move_to_end(name)
                while len(self._seen) > MOST_SEEN:
                    self._seen.popitem(last=False)
        text.named = full

    def keep(self, text: PooledText, ids: Sequence[int], cache: Cache, row: int = 0) -> None:
        """Take a snapshot of a text for those that go on from here; only in models with recurrences.

        cache  holds it, in this row
        """
        if not self._recurrent or not text.shares or self._states <= self.rows:
            return
        length = int(cache.lengths[row])
        full = length // self.size
        tail = tuple(ids[full * self.size : length])
        text.name_up_to(ids[:length], self.size)
        before = text.names[full]
        for other in self.snapshots.after(before):
            if other.tail == tail:
                self.snapshots.use(other)
                return
        block = text.table[full] if tail and self.bytes_per_block else None
        states = [of_rows(state, np.array([row])) for state in cache.states]
        self.snapshots.add(Snapshot(before, tail, length, states, block))

    def end(self, text: PooledText) -> None:
        """Release a text's blocks: those with a name are kept for others as long as there is room."""
        self.blocks.forget(text.number)
        self._owed.pop(text.number, None)
        for block in reversed(text.table):  # the end is evicted before the beginning
            self.blocks.let_go(block)
        text.table = []

    def agrees_up_to(self, text: PooledText, ids: Sequence[int]) -> int | None:
        """Return how far a recurrent model's text agrees with earlier ones; None where no one would gain."""
        if not self._recurrent or not text.shares:
            return None
        known = 0
        for name in text.names[1 : (len(ids) - 1) // self.size + 1]:
            if name not in self._seen:
                break
            known += self.size
        return known if known > text.cached else None

    def _root(self, length: int) -> bytes:
        """Name what decides about keys besides tokens: where rotations go by the text's length, that."""
        text = self._empty.text
        if text is None:
            return FIRST_NAME
        lengths = np.array([length])
        return name_after(FIRST_NAME, [int(rule.rotation_length(lengths)[0]) for rule in text.rules])

    def _named(self, text: PooledText, most: int) -> list[int]:
        """Return those of a text's first ``most`` blocks that are in the pool, up to the first gap."""
        if not self.bytes_per_block:
            return []
        found = []
        for name in text.names[1 : most + 1]:
            block = self.blocks.named(name)
            if block is None:
                break
            found.append(block)
        return found

    def _blocks_of(self, tokens: int) -> int:
        """Return how many blocks so many tokens take."""
        return -(-tokens // self.size) if self.bytes_per_block else 0

    def _are_available(self, needed: int) -> bool:
        """Say whether so many blocks can be taken; drops snapshots for it."""
        while needed > self.blocks.available:
            if not any(snapshot.block is not None for snapshot in self.snapshots):
                return False
            self.snapshots.drop_oldest()
        return True

    def _longest_snapshot(self, text: PooledText, ids: Sequence[int], most: int) -> Snapshot | None:
        """Return the longest snapshot that a text may go on from; its blocks are all there."""
        for full in range(min(most // self.size, len(text.names) - 1), -1, -1):
            for found in self.snapshots.after(text.names[full]):
                fits = found.length <= most and tuple(ids[full * self.size : found.length]) == found.tail
                if fits and (not self.bytes_per_block or len(self._named(text, full)) == full):
                    self.snapshots.use(found)
                    return found
        return None

    def _go_on(self, text: PooledText, snapshot: Snapshot) -> list[LayerState]:
        """Give a text the state of a snapshot, and a copy of the block that is not full."""
        text.cached = snapshot.length
        if not self.bytes_per_block:
            text.named = snapshot.length // self.size
        if snapshot.block is not None:
            self.make_room(text, snapshot.length)
            for part in self._parts():
                if isinstance(part, PagedState | PooledElsewhere):
                    part.copy_block(snapshot.block, text.table[-1])
        return [of_text(state, text.table) for state in snapshot.states]

    def _held_text(self, ids: Sequence[int], cached: int) -> HeldText | None:
        """Return the ids that the cache of a text must keep, where its model asks for them."""
        empty = self._empty.text
        if empty is None:
            return None
        return HeldText(empty.rules, np.array([ids[:cached]], dtype=np.int64), np.array([len(ids)]))


def _sums(needs: Sequence[Needs]) -> tuple[int, int]:
    """Return the bytes of a block and of a text's recurrences on all ranks."""
    return sum(need.block for need in needs), sum(need.state for need in needs)


def _in_common(text: PooledText, other: PooledText, most: int) -> int:
    """Return how many blocks two texts have in common that the other, which is being read, will have yet."""
    common = 0
    for own, its in zip(text.names[1 : most + 1], other.names[1:], strict=False):
        if own != its:
            break
        common += 1
    return common if other.shares and common > other.named else 0
