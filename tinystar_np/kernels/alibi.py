"""ALiBi, attention with linear biases: each score is lowered in proportion to the distance of query and key.

    score(t, s) = scale · q·k − m_h (t − s)

No position is added to the vectors and nothing is rotated. Each head h subtracts its slope m_h times the
distance: a head with a steep slope attends to the last few tokens, one with a flat slope to nearly the whole
text. Distances beyond those of the training continue the same line, so that the model can read longer texts.
Press, Smith & Lewis 2022, arXiv:2108.12409.

    m_h = 2^(−8h/H)          h = 1 … H, where H is a power of two: ½ to 1/256 for eight heads

For another H the paper's authors take the n slopes of the largest power of two below it and fill up with
the first, third, fifth … of the 2n slopes of the next, which lie between those.

A softmax does not change when one number is added to all scores of a query, and m_h t is such a number. So
m_h s, which depends on the key's position alone, gives the same weights as −m_h (t − s), and is one row for
all queries: ``alibi_bias``.

Falcon was trained with that row in bfloat16, eight significant bits, and its checkpoints expect the same
rounding. ``alibi_bias_in_bfloat16`` rounds where Falcon does: slopes, positions and products. From position
257 on several positions round to the same number, 64 of them near 10 000, and the bias becomes a staircase.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.bfloat16 import from_bfloat16, to_bfloat16


def alibi_slopes(heads: int) -> NDArray[np.float32]:
    """Return m_h for each head: (H,), falling; two falling runs for an H that is no power of two.

    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    >>> (1 / alibi_slopes(6)).tolist()  # between those of 4 heads lie those of 8
    [4.0, 16.0, 64.0, 256.0, 2.0, 8.0]
    """
    n = 2 ** (heads.bit_length() - 1)  # the largest power of two up to H
    slopes = [2 ** (-8 * h / n) for h in range(1, n + 1)]
    slopes += [2 ** (-8 * h / (2 * n)) for h in range(1, 2 * (heads - n), 2)]
    return np.array(slopes, dtype=np.float32)


def alibi_bias(slopes: NDArray[np.float32], positions: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return what is added to the scores of the keys at these positions: (H,), (S,) → (H, S).

    >>> alibi_bias(np.float32([1 / 2, 1 / 4]), np.arange(3)).tolist()
    [[0.0, 0.5, 1.0], [0.0, 0.25, 0.5]]
    """
    return slopes[:, None] * positions.astype(np.float32)


def alibi_bias_in_bfloat16(
    slopes: NDArray[np.float32], positions: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Return ``alibi_bias`` as it comes out in bfloat16: (H,), (S,) → (H, S), in float32 again.

    >>> alibi_bias_in_bfloat16(np.float32([1]), np.array([255, 256, 257, 258])).tolist()
    [[255.0, 256.0, 256.0, 258.0]]
    """
    positions_rounded = from_bfloat16(to_bfloat16(positions.astype(np.float32)))
    return from_bfloat16(to_bfloat16(from_bfloat16(to_bfloat16(slopes))[:, None] * positions_rounded))
