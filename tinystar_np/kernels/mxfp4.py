"""MXFP4: floats of 4 bits, 32 of which share a power of two.

    W = E2M1[q] · 2^(e − 127)         q: 4 bits of each weight; e: 8 bits of each 32 neighbours

A float of 4 bits has a sign, two bits of exponent and one of mantissa, E2M1, so there are eight sizes:

    code     0   1    2   3    4   5   6   7         codes 8 to 15: the same with a minus sign
    number   0   0.5  1   1.5  2   3   4   6

They lie closer together near 0, where most weights are. The scale is a bare exponent, E8M0: multiplying by
it loses nothing, so every weight is exact in bfloat16. 4.25 bits a weight. gpt-oss was trained so that its
experts, more than nine tenths of all its weights, are exact in this type.

Other weights are rounded, each to the nearest number, of two as near to that whose code is even. The exponent
is that of the block's largest weight, once this is rounded to one bit of mantissa itself:

    e = ⌊log2 round(max_i |W_i|)⌋ − 2 + 127        q_i = argmin_q |E2M1[q] − W_i / 2^(e − 127)|

So the largest is at least 3.5 and below 7 times the scale: 6 loses a seventh of it at most. The specification
names another rule, without the rounding, where it is up to 8 times. Measured on SmolLM2 135M, perplexity with
that rule is 28.5, with this one 24.4, and 17.6 in float32 (the first 2048 tokens of WikiText-2's test part).

Weights that are in this type already stay exactly what they are, though the exponent may change.

Open Compute Project, Microscaling Formats (MX) Specification 1.0, 2023 (section 6.3: its rule for rounding);
Rouhani et al. 2023, arXiv:2310.10537. The rule here is the compressed-tensors package's. Exponent 255 stands
for NaN.
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.codes import Code, spread

BLOCK = 32
"""Neighbouring weights that share an exponent."""
SIZES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E2M1 = Code(4, np.array([*SIZES, *(-size for size in SIZES)], np.float32))
"""Floats of 4 bits."""
E8M0 = Code(8, np.array([*(2.0 ** (e - 127) for e in range(255)), np.nan], np.float32))
"""Powers of two from 2⁻¹²⁷ to 2¹²⁷, the last code NaN."""


def dequantise(codes: NDArray[np.uint8], exponents: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the weights of codes and their blocks' exponents.

    codes      (..., in / 2), two to a byte, the first in the lower half
    exponents  (..., in / 32)

    Returns (..., in).

    >>> dequantise(np.uint8([[0x72] * 16]), np.uint8([[128]]))[0, :4].tolist()  # codes 2 and 7, times 2
    [2.0, 12.0, 2.0, 12.0]
    """
    numbers = E2M1.decode(codes)
    return numbers * spread(E8M0.decode(exponents), BLOCK, numbers.shape[-1])


SIZE_EXPONENT = 2  # of 4, the largest power of two among the sizes
LARGEST_EXPONENT = 252  # with which 6 is a number that float32 has
MIDDLES = (E2M1.numbers[:7] + E2M1.numbers[1:8]) / 2
MIDDLES[1::2] = np.nextafter(MIDDLES[1::2], np.float32(0))
"""As many of these are below a size as its code says. What is in the middle goes to the even code."""


def to_mxfp4(weight: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Round a matrix to MXFP4.

    weight  (out, in), in a multiple of 32

    Returns the codes (out, in / 2), two to a byte, the first in the lower half, and the exponents of blocks
    (out, in / 32). A block with an infinite weight, or none that is a number, becomes NaN.

    >>> codes, exponents = to_mxfp4(np.float32([[1, 2.4, 4.9, 6] * 8]))
    >>> exponents.tolist(), dequantise(codes, exponents)[0, :4].tolist()
    ([[127]], [1.0, 2.0, 4.0, 6.0])
    """
    rows, columns = weight.shape
    blocks = weight.reshape(rows, columns // BLOCK, BLOCK)
    largest = np.max(np.abs(blocks), axis=-1)
    mantissa, exponent = np.frexp(largest)  # largest = mantissa · 2^exponent, 0.5 ≤ mantissa < 1
    floor_of_log2 = exponent - 1 + (mantissa >= 0.875)
    exponents = np.clip(floor_of_log2 - SIZE_EXPONENT + 127, 0, LARGEST_EXPONENT)
    exponents[largest == 0] = 0
    exponents[~np.isfinite(largest)] = 255
    sizes = np.ldexp(np.abs(blocks), 127 - exponents[..., None]).reshape(rows, columns)
    codes = np.where(np.signbit(weight), np.uint8(8), np.uint8(0))
    for middle in MIDDLES:
        codes += sizes > middle
    return codes[:, ::2] | codes[:, 1::2] << np.uint8(4), exponents.astype(np.uint8)
