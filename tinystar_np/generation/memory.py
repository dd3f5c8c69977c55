"""Where a scheduler's texts are remembered: in caches of their own, or in a pool that all share."""

import sys
from collections.abc import Sequence
from typing import Protocol

from tinystar_np.cache import Cache
from tinystar_np.cache.pool import Pool, PooledText
from tinystar_np.generation.language_model import LanguageModel
from tinystar_np.generation.request import Request

ROOM = 4096  # the most new tokens that a cache is allocated for in advance; it grows when there are more


class Memory(Protocol):
    """The memory of a scheduler's texts."""

    rows: int
    """How many texts it can hold at the same time."""
    reads_again: bool
    """Whether texts whose rotations have changed are to be begun anew; where not, the model sees to it."""

    def should_wait(self, request: Request, reading: Sequence[Request]) -> bool:
        """Say whether a text should wait for one that is being read, whose beginning it will share."""

    def begin(self, request: Request) -> bool:
        """Give a request a cache; False where there is no room now."""

    def make_room(self, request: Request, tokens: int) -> bool:
        """Make room for so many more tokens of a text; False where there is none."""

    def note(self, request: Request) -> None:
        """Note how far a text has been read."""

    def keep(self, request: Request, cache: Cache, row: int) -> None:
        """Keep what a row of a cache holds, for texts that go on from it."""

    def end(self, request: Request) -> None:
        """Release a text's memory."""


class OwnCaches:
    """A cache of its own for each text, as large as it may become. Caches are copied when texts join a batch.

    model  makes the caches
    """

    rows = sys.maxsize
    reads_again = False

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def should_wait(self, request: Request, reading: Sequence[Request]) -> bool:
        """Say no: nothing is shared."""
        return False

    def begin(self, request: Request) -> bool:
        """Make a cache, where the request brings none."""
        if request.cache is None:
            request.cache = roomy_cache(self._model, len(request.row.ids), request.wanted)
        return True

    def make_room(self, request: Request, tokens: int) -> bool:
        """Say yes: a cache grows by itself."""
        return True

    def note(self, request: Request) -> None:
        """Do nothing."""

    def keep(self, request: Request, cache: Cache, row: int) -> None:
        """Do nothing."""

    def end(self, request: Request) -> None:
        """Do nothing: the cache is its user's."""


class SharedPool:
    """A pool of blocks. Texts that begin alike share what they have in common.

    pool  the model's
    """

    reads_again = True

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.rows = pool.rows

    def should_wait(self, request: Request, reading: Sequence[Request]) -> bool:
        """Say whether a text that is being read will hold more of this one than the pool does now."""
        texts = [other.text for other in reading if other.text is not None]
        return bool(texts) and self.pool.should_wait(self._text(request), texts, request.most_cached)

    def begin(self, request: Request) -> bool:
        """Take the blocks that the pool has of a text's beginning, and promise it room for the rest."""
        text = self._text(request)
        expected = len(request.row.ids) + max(request.row.left, 0)
        cache = self.pool.begin(text, request.row.ids, expected, request.most_cached)
        if cache is None:
            return False
        request.cache, request.read = cache, text.cached
        parts = self.pool.agrees_up_to(text, request.row.ids)
        request.cuts = [*request.marks, *([] if parts is None else [parts])]
        return True

    def _text(self, request: Request) -> PooledText:
        if request.text is None:
            request.text = self.pool.text(request.row.ids, shares=not request.images)
        return request.text

    def make_room(self, request: Request, tokens: int) -> bool:
        """Take blocks for so many more tokens."""
        return request.text is None or self.pool.make_room(request.text, request.read + tokens)

    def note(self, request: Request) -> None:
        """Let other texts share the blocks that are full now."""
        if request.text is not None:
            self.pool.note(request.text, request.row.ids, request.read)

    def keep(self, request: Request, cache: Cache, row: int) -> None:
        """Keep a snapshot of the states of recurrences."""
        if request.text is not None:
            self.pool.keep(request.text, request.row.ids, cache, row)

    def end(self, request: Request) -> None:
        """Release a text's blocks, which stay in the prefix cache as long as there is room."""
        if request.text is not None:
            self.pool.end(request.text)
        request.text, request.cache, request.read = None, None, 0


def roomy_cache(model: LanguageModel, prompt_length: int, new_tokens: int) -> Cache:
    """Make an empty cache with room for a prompt and the new tokens."""
    capacity = prompt_length + min(new_tokens, ROOM)
    if model.context_length is not None:
        capacity = min(capacity, model.context_length)
    return model.new_cache(1, capacity=capacity)
