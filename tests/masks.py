"""Masks as most tests need them."""

import numpy as np

from tinystar_np.kernels.masks import Mask


def last_queries(queries: int, keys: int, window: int | None = None, causal: bool = True) -> Mask:
    """Return the mask of T queries that stand at the last of S positions."""
    return Mask(np.arange(keys - queries, keys), np.arange(keys), window, causal=causal)
