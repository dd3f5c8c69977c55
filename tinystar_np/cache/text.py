"""The text that a cache holds: kept for models whose rotations depend on the text's length.

LongRoPE and dynamic NTK rotate queries and keys at other frequencies as a text grows (kernels/rope.py). Then
the keys in a cache are wrong, and unrotated ones would be no better: what the first layer's attention gathers
changes, and with it the keys and values of every later layer. Only reading the earlier tokens again gives
what the model computes without a cache. So a cache of such a model keeps their ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.layer_state import check_fit
from tinystar_np.cache.step import Step


class LengthRule(Protocol):
    """How rotations depend on the length of a text."""

    def rotation_length(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lengths that count in place of these: texts for which they agree rotate alike."""


@dataclass(frozen=True)
class HeldText:
    """The token ids of each row of a cache, and the length of the text that each was read as a part of.

    rules         the model's, at least one
    ids           (B, n) with room for the longest row; what is beyond a row's own length counts for nothing
    text_lengths  (B,) by which the rotations of everything went that the row holds
    """

    rules: tuple[LengthRule, ...]
    ids: NDArray[np.int64]
    text_lengths: NDArray[np.int64]

    @classmethod
    def empty(cls, rules: tuple[LengthRule, ...], rows: int) -> Self:
        """Return that of ``rows`` rows without a token."""
        return cls(rules, np.zeros((rows, 0), dtype=np.int64), np.zeros(rows, dtype=np.int64))

    def arrays(self, tokens: int) -> dict[str, NDArray]:
        """Return what must be saved of rows that hold up to ``tokens`` tokens."""
        return {"ids": self.ids[:, :tokens], "text_lengths": self.text_lengths}

    def restored(self, arrays: Mapping[str, NDArray], lengths: NDArray[np.int64], vocabulary: int) -> Self:
        """Return it with what ``arrays`` returned, of rows that hold ``lengths`` (B,) tokens.

        Raises ValueError where it does not fit.
        """
        if not arrays:
            raise ValueError("it was saved without its tokens, which rotations by the length of a text need")
        long = np.dtype(np.int64)
        shape = len(lengths), int(lengths.max())
        check_fit(arrays, {"ids": (long, shape), "text_lengths": (long, lengths.shape)})
        ids, text_lengths = arrays["ids"].copy(), arrays["text_lengths"].copy()
        if ids.size and not 0 <= ids.min() <= ids.max() < vocabulary:
            raise ValueError(f"tokens outside the vocabulary, 0 to {vocabulary - 1}")
        if (text_lengths < lengths).any():
            raise ValueError(f"rows of {lengths} tokens read as parts of texts of {text_lengths}")
        return replace(self, ids=ids, text_lengths=text_lengths)

    def extended(self, ids: NDArray[np.integer], step: Step) -> Self:
        """Return it with the tokens (B, T) of a call, by whose text lengths all of a row now goes."""
        longer = np.zeros((len(ids), max(step.end, self.ids.shape[1])), dtype=np.int64)
        longer[:, : self.ids.shape[1]] = self.ids
        np.put_along_axis(longer, step.positions, ids, axis=1)
        return replace(self, ids=longer, text_lengths=step.text_lengths)

    def outdated(self, step: Step) -> NDArray[np.bool_]:
        """Say which rows (B,) hold tokens that rotate otherwise in the text that this step is a part of."""
        return (step.start > 0) & ~self._alike(self.text_lengths, step.text_lengths)

    def alike(self, lengths: NDArray[np.int64], most: int) -> int:
        """Count how many next tokens of all rows, ``most`` at most, rotate as the first of them does."""
        first = lengths[:, None] + 1
        same = self._alike(first, first + np.arange(most)).all(axis=0)
        return most if same.all() else int(same.argmin())

    def _alike(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        same = [rule.rotation_length(a) == rule.rotation_length(b) for rule in self.rules]
        return np.logical_and.reduce(same)

    def select(self, rows: NDArray[np.integer]) -> Self:
        """Return these rows, in this order."""
        return replace(self, ids=self.ids[rows], text_lengths=self.text_lengths[rows])

    @classmethod
    def join(cls, texts: Sequence[Self]) -> Self:
        """Put the rows of several into one batch."""
        room = max(text.ids.shape[1] for text in texts)
        ids = [np.pad(text.ids, ((0, 0), (0, room - text.ids.shape[1]))) for text in texts]
        lengths = np.concatenate([text.text_lengths for text in texts])
        return replace(texts[0], ids=np.concatenate(ids), text_lengths=lengths)
