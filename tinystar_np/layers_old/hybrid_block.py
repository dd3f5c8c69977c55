"""A block in which attention and a recurrence read the stream side by side."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Span
from tinystar_np.cache.recurrent import HybridState
from tinystar_np.layers_old.blocks import FeedForwardLayer, Mixer, Norm
from tinystar_np.tap import tap

Multipliers = tuple[float, float]
"""What a mixer's input and its result are multiplied by."""


class HybridBlock:
    """Attention beside another mixer, then feed-forward, normed before and added after.

        h = norm(x)
        x = x + a' · attention(a · h) + m' · mixer(m · h)
        x = x + feed_forward(norm'(x))

    One norm feeds both mixers: attention looks single tokens up, however far back, the recurrence keeps what
    all of them amount to. Dong et al. 2024, arXiv:2411.13676.

    mixer_norm             norm
    attention              any mixer
    mixer                  another, with a state of its own
    attention_multipliers  a and a'
    mixer_multipliers      m and m'
    feed_forward_norm      norm'
    """

    def __init__(
        self,
        *,
        mixer_norm: Norm,
        attention: Mixer,
        mixer: Mixer,
        feed_forward_norm: Norm,
        feed_forward: FeedForwardLayer,
        attention_multipliers: Multipliers = (1.0, 1.0),
        mixer_multipliers: Multipliers = (1.0, 1.0),
    ):
        self.mixer_norm = mixer_norm
        self.attention = attention
        self.mixer = mixer
        self.feed_forward_norm = feed_forward_norm
        self.feed_forward = feed_forward
        self.attention_multipliers = attention_multipliers
        self.mixer_multipliers = mixer_multipliers

    def new_state(self, batch_size: int, capacity: int) -> HybridState:
        """Make the states that the two mixers keep between calls."""
        return HybridState(*(mixer.new_state(batch_size, capacity) for mixer in (self.attention, self.mixer)))

    def __call__(self, x: NDArray, span: Span, state: HybridState | None, last_only: bool = False) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D), or (B, 1, D)."""
        of_attention, of_mixer = (None, None) if state is None else state.states
        normed = tap("mixer_norm", self.mixer_norm(x))
        before, behind = (np.float32(factor) for factor in self.attention_multipliers)
        y = self.attention(normed * before, span, of_attention, last_only)
        y *= behind
        before, behind = (np.float32(factor) for factor in self.mixer_multipliers)
        z = self.mixer(normed * before, span, of_mixer, last_only)
        z *= behind
        y += z
        y = tap("mixers", y)
        y += x[:, -1:] if last_only else x  # in place, the branch is ours
        x = tap("residual_middle", y)
        y = self.feed_forward(tap("feed_forward_norm", self.feed_forward_norm(x)))
        y += x
        return tap("residual", y)
