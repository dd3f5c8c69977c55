"""Masks as most tests need them."""

from collections.abc import Sequence

import numpy as np

from tinystar_np.kernels.masks import Mask


def last_queries(queries: int, keys: int, window: int | None = None, causal: bool = True) -> Mask:
    """Return the mask of T queries that stand at the last of S positions."""
    return Mask(np.arange(keys - queries, keys), np.arange(keys), window, causal=causal)


def with_groups(mask: Mask, runs: Sequence[tuple[int, int]], groups_in_window: bool = False) -> Mask:
    """Return the mask with one group for each run of positions, as images are: (first, count) each."""
    query_groups = np.full(mask.query_positions.shape, -1)
    key_groups = np.full(mask.key_positions.shape, -1)
    for group, (first, count) in enumerate(runs):
        query_groups[(mask.query_positions >= first) & (mask.query_positions < first + count)] = group
        key_groups[(mask.key_positions >= first) & (mask.key_positions < first + count)] = group
    return mask._replace(query_groups=query_groups, key_groups=key_groups, groups_in_window=groups_in_window)
