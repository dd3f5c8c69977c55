"""The first layer of a vision encoder: every patch of an image becomes a vector."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.kernels.patches import patches, still_weight
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights


class PatchEmbedding(Module):
    """Linear map of the patches of an image, stored as a convolution that moves on by whole patches.

    w  ``weight`` (D, C, p, p), and in some models ``bias`` (D,)
    """

    def __init__(self, w: Weights):
        weight: NDArray = w["weight"]
        self.size: int = weight.shape[-1]
        self.weight = weight.reshape(len(weight), -1).T  # (C·p·p, D)
        self.bias: NDArray | None = w.get("bias")

    def __call__(self, images: NDArray[np.float32]) -> NDArray:
        """Map (n, C, h, w) to (n, h/p, w/p, D); what is left of a patch at the edges is cut off."""
        x = fast.matmul(patches(images, self.size), self.weight)
        if self.bias is not None:
            x += self.bias
        return x


class FilmPatchEmbedding(PatchEmbedding):
    """Linear map of the patches of a film, of which an image is one that stands still.

    w  ``weight`` (D, C, F, p, p) of F frames at once, and in some models ``bias`` (D,)
    """

    def __init__(self, w: Weights):
        weight: NDArray = w["weight"]
        self.size = weight.shape[-1]
        self.weight = still_weight(weight).T  # (C·p·p, D)
        self.bias = w.get("bias")
