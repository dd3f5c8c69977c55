"""Rotary positions as a layer: the rotations of one model call, and queries and keys rotated by them."""

import sys
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import Step
from tinystar_np.kernels.rope import rotary_angles
from tinystar_np.layers.module import Module


class FrequenciesByLength(Module):
    """Frequencies that depend on the length of a text, its earlier tokens and its later ones alike.

    When the length changes, so does what the model makes of every earlier token. Such a model's cache keeps
    the text, and the model reads it again (models/base.py).

    rule      makes them from a length: (J,)
    shortest  texts up to this length rotate alike
    longest   and so do those from this length on
    """

    def __init__(
        self, rule: Callable[[int], NDArray[np.float32]], shortest: int = 0, longest: int = sys.maxsize
    ):
        self.rule = rule
        self.shortest = shortest
        self.longest = longest

    def rotation_length(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lengths that count in place of these."""
        return np.clip(lengths, self.shortest, self.longest)

    def __call__(self, length: int) -> NDArray[np.float32]:
        """Return the frequencies in a text of this length: (J,)."""
        return self.rule(min(max(length, self.shortest), self.longest))


Frequencies = NDArray[np.float32] | FrequenciesByLength
"""(J,), the same for every text or by its length."""


class Rotary(Module):
    """Rotates queries and keys by their positions. Layers that share one share its rotations of a call.

    frequencies       one per pair; 2J ≤ K, and numbers of a head from 2J on are left as they are
    attention_factor  what cosines and sines are multiplied by: yarn and longrope lengthen queries and keys
    interleaved       whether neighbours make a pair; otherwise x_j and x_J+j do
    rule              where the frequencies come from, for those who want to know

    Where frequencies depend on the length, each row of a batch has those of its own length, as if alone.
    """

    def __init__(
        self,
        frequencies: Frequencies,
        *,
        attention_factor: float = 1.0,
        interleaved: bool = False,
        rule: object = None,
    ):
        self.frequencies = frequencies
        self.rule = rule
        self.attention_factor = attention_factor
        self.interleaved = interleaved

    def __call__(self, x: NDArray, step: Step) -> NDArray:
        """Rotate queries or keys (B, H, T, K) of the step's T tokens: a new array."""
        cos, sin = step.once(self, lambda: self._rotations(step))
        return fast.rotary_embedding(x, cos, sin, self.interleaved)

    def _rotations(self, step: Step) -> tuple[NDArray, NDArray]:
        """Make cosines and sines: (T, J), or (B, 1, T, J) where rows stand at different positions."""
        positions = step.positions[0] if step.uniform else step.positions[:, None]  # (T,) or (B, 1, T)
        angles = rotary_angles(positions, self._frequencies(step))
        factor = np.float32(self.attention_factor)
        return np.cos(angles) * factor, np.sin(angles) * factor

    def _frequencies(self, step: Step) -> NDArray[np.float32]:
        """Return those of the call: (J,), or (B, 1, 1, J) where rows rotate differently."""
        if not isinstance(self.frequencies, FrequenciesByLength):
            return self.frequencies
        lengths = self.frequencies.rotation_length(step.text_lengths)
        if (lengths == lengths[0]).all():
            return self.frequencies(int(lengths[0]))
        return np.stack([self.frequencies(int(length)) for length in lengths])[:, None, None]


def rules_by_length(blocks: Iterable[object]) -> tuple[FrequenciesByLength, ...]:
    """Find the rules by which rotations in these blocks depend on the length of a text, each once."""
    parts = [part for block in blocks for part in (block, *getattr(block, "__dict__", {}).values())]
    ropes = [rope for part in parts if isinstance(rope := getattr(part, "rope", None), Rotary)]
    rules = [rope.frequencies for rope in ropes]
    return tuple({rule: None for rule in rules if isinstance(rule, FrequenciesByLength)})
