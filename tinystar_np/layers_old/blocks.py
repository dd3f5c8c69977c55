"""Blocks: how attention, feed-forward and norms are wired to the residual stream.

    pre       x + f(norm(x))              SequentialBlock, ParallelBlock
    sandwich  x + norm'(f(norm(x)))       the same, given a norm behind each branch
    branch    x + norm'(f(x))             the same, given that and ``no_norm`` before
    post      norm(x + f(x))              PostNormBlock, ParallelPostNormBlock

Pre-norm leaves the stream itself alone: what a layer writes reaches the end unchanged, and deep stacks train
easily. The stream grows with depth, though, and later layers have ever less weight in it; the sandwich bounds
what each of them adds. Post-norm, the oldest, bounds the stream itself, and every norm rescales all that was
written before. Xiong et al. 2020, arXiv:2002.04745; Ding et al. 2021, arXiv:2105.13290.
"""

from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

from tinystar_np.cache import Span
from tinystar_np.tap import tap

Norm = Callable[[NDArray], NDArray]
FeedForwardLayer = Callable[[NDArray], NDArray]


def no_norm(x: NDArray) -> NDArray:
    """Pass x through, in place of a norm: the same array, not a copy."""
    return x


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

    GPT-2 moved the norms there from behind the additions, where Vaswani et al. had them.

    With norms behind the branches too, a "sandwich" (Gemma 2, arXiv:2408.00118):

        x = x + m · norm'(attention(norm(x)))
        x = x + m · norm'(feed_forward(norm(x)))

    attention               any mixer
    attention_post_norm     norm' of the first branch; None for nothing
    feed_forward_post_norm  norm' of the second; None for nothing
    residual_multiplier     m, 1 in most models
    """

    def __init__(
        self,
        *,
        attention_norm: Norm,
        attention: Mixer,
        feed_forward_norm: Norm,
        feed_forward: FeedForwardLayer,
        attention_post_norm: Norm | None = None,
        feed_forward_post_norm: Norm | None = None,
        residual_multiplier: float = 1.0,
    ):
        self.attention_norm = attention_norm
        self.attention = attention
        self.attention_post_norm = attention_post_norm
        self.feed_forward_norm = feed_forward_norm
        self.feed_forward = feed_forward
        self.feed_forward_post_norm = feed_forward_post_norm
        self.residual_multiplier = residual_multiplier
        self.norm_name = f"{attention.name}_norm"
        self.post_norm_name = f"{attention.name}_post_norm"

    def new_state(self, batch_size: int, capacity: int) -> Any:
        """Make the state that this block keeps between calls."""
        return self.attention.new_state(batch_size, capacity)

    def __call__(self, x: NDArray, span: Span, state: Any, last_only: bool = False) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D), or (B, 1, D)."""
        y = self.attention(tap(self.norm_name, self.attention_norm(x)), span, state, last_only)
        if self.attention_post_norm is not None:
            y = tap(self.post_norm_name, self.attention_post_norm(y))
        x = tap("residual_middle", self._added(y, x[:, -1:] if last_only else x))
        y = self.feed_forward(tap("feed_forward_norm", self.feed_forward_norm(x)))
        if self.feed_forward_post_norm is not None:
            y = tap("feed_forward_post_norm", self.feed_forward_post_norm(y))
        return tap("residual", self._added(y, x))

    def _added(self, y: NDArray, x: NDArray) -> NDArray:
        """Add a branch to the stream; in place, the branch is ours."""
        if self.residual_multiplier != 1:
            y *= y.dtype.type(self.residual_multiplier)
        y += x
        return y


