"""Masks: which keys a query may attend to, said by positions alone.

    key s is visible to query t    where  s ≤ t                   a decoder's future is hidden
                                   and    |t − s| < W             a window
                                   and    ⌊s / C⌋ = ⌊t / C⌋       chunks (kernels/chunked_attention.py)

**Causal.** With the future hidden a model can be trained on every position of a text at once, and generates
the same way. An encoder hides nothing and reads a text at once; it cannot continue one, since every earlier
token would have to be computed anew. Devlin et al. 2018, arXiv:1810.04805.

**Windows.** A token that sees only the W tokens up to itself has a cost and a memory that do not grow with
the text; through L layers news still travels L·W tokens. Beltagy et al. 2020, arXiv:2004.05150. In an
encoder the window reaches W − 1 tokens to either side.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Mask(NamedTuple):
    """Where queries and keys stand, and how far a query sees.

    query_positions  (T,), or (B, T) where the rows of a batch differ
    key_positions    (S,), or (B, S); a negative one stands for nothing, and no query sees it
    window           W, how many positions a query sees, its own included; None for no limit
    chunk            C, the length of the chunks beyond whose borders nobody sees; None for no chunks
    causal           whether later keys are hidden
    """

    query_positions: NDArray[np.integer]
    key_positions: NDArray[np.integer]
    window: int | None = None
    chunk: int | None = None
    causal: bool = True


def visible(mask: Mask) -> NDArray[np.bool_]:
    """Say which keys each query may attend to: (T, S), or (B, 1, T, S) where rows differ."""
    t, s = mask.query_positions[..., :, None], mask.key_positions[..., None, :]
    seen = np.broadcast_to(s >= 0, np.broadcast_shapes(t.shape, s.shape))
    if mask.causal:
        seen = seen & (s <= t)
    if mask.window is not None:
        seen = seen & (np.abs(t - s) < mask.window)
    if mask.chunk is not None:
        seen = seen & (s // mask.chunk == t // mask.chunk)
    return seen if seen.ndim == 2 else seen[:, None]
