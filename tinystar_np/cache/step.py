"""A step: where the new tokens of one call stand, and what all layers need to know of that.

Rows of a batch may stand at different lengths, since prompts differ: each row continues at its own. Nothing
is padded, so position p of a row is always its p-th token.
"""

from collections.abc import Callable, Collection, Hashable, Sequence
from copy import copy
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.groups import Group, group_within, numbers_by_row
from tinystar_np.cache.images import Images, groups_of, with_prefixes
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.paged_attention import Paged

FIRST = "embedding"
"""The key under which a step holds the input of the first block, where later blocks read it again."""
Value = TypeVar("Value")
Positions = NDArray[np.int64]
Held = NDArray | Paged
"""Keys or values that are remembered: (B, G, S, K), or in a pool."""


class Limits(NamedTuple):
    """How far a token sees.

    window  W: the W positions up to its own; None for no limit
    chunk   C: no further back than its chunk of C tokens begins; None for no chunks
    causal  whether later tokens are hidden
    """

    window: int | None = None
    chunk: int | None = None
    causal: bool = True


class KeysAndValues(Protocol):
    """What remembers keys and values, such as ``KeyValueState``."""

    def append(self, k: NDArray, v: NDArray, step: "Step") -> tuple[Held, Held, Positions]:
        """Take in the new tokens' keys and values; return all in reach, and their positions."""


class Step:
    """T new tokens that follow ``start[b]`` cached ones in each row b.

    start         (B,) ints
    length        T
    text_lengths  (B,) the length of the text that each row's new tokens are a part of, by which rotations go
                  that depend on it; None where the text ends with them
    images        those of each row's text, earlier ones included; None where no row has any

    Raises InputError where it ends within an image whose prompt must be read at once.

    positions     (B, T) of every new token
    uniform       whether all rows stand at the same length
    end           S, the length of the longest row once the new tokens are in
    only_last     whether only the last token's result is wanted, as in the last block of a prompt: the rest
                  of that block's work would be thrown away
    """

    def __init__(
        self,
        start: Positions,
        length: int,
        text_lengths: Positions | None = None,
        images: Sequence[Images] | None = None,
    ):
        self.start = start
        self.length = length
        self.images = with_prefixes(images, start, length) if images is not None and any(images) else None
        self.text_lengths: Positions = start + length if text_lengths is None else text_lengths
        self.positions: Positions = start[:, None] + np.arange(length)
        self.uniform = bool((start == start[0]).all())
        self.end = int(start.max()) + length
        self.only_last = False
        self._shared: dict[Hashable, object] = {}
        self._given: dict[Hashable, object] = {}

    @property
    def row_positions(self) -> Positions:
        """The positions as kernels take them: (T,), or (B, T) where rows stand at different lengths."""
        return self.positions[0] if self.uniform else self.positions

    def for_last_token(self) -> Self:
        """Return this step as the last block has it where only the last token's logits are asked for."""
        step = copy(self)
        step.only_last = True
        return step

    def for_all_tokens(self) -> Self:
        """Return this step as a layer has it whose result the same block reads at all tokens."""
        step = copy(self)
        step.only_last = False
        return step

    def wanted(self, x: NDArray) -> NDArray:
        """Take the vectors of the tokens whose result is wanted: (B, T, D) → (B, T, D), or (B, 1, D)."""
        return x[:, -1:] if self.only_last else x

    @property
    def queries(self) -> "Step":
        """The step of the tokens whose result is wanted: this one, or that of the last token."""
        return self._last if self.only_last else self

    @cached_property
    def _last(self) -> "Step":
        return Step(self.start + self.length - 1, 1, self.text_lengths, self.images)

    def remember(self, k: NDArray, v: NDArray, state: KeysAndValues | None) -> tuple[Held, Held, Positions]:
        """Add the new tokens' keys and values, (B, G, T, K) each, to those that a layer remembers.

        state  None where nothing came before and nothing is kept

        Returns keys and values in reach, (B, G, S, K) or in pools, and their positions, (S,) or (B, S). Of
        those in pools, S is the longest row's length.
        """
        return (k, v, np.arange(self.end)) if state is None else state.append(k, v, self)

    def mask(self, key_positions: Positions, limits: Limits) -> Mask:
        """Say which keys the wanted tokens may see; one mask for all layers with the same limits.

        key_positions  what ``remember`` returned; layers with the same limits have the same
        """
        queries = self.queries
        make = partial(Mask, queries.row_positions, key_positions, *limits)
        if self.images is not None:
            make = partial(queries.mask_with_groups, make())
        return self.once((self.only_last, limits), make)

    def mask_with_groups(self, mask: Mask) -> Mask:
        """Let tokens of a group see one another, as far as this call has them."""
        if not any(self.groups):
            return mask
        return mask._replace(
            query_groups=numbers_by_row(self.groups, mask.query_positions),
            key_groups=numbers_by_row(self.groups, mask.key_positions),
            groups_in_window=any(group.in_window for row in self.groups for group in row),
        )

    @cached_property
    def groups(self) -> list[list[Group]]:
        """The groups of each row that new tokens belong to; no rows where there are no images."""
        return [
            [group for group in groups_of(images) if group.meets(start, start + self.length)]
            for images, start in zip(self.images or (), self.start.tolist(), strict=False)
        ]

    @property
    def cuts_groups(self) -> bool:
        """Whether the new tokens of a row begin or end within a group."""
        return any(
            group_within(row, place)
            for row, start in zip(self.groups, self.start.tolist(), strict=False)
            for place in (start, start + self.length)
        )

    def once(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return what ``make`` makes, made when first asked for and kept for all layers of this call."""
        if key not in self._shared:
            self._shared[key] = make()
        value: Value = self._shared[key]  # type: ignore[assignment]
        return value

    def give(self, key: Hashable, value: object) -> None:
        """Hand something to later layers of this call, in place of what an earlier one gave under the key."""
        self._given[key] = value

    def given(self, key: Hashable) -> Any:
        """Return what an earlier layer of this call gave under the key; raises KeyError where none has."""
        return self._given[key]

    def given_of(self, keys: Collection[Hashable]) -> dict[Hashable, object]:
        """Return what earlier layers of this call gave under some keys, as far as they have."""
        return {key: value for key, value in self._given.items() if key in keys}

    def for_other_ranks(self) -> "Step":
        """Return this step for layers in other processes: without what has been made and given so far, and
        with no more of images than this call reads."""
        images = self.images and [
            tuple(image.as_read(start, start + self.length) for image in row)
            for row, start in zip(self.images, self.start.tolist(), strict=True)
        ]
        step = Step(self.start, self.length, self.text_lengths, images)
        step.only_last = self.only_last
        return step
