"""NaN and infinity among stored weights: what a training that went wrong, or a damaged disk, leaves behind.

In all floating types a number whose exponent is all ones is none: with an empty mantissa it is an infinity,
else NaN ("not a number").

    bfloat16   s 11111111 0000000   infinite
               s 11111111 xxxxxxx   NaN

One of them is enough to make every logit NaN. They are looked for when asked, not when a model is loaded:
that reads nothing, and this reads all.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.element_types import WEIGHT_TYPES

BLOCK = 1 << 20  # numbers looked at together: all the memory that it takes


class NotFinite(NamedTuple):
    """How many numbers of a tensor are none."""

    nan: int
    infinite: int


def count_not_finite(checkpoint: Checkpoint, name: str) -> NotFinite:
    """Read a tensor and count what is not finite in it.

    Returns zeros for a type that has only finite numbers. Raises CheckpointError for one that cannot be read.
    """
    element_type = checkpoint.element_type(name)
    blocks = checkpoint.blocks(name, BLOCK)
    if element_type not in WEIGHT_TYPES:
        return NotFinite(0, 0)
    counts = [_count(block, element_type) for block in blocks]
    return NotFinite(sum(count.nan for count in counts), sum(count.infinite for count in counts))


def _count(block: NDArray[Any], element_type: str) -> NotFinite:
    if element_type == "BF16":
        exponents = block & 0x7F80
        odd = block[exponents == 0x7F80]
        nan = np.count_nonzero(odd & 0x7F)
    else:
        odd = block[~np.isfinite(block)]
        nan = np.count_nonzero(np.isnan(odd))
    return NotFinite(int(nan), int(odd.size - nan))
