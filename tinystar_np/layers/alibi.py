"""ALiBi as a layer: what is added to scores by the positions of the keys, made once for a model's call."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Step
from tinystar_np.kernels.masks import Mask
from tinystar_np.layers.module import Module


class Alibi(Module):
    """Adds to scores by the keys' positions (kernels/alibi.py). Layers that share one share its arrays.

    bias  maps positions of keys (S,) to what is added to their scores (H, S)
    """

    def __init__(self, bias: Callable[[NDArray[np.integer]], NDArray[np.float32]]):
        self.bias = bias
        self._of_heads: dict[range, Alibi] = {}

    def of_heads(self, heads: range) -> "Alibi":
        """Return what some of the heads add; the same for all layers that have these."""
        if heads not in self._of_heads:
            self._of_heads[heads] = type(self)(
                lambda positions: self.bias(positions)[heads.start : heads.stop]
            )
        return self._of_heads[heads]

    def __call__(self, mask: Mask, step: Step) -> NDArray[np.float32]:
        """Return what is added: (H, S), or (B, H, S) where the positions of rows differ.

        mask  where the keys stand; layers that see equally far have the same keys
        """
        return step.once((self, mask.window, mask.chunk), lambda: self._made(mask.key_positions))

    def _made(self, positions: NDArray[np.integer]) -> NDArray[np.float32]:
        bias = self.bias(positions.ravel())
        return np.moveaxis(bias.reshape(-1, *positions.shape), 0, -2)
