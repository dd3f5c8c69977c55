"""Masks: which keys a query may attend to, given by their positions.

    key s is visible to query t    where  s ≤ t                   a decoder's future is hidden
                                   and    |t − s| < W             a window
                                   and    ⌊s / C⌋ = ⌊t / C⌋       chunks (kernels/chunked_attention.py)

**Causal.** With the future hidden a model can be trained on every position of a text at once, and generates
the same way. An encoder hides nothing and reads a text at once; to continue one, it would have to compute
every earlier token anew. Devlin et al. 2018, arXiv:1810.04805.

**Windows.** A token that attends only to the W tokens up to itself has a cost and a memory that do not grow
with the text; through L layers information still travels about L·W tokens. Beltagy et al. 2020,
arXiv:2004.05150. In an encoder the window reaches W − 1 tokens to either side.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Mask(NamedTuple):
    """The positions of queries and keys, and which of these a query may attend to.

    query_positions  (T,), or (B, T) where the rows of a batch differ
    key_positions    (S,), or (B, S); a negative one marks a key hidden from every query, as padding is
    window           W, how many positions a query attends to, its own included; None for no limit
    chunk            C, the length of the chunks within which queries attend; None for no chunks
    causal           whether later keys are hidden
    """

    query_positions: NDArray[np.integer]
    key_positions: NDArray[np.integer]
    window: int | None = None
    chunk: int | None = None
    causal: bool = True


def visible(mask: Mask) -> NDArray[np.bool_]:
    """Return whether each query may attend to each key: (T, S), or (B, 1, T, S) where rows differ."""
    t, s = mask.query_positions[..., :, None], mask.key_positions[..., None, :]
    shown = np.broadcast_to(s >= 0, np.broadcast_shapes(t.shape, s.shape))
    if mask.causal:
        shown = shown & (s <= t)
    if mask.window is not None:
        shown = shown & (np.abs(t - s) < mask.window)
    if mask.chunk is not None:
        shown = shown & (s // mask.chunk == t // mask.chunk)
    return shown if shown.ndim == 2 else shown[:, None]
