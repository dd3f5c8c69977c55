"""Blocks: how attention, feed-forward and norms are wired to the residual stream."""

from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

from tinystar_np.state import Span
from tinystar_np.tap import tap

Norm = Callable[[NDArray], NDArray]
FeedForwardLayer = Callable[[NDArray], NDArray]


class Mixer(Protocol):
    """What lets tokens hear of each other: attention, or a recurrence. All else sees each token by itself."""

    name: str
    """What its taps begin with: ``attention`` or ``mixer``."""

    def new_state(self, batch_size: int, capacity: int) -> Any:
        """Make an empty state, of the kind that this layer takes."""

    def __call__(self, x: NDArray, span: Span, state: Any, last_only: bool = False) -> NDArray:
        """Map (B, T, D) to a new array (B, T, D), or (B, 1, D) with ``last_only``."""


class Block(Protocol):
    """What a model asks of its blocks."""

    def new_state(self, batch_size: int, capacity: int) -> Any:
        """Make the state that this block keeps between calls."""

    def __call__(self, x: NDArray, span: Span, state: Any, last_only: bool = False) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D).

        With ``last_only`` the result is that of the last token alone, (B, 1, D): the rest of the last block's
        work would be thrown away.
        """


class SequentialBlock:
    """Attention, then feed-forward, each normed before and added after ("pre-norm").

        x = x + m · attention(norm(x))
        x = x + m · feed_forward(norm(x))

    The stream itself is never normed, so that what a layer writes reaches the end unchanged. GPT-2 moved the
    norms there from behind the additions, where Vaswani et al. had them; deep stacks train more easily so.

    attention            any mixer
    residual_multiplier  m, 1 in most models
    """

    def __init__(
        self,
        *,
        attention_norm: Norm,
        attention: Mixer,
        feed_forward_norm: Norm,
        feed_forward: FeedForwardLayer,
        residual_multiplier: float = 1.0,
    ):
        self.attention_norm = attention_norm
        self.attention = attention
        self.feed_forward_norm = feed_forward_norm
        self.feed_forward = feed_forward
        self.residual_multiplier = residual_multiplier
        self.norm_name = f"{attention.name}_norm"

    def new_state(self, batch_size: int, capacity: int) -> Any:
        """Make the state that this block keeps between calls."""
        return self.attention.new_state(batch_size, capacity)

    def __call__(self, x: NDArray, span: Span, state: Any, last_only: bool = False) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D), or (B, 1, D)."""
        y = self.attention(tap(self.norm_name, self.attention_norm(x)), span, state, last_only)
        x = tap("residual_middle", self._added(y, x[:, -1:] if last_only else x))
        y = self.feed_forward(tap("feed_forward_norm", self.feed_forward_norm(x)))
        return tap("residual", self._added(y, x))

    def _added(self, y: NDArray, x: NDArray) -> NDArray:
        """Add a branch to the stream; in place, the branch is ours."""
        if self.residual_multiplier != 1:
            y *= y.dtype.type(self.residual_multiplier)
        y += x
        return y


class ParallelBlock:
    """Attention and feed-forward side by side, both reading the stream as it was before the block.

        x = x + attention(norm(x)) + feed_forward(norm'(x))

    Neither waits for the other, so that large machines can compute them together; the loss in quality is
    small and vanishes with size. Wang & Komatsuzaki 2021 (GPT-J); Chowdhery et al. 2022, arXiv:2204.02311.

    feed_forward_norm  norm'; None where one norm feeds both
    """

    def __init__(
        self,
        *,
        attention_norm: Norm,
        attention: Mixer,
        feed_forward_norm: Norm | None,
        feed_forward: FeedForwardLayer,
    ):
        self.attention_norm = attention_norm
        self.attention = attention
        self.feed_forward_norm = feed_forward_norm
        self.feed_forward = feed_forward

    def new_state(self, batch_size: int, capacity: int) -> Any:
        """Make the state that this block keeps between calls."""
        return self.attention.new_state(batch_size, capacity)

    def __call__(self, x: NDArray, span: Span, state: Any, last_only: bool = False) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D), or (B, 1, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        y = self.attention(normed, span, state, last_only)
        if last_only:
            x, normed = x[:, -1:], normed[:, -1:]
        if self.feed_forward_norm is not None:
            normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        y += self.feed_forward(normed)
        y += x
        return tap("residual", y)
