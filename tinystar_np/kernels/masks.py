# ruff: noqa
from typing import NamedTuple

import numpy as np


class Mask(NamedTuple):
    query_positions: object
    key_positions: object
    window: object = None
    chunk: object = None
    causal: bool = True


def visible(mask):
    q, k = mask.query_positions, mask.key_positions
    if q.ndim == 2 or k.ndim == 2:
        q, k = np.atleast_2d(q), np.atleast_2d(k)
        d = q[:, :, None] - k[:, None, :]
        seen = k[:, None, :] >= 0
        qq = q[:, :, None]
        kk = k[:, None]
    else:
        d = q[:, None] - k[None]
        seen = (k >= 0)[None]
        qq = q[:, None]
        kk = k[None]
    seen = seen & (d >= 0) if mask.causal else seen
    if mask.window is not None:
        seen = seen & (abs(d) < mask.window)
    if mask.chunk is not None:
        seen = seen & (qq // mask.chunk == kk // mask.chunk)
    return seen[:, None] if seen.ndim == 3 else seen
