"""Small matrices that multiply the same vectors, laid side by side (fast/layout.py)."""

from collections.abc import Mapping

import numpy as np

from tinystar_np.checkpoints.safetensors_file import let_go
from tinystar_np.fast import layout
from tinystar_np.kernels.linear import Matrix

TOGETHER = (("attention.q", "attention.k", "attention.v"), ("feed_forward.gate", "feed_forward.up"))
"""Layers of a block that read the same vectors."""


def side_by_side(weights: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """Lay matrices side by side where one product is faster than several.

    weights  {our name: array or matrix}

    Returns the same, some of the arrays in another place of memory; the file's memory of these is let go.
    """
    laid = dict(weights)
    for first, *others in TOGETHER:
        for name in [name for name in weights if name.endswith(f".{first}.weight")]:
            block = name.removesuffix(f"{first}.weight")
            names = [name, *(f"{block}{other}.weight" for other in others)]
            if not all(each in weights for each in names):
                continue
            before = [weights[each] for each in names]
            after = layout.side_by_side(before)
            for old, new in zip(before, after, strict=True):
                if new is not old and isinstance(old, np.ndarray):
                    let_go(old)
            laid |= zip(names, after, strict=True)
    return laid
