"""A cache: the states of all layers of a model for one batch of conversations.

``model.new_cache`` makes one, ``model(ids, cache=cache)`` extends it. Each layer keeps what it needs: keys
and values, a window of them, or the fixed-size state of a recurrence. Rows of the batch may hold different
numbers of tokens. Lengths move only after a call has gone through all layers: a call that is interrupted
leaves the cache as it was before. Moving is itself several steps, one per layer; where Ctrl-C comes between
them, whoever uses the cache next takes the rest.

Where rotations depend on the length of a text, the cache also keeps the text (cache/text.py).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.amounts import counted, size_of
from tinystar_np.cache.groups import Group, group_within
from tinystar_np.cache.images import Images, SeenImage, begun, groups_of, is_of_images, merged
from tinystar_np.cache.layer_state import LayerState
from tinystar_np.cache.saved import write_states
from tinystar_np.cache.step import Step
from tinystar_np.cache.text import HeldText
from tinystar_np.errors import InputError

PREFILL = 512
"""Tokens of a long text that are read at once: bounds the memory of their activations."""


class _Held(NamedTuple):
    """All that changes in a cache, in one place, so that it can change in one step."""

    states: list[LayerState]
    lengths: NDArray[np.int64]
    text: HeldText | None
    images: Sequence[Images] | None


class Cache:
    """One state per layer, and how many tokens each row of the batch holds.

    states       one per layer, in the model's order
    lengths      (B,) ints: tokens held by each row; may be set
    fingerprint  tells which model it belongs to; asked when it is saved
    text         the tokens themselves, where the model's rotations depend on the length of a text
    images       of each row's text; None for none
    """

    def __init__(
        self,
        states: Sequence[LayerState],
        lengths: NDArray[np.int64],
        fingerprint: Callable[[], str],
        text: HeldText | None = None,
        images: Sequence[Images] | None = None,
    ):
        some = images if images is not None and any(images) else None
        self._held = _Held(list(states), lengths, text, some)
        self._next: tuple[NDArray[np.int64], HeldText | None, Sequence[Images] | None] | None = None
        self._whole: NDArray[np.int64] | None = None
        self.fingerprint = fingerprint

    @property
    def states(self) -> list[LayerState]:
        """One per layer, in the model's order."""
        return self._held.states

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(B,) tokens held by each row."""
        self._move()
        return self._held.lengths

    @lengths.setter
    def lengths(self, lengths: NDArray[np.int64]) -> None:
        self._next = None
        self._held = self._held._replace(lengths=lengths, images=begun(self._held.images, lengths))

    @property
    def text(self) -> HeldText | None:
        """The tokens that the rows hold, None in most models: they need them no more."""
        self._move()
        return self._held.text

    @property
    def images(self) -> Sequence[Images] | None:
        """Those of which each row holds a part; None where no row has any."""
        self._move()
        return self._held.images

    @property
    def batch_size(self) -> int:
        """B, the number of rows."""
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes that all states occupy, room for further tokens included."""
        return sum(state.nbytes for state in self.states)

    @property
    def rewindable(self) -> bool:
        """Whether tokens can be taken back: not where a recurrence has mixed them into its state."""
        return all(state.rewindable for state in self.states)

    def __repr__(self) -> str:
        most = int(self.lengths.max(initial=0))
        fewest = int(self.lengths.min(initial=most))
        tokens = counted(most, "token") if fewest == most else f"{fewest} to {counted(most, 'token')}"
        held = sum(state.bytes_held(most) for state in self.states)
        return f"{type(self).__name__}({counted(self.batch_size, 'row')}, {tokens}, {size_of(held)})"

    def span(self, new_tokens: int, images: Sequence[Sequence[SeenImage]] | None = None) -> Step:
        """Return the positions that the next ``new_tokens`` tokens of each row will take.

        images  of each row's text, those that the cache holds or not; None for no further ones

        Raises InputError where images cannot stand together.
        """
        whole = None if self._whole is None else np.maximum(self.lengths + new_tokens, self._whole)
        known = self.images if images is None else merged(self.images, images, self.lengths)
        return Step(self.lengths, new_tokens, whole, known)

    @contextmanager
    def reading(self, new_tokens: int) -> Iterator[None]:
        """Let calls in the ``with`` block read pieces of one text, of so many new tokens altogether.

        Where rotations depend on the length of a text, those of a piece go by the length of the whole.
        """
        self._whole = self.lengths + new_tokens
        try:
            yield
        finally:
            self._whole = None

    def alike(self, most: int) -> int:
        """Count the next tokens, ``most`` at most, that one call reads as calls for each of them would.

        All, but where rotations depend on the length of a text: there only those that rotate alike.
        """
        return most if self.text is None else self.text.alike(self.lengths, most)

    def advance(
        self, new_tokens: int, text: HeldText | None = None, images: Sequence[Images] | None = None
    ) -> None:
        """Count ``new_tokens`` more tokens in every row; the layers have already computed them.

        text    what the rows then hold, in a cache that keeps it
        images  of the rows' texts; None for none
        """
        lengths = self.lengths + new_tokens
        held = None if images is None else begun(images, lengths)
        self._next = lengths, text, held  # from this line on the call counts
        self._move()

    def commit(self, current: "Cache", ids: NDArray[np.integer], step: Step) -> None:
        """Hold what a finished call has computed, in one step.

        current  this cache, or another of the model in which rows were read again
        ids      (B, T) the call's tokens
        step     where they stand
        """
        text = current.text
        current.advance(step.length, None if text is None else text.extended(ids, step), step.images)
        self.become(current)

    def _move(self) -> None:
        """Go on to the next lengths, if any; every step may be repeated."""
        if self._next is not None:
            for state in self.states:
                state.commit()
            self._held = _Held(self.states, *self._next)
            self._next = None

    def become(self, other: "Cache") -> None:
        """Hold what another cache of this model holds, in one step; the other is used no more."""
        if other is not self:
            other._move()
            self._next = None
            self._held = other._held

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first ``length`` of each row; shorter rows stay as they are.

        Raises InputError where the state cannot be rewound: keep a ``copy`` of an earlier cache instead.
        """
        if not self.rewindable:
            raise InputError(
                "This model's state cannot be cut back to fewer tokens: a recurrence or a window has let "
                "go of the earlier ones. Keep a copy of the cache (cache.copy()) at the place to return to."
            )
        if length < 0:
            raise InputError(f"length = {length}, but a cache holds at least 0 tokens.")
        prefix = self._prefix_within(length)
        if prefix is not None:
            raise InputError(
                f"length = {length}, but the tokens {prefix.first} to {prefix.after - 1} were read as one "
                "prompt with images, whose tokens see one another: what they are without the others is not "
                "known. Keep a copy of the cache (cache.copy()) at the place to return to."
            )
        before = self.lengths
        self.lengths = np.minimum(before, length)
        for state in self.states:
            state.clear(self.lengths, before)

    def truncates_to(self, length: int) -> bool:
        """Say whether ``truncate(length)`` can be done."""
        return self.rewindable and length >= 0 and self._prefix_within(length) is None

    def _prefix_within(self, length: int) -> Group | None:
        """Return a prompt read as one that ``length`` tokens are a part of; None where they are of none."""
        for images, held in zip(self.images or (), self.lengths.tolist(), strict=False):
            group = group_within(groups_of(images), min(length, held))
            if group is not None and not is_of_images(images, group):
                return group
        return None

    def copy(self) -> "Cache":
        """Return a cache that holds the same and goes its own way from here."""
        return self.select(range(self.batch_size))

    def select(self, rows: Sequence[int]) -> "Cache":
        """Return a copy that holds these rows of the batch, in this order."""
        index = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[index]
        text = None if self.text is None else self.text.select(index)
        images = None if self.images is None else [self.images[i] for i in index.tolist()]
        return Cache([state.select(index) for state in self.states], lengths, self.fingerprint, text, images)

    def row(self, number: int) -> "Cache":
        """Return a copy that holds one row, and reads pieces of its text where this cache does."""
        row = self.select([number])
        row._whole = None if self._whole is None else self._whole[number : number + 1]
        return row

    def count(self, lengths: NDArray[np.int64], images: Sequence[Images]) -> None:
        """Count tokens that are read no further than the group of images in which they end.

        lengths  (B,) tokens of each row
        images   of the rows' texts
        """
        self._move()
        self._held = self._held._replace(lengths=lengths, images=begun(images, lengths))

    def save(self, path: str | Path) -> None:
        """Write it to a file, from which ``model.load_cache(path)`` of the same model makes it again.

        Raises CheckpointError where the file cannot be written.
        """
        write_states(Path(path), self.states, self.lengths, self.fingerprint(), self.text, self.images)


def join_caches(caches: Sequence[Cache]) -> Cache:
    """Put the rows of several caches of one model into one batch; each row keeps its own length.

    Raises InputError where there are none, or of models with different numbers of layers.
    """
    if not caches or len({len(cache.states) for cache in caches}) != 1:
        raise InputError("join_caches needs one or more caches of one model.")
    lengths = np.concatenate([cache.lengths for cache in caches])
    layers = zip(*(cache.states for cache in caches), strict=True)
    states = [type(layer[0]).join(list(layer)) for layer in layers]
    texts = [cache.text for cache in caches if cache.text is not None]
    text = HeldText.join(texts) if texts else None
    images = [row for cache in caches for row in cache.images or [()] * cache.batch_size]
    return Cache(states, lengths, caches[0].fingerprint, text, images)