class PostNormBlock:
    """Attention, then feed-forward, the stream normed behind each addition ("post-norm").

        x = norm(x + attention(x))
        x = norm(x + feed_forward(x))

    The transformer as it was first: Vaswani et al. 2017, GPT, BERT. What a block returns is normed, and
    no norm is needed behind the last one.

    attention               any mixer
    attention_post_norm     the norm behind the first addition
    feed_forward_post_norm  the norm behind the second
    """

    def __init__(
        self,
        *,
        attention: Mixer,
        attention_post_norm: Norm,
        feed_forward: FeedForwardLayer,
        feed_forward_post_norm: Norm,
    ):
        self.attention = attention
        self.attention_post_norm = attention_post_norm
        self.feed_forward = feed_forward
        self.feed_forward_post_norm = feed_forward_post_norm
        self.post_norm_name = f"{attention.name}_post_norm"

    def new_state(self, batch_size: int, capacity: int) -> Any:
        """Make the state that this block keeps between calls."""
        return self.attention.new_state(batch_size, capacity)

    def __call__(self, x: NDArray, span: Span, state: Any, last_only: bool = False) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D), or (B, 1, D)."""
        y = self.attention(x, span, state, last_only)
        y += x[:, -1:] if last_only else x
        x = tap("residual_middle", tap(self.post_norm_name, self.attention_post_norm(y)))
        y = self.feed_forward(x)
        y += x
        return tap("residual", tap("feed_forward_post_norm", self.feed_forward_post_norm(y)))


class ParallelBlock:
    """Attention and feed-forward side by side, both reading the stream as it was before the block.

        x = x + attention(norm(x)) + feed_forward(norm'(x))

    Neither waits for the other, so that large machines can compute them together; the loss in quality is
    small and vanishes with size. Wang & Komatsuzaki 2021 (GPT-J); Chowdhery et al. 2022, arXiv:2204.02311.

    With norms behind the branches, a sandwich:

        x = x + norm″(attention(norm(x))) + norm‴(feed_forward(norm'(x)))

    feed_forward_norm       norm'; None where one norm feeds both
    attention_post_norm     norm″; None for nothing
    feed_forward_post_norm  norm‴; None for nothing
    """

    def __init__(
        self,
        *,
        attention_norm: Norm,
        attention: Mixer,
        feed_forward_norm: Norm | None,
        feed_forward: FeedForwardLayer,
        attention_post_norm: Norm | None = None,
        feed_forward_post_norm: Norm | None = None,
    ):
        self.attention_norm = attention_norm
        self.attention = attention
        self.attention_post_norm = attention_post_norm
        self.feed_forward_norm = feed_forward_norm
        self.feed_forward = feed_forward
        self.feed_forward_post_norm = feed_forward_post_norm

    def new_state(self, batch_size: int, capacity: int) -> Any:
        """Make the state that this block keeps between calls."""
        return self.attention.new_state(batch_size, capacity)

    def __call__(self, x: NDArray, span: Span, state: Any, last_only: bool = False) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D), or (B, 1, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        y = self.attention(normed, span, state, last_only)
        if self.attention_post_norm is not None:
            y = tap("attention_post_norm", self.attention_post_norm(y))
        if last_only:
            x, normed = x[:, -1:], normed[:, -1:]
        if self.feed_forward_norm is not None:
            normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        z = self.feed_forward(normed)
        if self.feed_forward_post_norm is not None:
            z = tap("feed_forward_post_norm", self.feed_forward_post_norm(z))
        y += z
        y += x
        return tap("residual", y)


class ParallelPostNormBlock:
    """Attention and feed-forward side by side, the stream normed once behind both.

        x = norm(x + attention(x) + feed_forward(x))

    attention  any mixer
    post_norm  the norm
    """

    def __init__(self, *, attention: Mixer, feed_forward: FeedForwardLayer, post_norm: Norm):
        self.attention = attention
        self.feed_forward = feed_forward
        self.post_norm = post_norm

    def new_state(self, batch_size: int, capacity: int) -> Any:
        """Make the state that this block keeps between calls."""
        return self.attention.new_state(batch_size, capacity)

    def __call__(self, x: NDArray, span: Span, state: Any, last_only: bool = False) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D), or (B, 1, D)."""
        y = self.attention(x, span, state, last_only)
        if last_only:
            x = x[:, -1:]
        y += self.feed_forward(x)
        y += x
        return tap("residual", tap("post_norm", self.post_norm(y)))
