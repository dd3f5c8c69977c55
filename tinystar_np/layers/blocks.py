"""Blocks: how attention, feed-forward and norms are wired to the residual stream."""

from collections.abc import Callable

from numpy.typing import NDArray

from tinystar_np.layers.attention import Attention
from tinystar_np.state import KeyValueState, Span
from tinystar_np.tap import tap

Norm = Callable[[NDArray], NDArray]


class SequentialBlock:
    """Attention, then feed-forward, each normed before and added after ("pre-norm").

        x = x + attention(norm(x))
        x = x + feed_forward(norm(x))

    The stream itself is never normed, so that what a layer writes reaches the end unchanged. GPT-2 moved the
    norms there from behind the additions, where Vaswani et al. had them; deep stacks train more easily so.
    """

    def __init__(
        self,
        *,
        attention_norm: Norm,
        attention: Attention,
        feed_forward_norm: Norm,
        feed_forward: Callable[[NDArray], NDArray],
    ):
        self.attention_norm = attention_norm
        self.attention = attention
        self.feed_forward_norm = feed_forward_norm
        self.feed_forward = feed_forward

    def new_state(self, batch_size: int, capacity: int) -> KeyValueState:
        """Make the state that this block keeps between calls."""
        return self.attention.new_state(batch_size, capacity)

    def __call__(
        self, x: NDArray, span: Span, state: KeyValueState | None, last_only: bool = False
    ) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D).

        With ``last_only`` the result is that of the last token alone, (B, 1, D): the rest of the last block's
        work would be thrown away.
        """
        y = self.attention(tap("attention_norm", self.attention_norm(x)), span, state, last_only)
        y += x[:, -1:] if last_only else x
        x = tap("residual_middle", y)
        y = self.feed_forward(tap("feed_forward_norm", self.feed_forward_norm(x)))
        y += x
        return tap("residual", y)
