"""Rotary position embedding (RoPE): rotate queries and keys by their positions, so that only distance counts.

A head's K numbers are taken in pairs, each pair as a point of the plane, or a complex number z. At position p
pair j is rotated by the angle p·f_j. The product of a query at p and a key at s then depends only on p − s:

    z' = z · exp(i p f_j)          Re( q' · conj(k') ) = Re( q · conj(k) · exp(i (p − s) f_j) )

The first pair rotates fastest, once in 2π tokens, and tells neighbours apart; the last rotates once in tens
of thousands and tells far from near. Nothing is learned. Su et al. 2021, arXiv:2104.09864.

    f_j = θ^(−2j/K)          θ = 10000 at first; models for longer texts have larger ones

Two layouts of the pairs are in use, and a checkpoint is trained for one of them:

    half-split    (x_0, x_J), (x_1, x_J+1), …     NeoX, Llama, Falcon and most others
    interleaved   (x_0, x_1), (x_2, x_3), …       the paper, GPT-J, Cohere, DeepSeek

J is the number of pairs: K/2, or fewer where only the first 2J numbers of a head are rotated and the others
stay as they are (GPT-J, NeoX, Phi: "partial" rotation).

The second half of the file is about the frequencies f: how a model is made to read texts longer than those
it was trained on. All rules are pure functions of numbers in a model's config, and follow transformers down
to the order of the float32 operations: at position 100 000 the last bit of a frequency makes a third of a
degree.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Float32s = NDArray[np.float32]


def rotary_angles(positions: NDArray[np.integer], frequencies: Float32s) -> Float32s:
    """Return the angle by which each pair is rotated at each position.

    positions    (..., T)
    frequencies  (J,), or (..., 1, J) where rows differ

    Returns (..., T, J), in float32 as in the models' training.

    >>> rotary_angles(np.arange(3), np.float32([1, 1 / 2])).tolist()
    [[0.0, 0.0], [1.0, 0.5], [2.0, 1.0]]
    """
    return positions.astype(np.float32)[..., None] * frequencies


def rotary_embedding(x: NDArray, cos: NDArray, sin: NDArray, interleaved: bool = False) -> NDArray:
    """Rotate the pairs of each vector by the angles of its position.

    x            (..., T, K)
    cos, sin     of the angles: (T, J), or anything that broadcasts to (..., T, J)
    interleaved  whether neighbours make a pair; otherwise x_j and x_J+j do

    Returns (..., T, K), a new array. Numbers from 2J on are copied.

    >>> angles = rotary_angles(np.arange(3), np.float32([np.pi / 3]))  # 60 degrees per token
    >>> rotary_embedding(np.array([[1.0, 0.0]] * 3), np.cos(angles), np.sin(angles)).round(3).tolist()
    [[1.0, 0.0], [0.5, 0.866], [-0.5, 0.866]]
    >>> x, cos, sin = np.array([[1.0, 2.0, 3.0, 4.0]]), np.zeros((1, 2)), np.ones((1, 2))  # 90 degrees
    >>> rotary_embedding(x, cos, sin).tolist(), rotary_embedding(x, cos, sin, interleaved=True).tolist()
    ([[-3.0, -4.0, 1.0, 2.0]], [[-2.0, 1.0, -4.0, 3.0]])
    """
    a, b = _pairs(x, cos.shape[-1], interleaved)
    y = x.copy()
    y_a, y_b = _pairs(y, cos.shape[-1], interleaved)
    y_a[...] = a * cos - b * sin  # the real and the imaginary part of (a + ib)(cos + i sin)
    y_b[...] = a * sin + b * cos
    return y


def _pairs(x: NDArray, pairs: int, interleaved: bool) -> tuple[NDArray, NDArray]:
    """Return the first and the second members of the pairs, as views: (..., J) each."""
    if interleaved:
        return x[..., 0 : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2]
    return x[..., :pairs], x[..., pairs : 2 * pairs]


def default_frequencies(rotary_dim: int, theta: float) -> Float32s:
    """Return each pair's frequency θ^(−2j/rotary_dim): (J,).

    rotary_dim  how many numbers of a head are rotated; an odd one is rounded up to a whole pair
    theta       θ, the base

    >>> print(default_frequencies(8, 10_000))
    [1.    0.1   0.01  0.001]
    """
    return np.float32(1) / _wavelengths(rotary_dim, theta)


def _wavelengths(rotary_dim: int, theta: float) -> Float32s:
    """Return θ^(2j/rotary_dim), the number of tokens in which pair j rotates by one radian: (J,)."""
    exponents = np.arange(0, rotary_dim, 2, dtype=np.float32) / np.float32(rotary_dim)
    # The power in float64, rounded once: NumPy's own in float32 often misses the last bit.
    return np.power(np.float64(np.float32(theta)), exponents.astype(np.float64)).astype(np.float32)


def linear_frequencies(rotary_dim: int, theta: float, factor: float) -> Float32s:
    """Rotate every pair ``factor`` times as slowly: positions are interpolated between those of the training.

    Chen et al. 2023, arXiv:2306.15595; kaiokendev 2023.

    >>> linear_frequencies(4, 16, factor=2).tolist()  # of 1 and 1/4
    [0.5, 0.125]
    """
    return default_frequencies(rotary_dim, theta) / np.float32(factor)


def dynamic_frequencies(
    rotary_dim: int, theta: float, factor: float, trained_length: int, length: int
) -> Float32s:
    """Raise θ with the length of the text ("dynamic NTK"): slow pairs rotate more slowly, fast ones hardly.

    factor          f: after n trained lengths the slowest pair rotates f·n − (f − 1) times as slowly
    trained_length  up to here nothing changes
    length          of the text so far, new tokens included

    Beyond the trained length each new token changes the keys of all earlier ones, so that the whole text must
    be read again for each. A cache saves nothing there.

    bloc97 and emozilla 2023; section 3 of Peng et al. 2023, arXiv:2309.00071.

    >>> dynamic_frequencies(4, 16, factor=1, trained_length=100, length=100).tolist()
    [1.0, 0.25]
    >>> dynamic_frequencies(4, 16, factor=1, trained_length=100, length=400).tolist()  # 1/4 of 1/4
    [1.0, 0.0625]
    """
    if length <= trained_length:
        return default_frequencies(rotary_dim, theta)
    stretch = np.float32(factor) * np.float32(length) / np.float32(trained_length) - np.float32(factor - 1)
    power = np.float32(float(stretch) ** (rotary_dim / (rotary_dim - 2)))
    return default_frequencies(rotary_dim, float(np.float32(theta) * power))


def yarn_frequencies(
    rotary_dim: int,
    theta: float,
    factor: float,
    trained_length: int,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    truncate: bool = True,
) -> Float32s:
    """Slow down slow pairs by ``factor``, keep fast ones, and blend between (YaRN).

    factor          new length over trained length
    trained_length  the length of the texts of the first training
    beta_fast       pairs that rotate this often over the trained length, or more, keep their frequency
    beta_slow       those that rotate this often, or less, are slowed down in full
    truncate        whether the two ends of the blend are moved outwards to whole pairs

    Peng et al. 2023, arXiv:2309.00071. ``yarn_attention_factor`` belongs to it.

    >>> slowed = yarn_frequencies(8, 10_000, factor=4, trained_length=1000)
    >>> print((slowed / default_frequencies(8, 10_000)).round(3))
    [1.   0.75 0.5  0.25]
    """
    wavelengths = _wavelengths(rotary_dim, theta)

    def pair_that_turns(times: float) -> float:
        return rotary_dim * math.log(trained_length / (times * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair_that_turns(beta_fast), pair_that_turns(beta_slow)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rotary_dim - 1)
    if first == last:
        last += 0.001  # a step instead of a division by zero
    ramp = (np.arange(rotary_dim // 2, dtype=np.float32) - np.float32(first)) / np.float32(last - first)
    kept = 1 - np.clip(ramp, 0, 1)
    stretched = np.float32(1) / (np.float32(factor) * wavelengths)
    return stretched * (1 - kept) + np.float32(1) / wavelengths * kept


def yarn_attention_factor(
    factor: float, mscale: float | None = None, mscale_all_dim: float | None = None
) -> float:
    """Return what YaRN multiplies queries and keys by, which sharpens attention over many keys.

    0.1 · ln(factor) + 1; DeepSeek multiplies the logarithm by ``mscale`` and divides two of these.

    >>> yarn_attention_factor(1), round(yarn_attention_factor(math.e), 6)
    (1.0, 1.1)
    """

    def of(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    return of(mscale) / of(mscale_all_dim) if mscale and mscale_all_dim else of(1)


def llama3_frequencies(
    rotary_dim: int,
    theta: float,
    factor: float,
    low_freq_factor: float,
    high_freq_factor: float,
    trained_length: int,
) -> Float32s:
    """Scale by wavelength: short waves stay, long ones slow down by ``factor``, those between are blended.

    low_freq_factor   waves that fit into the trained length fewer times than this slow down in full
    high_freq_factor  those that fit more times than this stay
    trained_length    the length of the texts of the first training

    Llama 3.1, Dubey et al. 2024, arXiv:2407.21783.

    >>> slowed = llama3_frequencies(8, 10_000, 4, low_freq_factor=1, high_freq_factor=4, trained_length=1571)
    >>> print((slowed / default_frequencies(8, 10_000)).round(3))  # pair 2: 2.5 waves, midway from 1 to 4
    [1.    1.    0.625 0.25 ]
    """
    frequencies = default_frequencies(rotary_dim, theta)
    waves = np.float32(1) / frequencies * np.float32(2 * math.pi)  # tokens for one whole rotation
    short = waves < np.float32(trained_length / high_freq_factor)
    long = waves > np.float32(trained_length / low_freq_factor)
    fits = np.float32(1) / waves * np.float32(trained_length)  # one over it first, as the reference rounds
    between = np.float32(high_freq_factor - low_freq_factor) or np.float32(1)  # in Llama 4 nothing is blended
    kept = (fits - np.float32(low_freq_factor)) / between
    stretched = frequencies / np.float32(factor)
    blended = (1 - kept) * frequencies / np.float32(factor) + kept * frequencies
    return np.where(short, frequencies, np.where(long, stretched, blended))


def longrope_frequencies(rotary_dim: int, theta: float, factors: Sequence[float]) -> Float32s:
    """Slow each pair down by a factor of its own, found by search (LongRoPE).

    factors  (J,), one for each pair; a model has two lists, for texts within and beyond the trained length

    Ding et al. 2024, arXiv:2402.13753. Phi-3. ``longrope_attention_factor`` belongs to it.

    >>> longrope_frequencies(4, 16, factors=[1, 2]).tolist()  # of 1 and 1/4
    [1.0, 0.125]
    """
    return np.float32(1) / (np.asarray(factors, dtype=np.float32) * _wavelengths(rotary_dim, theta))


def longrope_attention_factor(factor: float, trained_length: int) -> float:
    """Return what LongRoPE multiplies queries and keys by: √(1 + ln(factor) / ln(trained_length)).

    >>> round(longrope_attention_factor(2**9, trained_length=2**16), 6)  # √(1 + 9/16)
    1.25
    """
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(trained_length))


def proportional_frequencies(
    head_dim: int, theta: float, proportion: float = 1.0, factor: float = 1.0
) -> Float32s:
    """Rotate only the fastest pairs of a whole head; the others have frequency 0 and carry no position.

    proportion  the part of the pairs that is rotated

    Returns (K/2,): unlike in partial rotation, the pairs are spread over the whole head and its θ^(−2j/K).
    p-RoPE, Barbero et al. 2024, arXiv:2410.06205.

    >>> print(proportional_frequencies(8, 10_000, proportion=0.5))
    [1.  0.1 0.  0. ]
    """
    frequencies = default_frequencies(head_dim, theta)
    frequencies[int(proportion * head_dim // 2) :] = 0
    return frequencies / np.float32(factor)
