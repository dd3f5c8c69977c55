"""Masks: which keys a query may attend to, given by their positions.

    key s is visible to query t    where  s ≤ t                   a decoder's future is hidden
                                   and    |t − s| < W             a window
                                   and    ⌊s / C⌋ = ⌊t / C⌋       chunks (kernels/chunked_attention.py)
                                   or     group(s) = group(t)     an image, or a prefix

**Causal.** With the future hidden a model can be trained on every position of a text at once, and generates
the same way. An encoder hides nothing and reads a text at once; to continue one, it would have to compute
every earlier token anew. Devlin et al. 2018, arXiv:1810.04805.

**Windows.** A token that attends only to the W tokens up to itself has a cost and a memory that do not grow
with the text; through L layers information still travels about L·W tokens. Beltagy et al. 2020,
arXiv:2004.05150. In an encoder the window reaches W − 1 tokens to either side.

**Groups.** Nothing in an image comes first, so its tokens may see each other in a text that is causal
otherwise (Gemma 3, arXiv:2503.19786). Or images and question are one group, the prefix of a causal answer
(Raffel et al. 2019, arXiv:1910.10683; PaliGemma, arXiv:2407.07726). A group is read in one call.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Mask(NamedTuple):
    """The positions of queries and keys, and which of these a query may attend to.

    query_positions   (T,), or (B, T) where the rows of a batch differ
    key_positions     (S,), or (B, S); a negative one is padding (it fills up short texts), hidden from all
    window            W, how many positions a query attends to, its own included; None for no limit
    chunk             C, the length of the chunks within which queries attend; None for no chunks
    causal            whether later keys are hidden
    query_groups      (T,), or (B, T): the group of each query, negative for none; None for no groups at all
    key_groups        (S,), or (B, S), likewise; a query attends to the keys of its group, whatever else holds
    groups_in_window  whether the window hides earlier keys of its group all the same, as in Gemma 3

    >>> print(visible(Mask(np.arange(4), np.arange(4), window=2)).astype(int))
    [[1 0 0 0]
     [1 1 0 0]
     [0 1 1 0]
     [0 0 1 1]]
    >>> image = np.array([-1, 0, 0, -1])  # the two tokens in the middle
    >>> print(visible(Mask(np.arange(4), np.arange(4), query_groups=image, key_groups=image)).astype(int))
    [[1 0 0 0]
     [1 1 1 0]
     [1 1 1 0]
     [1 1 1 1]]
    """

    query_positions: NDArray[np.integer]
    key_positions: NDArray[np.integer]
    window: int | None = None
    chunk: int | None = None
    causal: bool = True
    query_groups: NDArray[np.integer] | None = None
    key_groups: NDArray[np.integer] | None = None
    groups_in_window: bool = False


def visible(mask: Mask) -> NDArray[np.bool_]:
    """Return whether each query may attend to each key: (T, S), or (B, 1, T, S) where rows differ.

    >>> print(visible(Mask(np.arange(3), np.arange(3))).astype(int))
    [[1 0 0]
     [1 1 0]
     [1 1 1]]
    """
    t, s = mask.query_positions[..., :, None], mask.key_positions[..., None, :]
    shown = np.broadcast_to(s >= 0, np.broadcast_shapes(t.shape, s.shape))
    if mask.causal:
        shown = shown & (s <= t)
    if mask.window is not None:
        shown = shown & (np.abs(t - s) < mask.window)
    if mask.chunk is not None:
        shown = shown & (s // mask.chunk == t // mask.chunk)
    if mask.query_groups is not None and mask.key_groups is not None:
        own, others = mask.query_groups[..., :, None], mask.key_groups[..., None, :]
        together = (own == others) & (own >= 0) & (s >= 0)
        if mask.groups_in_window and mask.window is not None:
            together = together & (s > t - mask.window)
        shown = shown | together
    return shown if shown.ndim == 2 else shown[:, None]
