"""Blocks: which parts of a pool are free, in use, or kept as a prefix cache for texts that begin alike.

A pool of memory is divided into blocks of a fixed number of tokens, and a text takes one after another as it
grows: nothing need be reserved for its longest possible end, and two texts that begin with the same tokens
hold the same blocks for them. Here are only the numbers of the blocks; the keys and values that stand in them
are in cache/paged.py. Kwon et al. 2023, arXiv:2309.06180.

**Sharing.** A full block is named by a hash of its tokens and of the name of the block before it, so that the
name stands for the whole text up to its end. A text that begins with the same tokens finds the block by its
name. A block counts the texts that hold it. One that no text holds any longer is kept, as long as no one
needs its place; the one that was used least recently is evicted first, and of a text its end before its
beginning, which is what others may share.

**Runs.** NumPy sees neighbouring blocks as one array, without copying (kernels/paged_attention.py). So a text
gets blocks that follow one another where that can be: when it begins, it is promised a run of free blocks
long enough for its likely end, or as long as there is. A promise reserves nothing: where memory is short,
long ones are cut before any kept block is evicted.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

FIRST_NAME = b""  # of what precedes the first block of a text
NO_TEXT = -1
AHEAD = 8  # blocks that are promised at a time to a text that has used up what it was promised


def name_after(before: bytes, ids: Sequence[int]) -> bytes:
    """Return the name of a block that holds these tokens, and follows the block of that name."""
    # Not Python's hash: of 64 bits, and equal for texts that somebody has chosen to be so.
    return blake2b(np.asarray(ids, dtype=np.int64).tobytes(), digest_size=16, key=before).digest()


class Blocks:
    """The blocks of a pool, by their numbers.

    count  how many there are
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._holders = np.zeros(count, dtype=np.int64)  # how many texts hold each
        self._free = np.ones(count, dtype=np.bool_)
        self._promised = np.full(count, NO_TEXT, dtype=np.int64)  # the text that each is promised to
        self._names: dict[int, bytes] = {}
        self._by_name: dict[bytes, int] = {}
        self._kept: OrderedDict[int, None] = OrderedDict()  # the least recently used first

    @property
    def available(self) -> int:
        """How many can be taken: those that are free, and those that are kept."""
        return int(np.count_nonzero(self._free)) + len(self._kept)

    @property
    def kept(self) -> int:
        """How many hold the tokens of no running text."""
        return len(self._kept)

    @property
    def in_use(self) -> int:
        """How many hold tokens of running texts."""
        return self.count - self.available

    def named(self, name: bytes) -> int | None:
        """Return the block of that name; None if there is none."""
        return self._by_name.get(name)

    def name(self, block: int, name: bytes) -> None:
        """Name a block that is full; nothing happens where another has the name already."""
        if self._by_name.setdefault(name, block) == block:
            self._names[block] = name

    def is_held(self, block: int) -> bool:
        """Say whether a text holds a block."""
        return bool(self._holders[block])

    def hold(self, block: int) -> None:
        """Hold a block for one more text."""
        self._kept.pop(block, None)
        self._holders[block] += 1

    def let_go(self, block: int) -> None:
        """Hold a block for one text less; the last one leaves it kept if it has a name, and free if not."""
        self._holders[block] -= 1
        if self._holders[block] == 0:
            if block in self._names:
                self._kept[block] = None
            else:
                self._free[block] = True

    def promise(self, text: int, least: int, most: int) -> None:
        """Promise a text a run of free blocks.

        least  where fewer are free, others' longer promises are cut short, then kept blocks are evicted
        most   blocks of the run, which may be fewer
        """
        while np.count_nonzero(self._free & (self._promised == NO_TEXT)) < least:
            if self._shorten_a_promise():
                continue
            if not self._kept:
                break
            self._evict()
        starts, lengths = runs_of(self._free & (self._promised == NO_TEXT))
        if not len(starts):
            return
        fitting = lengths >= most
        # The shortest run that is long enough: longer ones are left whole for longer texts.
        best = int(np.where(fitting, lengths, self.count + 1).argmin() if fitting.any() else lengths.argmax())
        self._promised[starts[best] : starts[best] + min(most, int(lengths[best]))] = text

    def forget(self, text: int) -> None:
        """Take back what is still promised to a text."""
        self._promised[self._promised == text] = NO_TEXT

    def take(self, text: int, after: int | None = None) -> int | None:
        """Take a block for a text, the one after its last if that can be; it is held once.

        after  the last block of the text; None for none

        Returns its number; None where all are held.
        """
        block = self._promised_to(text, after)
        if block is None:
            self.promise(text, AHEAD, AHEAD)
            block = self._promised_to(text, None)
        if block is None:
            free = np.flatnonzero(self._free)  # those that are promised to others
            if not len(free):
                return None
            block = int(free[0])
        self._free[block] = False
        self._promised[block] = NO_TEXT
        self._holders[block] = 1
        return block

    def _promised_to(self, text: int, after: int | None) -> int | None:
        """Return the block after the last of a text, if it is free, or the first that is promised to it."""
        following = self.count if after is None else after + 1
        if following < self.count and self._free[following] and self._promised[following] in (text, NO_TEXT):
            return following
        found = np.flatnonzero(self._free & (self._promised == text))
        return int(found[0]) if len(found) else None

    def _shorten_a_promise(self) -> bool:
        """Take back half of the longest promise, but for ``AHEAD`` blocks; False where all are so short."""
        texts, lengths = np.unique(self._promised[self._promised != NO_TEXT], return_counts=True)
        if not len(texts) or lengths.max() <= AHEAD:
            return False
        promised = np.flatnonzero(self._promised == texts[lengths.argmax()])
        self._promised[promised[max(AHEAD, len(promised) // 2) :]] = NO_TEXT
        return True

    def _evict(self) -> None:
        """Free the kept block that was used least recently."""
        block, _ = self._kept.popitem(last=False)
        del self._by_name[self._names.pop(block)]
        self._free[block] = True


def runs_of(some: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each run of true values starts, and how long it is.

    >>> [array.tolist() for array in runs_of(np.array([True, True, False, True]))]
    [[0, 3], [2, 1]]
    """
    edges = np.diff(np.concatenate(([0], some.astype(np.int8), [0])))
    starts = np.flatnonzero(edges == 1)
    return starts, np.flatnonzero(edges == -1) - starts
