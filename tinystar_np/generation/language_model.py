"""What generation asks of a model, and which prompts the model has room for."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.cache import Cache
from tinystar_np.errors import ContextFullError, InputError

Progress = Callable[[int, int], None]
"""Called with how many tokens of a prompt have been read, and how many there are."""


class LanguageModel(Protocol):
    """The attributes and methods of a model that generation uses."""

    context_length: int | None
    end_ids: tuple[int, ...]

    def new_cache(self, batch_size: int = 1, capacity: int = 0) -> Cache:
        """Make an empty cache with room for ``capacity`` tokens."""

    def __call__(
        self, ids: ArrayLike, cache: Cache | None = None, last_only: bool = False
    ) -> NDArray[np.float32]:
        """Continue after what the cache holds: ids (B, T) → logits (B, T, V), or (B, 1, V)."""


Read = Callable[..., NDArray[np.float32]]
"""A language model as it is called."""


def room_after(model: LanguageModel, prompt: Sequence[int], cache: Cache | None = None) -> int | None:
    """Return how many tokens may follow a prompt and the cached ones before it; None for any number.

    The last token is never read by the model, so it needs no position.
    """
    if model.context_length is None:
        return None
    return model.context_length - (0 if cache is None else int(cache.lengths[0])) - len(prompt) + 1


def number_of_tokens(tokens: int, of_images: int) -> str:
    """Say how many tokens there are, and how many of them are those of images."""
    return f"{tokens} tokens" + (f" ({of_images} of images)" if of_images else "")


def check_prompt(
    model: LanguageModel,
    prompt: Sequence[int],
    name: str = "The prompt",
    held: int = 0,
    of_images: int = 0,
) -> None:
    """Raise InputError for an empty prompt, ContextFullError for one too long.

    held       how many tokens the cache holds before it
    of_images  how many of its tokens are those of images
    """
    if not prompt:
        raise InputError(f"{name} is empty. The model needs at least one token to continue.")
    if model.context_length is not None and held + len(prompt) > model.context_length:
        tokens = number_of_tokens(len(prompt), of_images)
        before = f", {held} are in the cache" if held else ""
        raise ContextFullError(
            f"{name} has {tokens}{before}, but the model holds {model.context_length}. Shorten it."
        )
