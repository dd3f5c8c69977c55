"""The text that a model has read: a cache, its tokens, and how to go back to where a new prompt leaves it.

Each prompt of a conversation mostly begins with what is held, and only the rest is read:

    held    <|user|> Hello <|assistant|> Hi!
    prompt  <|user|> Hello <|assistant|> Hi! <|end|> <|user|> How are you? <|assistant|>
    read                                     ─────────────────────────────────────────

Where a prompt differs from what is held, the cache is truncated to the last common token. A recurrent state
cannot be truncated, so a copy of it is kept at places to which prompts are likely to return.
"""

from collections.abc import Sequence
from itertools import takewhile, zip_longest
from operator import eq

import numpy as np

from tinystar_np.cache import Cache, SeenImage
from tinystar_np.generation.language_model import LanguageModel, Progress
from tinystar_np.generation.loop import prefill, reading
from tinystar_np.generation.memory import roomy_cache
from tinystar_np.generation.options import SamplingOptions

COPIES = 2  # of a cache that cannot be cut: after the user's newest message, and after the one before it


class ReadText:
    """What a model has read of one text.

    model  the model

    ids    the tokens that the cache holds, and perhaps some after them
    cache  None before the first token
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._held: tuple[list[int], Cache | None] = [], None  # together, so that they change in one step
        self.copies: list[tuple[list[int], Cache]] = []

    @property
    def ids(self) -> list[int]:
        """The tokens that the cache holds, and perhaps some after them."""
        return self._held[0]

    @property
    def cache(self) -> Cache | None:
        """The cache."""
        return self._held[1]

    def hold(self, ids: list[int], cache: Cache) -> None:
        """Go on with this cache, which holds all or the first of these tokens; the list may grow."""
        self._held = ids, cache

    def go_back(self, prompt: list[int], options: SamplingOptions, images: Sequence[SeenImage] = ()) -> Cache:
        """Return a cache that holds as much of the prompt's beginning as possible, with the same images.

        Never the whole prompt: its last token must be read for the logits after it.
        """
        ids, cache = self._held
        if cache is not None:
            # The last turn may have been interrupted anywhere: the cache knows how many ids were read.
            held = min(int(cache.lengths[0]), len(ids))
            shared = same_images(common_length(ids[:held], prompt[:-1]), cache, images)
            if shared < held and cache.truncates_to(shared):
                cache.truncate(shared)
                held = shared
            if shared == held:
                self.hold(prompt[:held], cache)
                return cache
        for ids, earlier in reversed(self.copies):
            if same_images(common_length(ids, prompt[:-1]), earlier, images) == len(ids):
                cache = earlier.copy()
                self.hold(ids, cache)
                return cache
        cache = roomy_cache(self._model, len(prompt), options.max_new_tokens)
        self.hold([], cache)
        return cache

    def read_and_copy(
        self,
        ids: list[int],
        end: int,
        cache: Cache,
        options: SamplingOptions,
        progress: Progress | None = None,
        images: Sequence[SeenImage] = (),
    ) -> None:
        """Read the first ``end`` of these tokens that the cache does not hold yet, and keep a copy of it."""
        start = int(cache.lengths[0])
        if end > start:
            prefill(reading(self._model, options), ids[start:end], cache, progress, images)
            self.copies = [*self.copies, (ids[:end], cache.copy())][-COPIES:]


def same_images(length: int, cache: Cache, images: Sequence[SeenImage]) -> int:
    """Return how many of the first ``length`` tokens have the images that a cache of one row holds there.

    Images have the same token everywhere: which one it is, only its vectors tell.
    """
    held = () if cache.images is None else cache.images[0]
    for old, new in zip_longest(held, images):
        same = old is not None and new is not None and np.array_equal(old.places, new.places)
        if not same or old.vectors is not new.vectors:
            first = min(int(image.places[0]) for image in (old, new) if image is not None)
            return min(length, first)
    return length


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the common beginning of two sequences."""
    return sum(1 for _ in takewhile(bool, map(eq, a, b)))
