"""A block with one branch: norm, mixer, and nothing else."""

from typing import Any

from numpy.typing import NDArray

from tinystar_np.cache import Span
from tinystar_np.layers_old.blocks import Mixer, Norm
from tinystar_np.tap import tap


class MixerBlock:
    """A mixer, normed before and added after, without a feed-forward layer.

        x = x + mixer(norm(x))

    The mixers of Mamba widen, gate and narrow by themselves, which is what a feed-forward layer is for.
    """

    def __init__(self, *, mixer_norm: Norm, mixer: Mixer):
        self.mixer_norm = mixer_norm
        self.mixer = mixer

    def new_state(self, batch_size: int, capacity: int) -> Any:
        """Make the state that this block keeps between calls."""
        return self.mixer.new_state(batch_size, capacity)

    def __call__(self, x: NDArray, span: Span, state: Any, last_only: bool = False) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D), or (B, 1, D)."""
        y = self.mixer(tap(f"{self.mixer.name}_norm", self.mixer_norm(x)), span, state, last_only)
        y += x[:, -1:] if last_only else x  # in place, the branch is ours
        return tap("residual", y)
