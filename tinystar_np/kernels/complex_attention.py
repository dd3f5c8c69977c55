"""Complex attention: attention whose queries and keys are complex, scored by the real part of their product.

    score(t, s) = scale · Re( Σ_j q_tj · conj(k_sj) )          q_t, k_s ∈ ℂ^K

Each term is |q| |k| cos(φ_q − φ_k): large where both numbers have the same direction, 0 where they are at
right angles. A position rotates number j by the angle p f_j, and the conjugate leaves only the difference of
two rotations:

    z' = z · exp(i p f_j)          q'_t · conj(k'_s) = q_t · conj(k_s) · exp(i (t − s) f_j)

That is rotary embedding as its authors derive it, without a layout of pairs to agree on. Su et al. 2021,
arXiv:2104.09864; scores as the real part of a Hermitian product: Trouillon et al. 2016, arXiv:1606.06357.

Values stay real: attention weights are real, so a complex value would be nothing but a real one of twice the
width. The cache holds 2K numbers of a token's key and K of its value.

``complex_rotary_embedding``, ``complex_scores`` and ``complex_attention`` are the definition. A product of
complex matrices costs as much as four of real ones, and two of them make the imaginary part, which is thrown
away. With the real and the imaginary part of each number stored side by side,

    Re( q · conj(k) ) = Re q · Re k + Im q · Im k

is the ordinary product of two real vectors of 2K numbers. So complex attention is real attention, in any of
its forms, on ``real_pairs(q)``, ``real_pairs(k)`` and v, rotated as interleaved pairs (kernels/rope.py).
"""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.attention import attention_mean, attention_probabilities
from tinystar_np.kernels.masks import Mask

ComplexArray = NDArray[np.complexfloating]


def complex_rotary_embedding(
    z: ComplexArray, positions: NDArray[np.integer], frequencies: NDArray[np.floating]
) -> ComplexArray:
    """Rotate each number by its position: z · exp(i p f).

    z            (..., T, K) complex
    positions    (T,), or anything that broadcasts to (..., T)
    frequencies  f, (K,): radians per token

    Returns (..., T, K) complex.

    >>> z, right_angle = np.array([[1 + 0j], [1 + 0j]]), np.array([np.pi / 2])
    >>> complex_rotary_embedding(z, np.array([0, 1]), right_angle).round(6).tolist()
    [[(1+0j)], [1j]]
    """
    angles = positions[..., None].astype(frequencies.dtype) * frequencies
    return z * np.exp(1j * angles).astype(z.dtype)


def complex_scores(q: ComplexArray, k: ComplexArray, scale: float) -> NDArray:
    """Return scale · Re(q kᴴ): (..., H, T, K), (..., G, S, K) → (..., H, T, S), real.

    >>> complex_scores(np.array([[[2j]]]), np.array([[[3j], [3 + 0j]]]), scale=0.5).tolist()
    [[[3.0, 0.0]]]
    """
    k = np.repeat(k, q.shape[-3] // k.shape[-3], axis=-3)
    return (q @ k.conj().swapaxes(-1, -2)).real * q.real.dtype.type(scale)


def complex_attention(
    q: ComplexArray,
    k: ComplexArray,
    v: NDArray,
    mask: Mask | None,
    *,
    scale: float,
    bias: NDArray | None = None,
) -> NDArray:
    """Compute attention whose scores are the real parts of complex products.

    q      (..., H, T, K) complex
    k      (..., G, S, K) complex, where G divides H; queries of neighbouring heads share a group
    v      (..., G, S, K) real, of any width
    mask   which keys each query may attend to; None for all
    scale  what the real parts are multiplied by
    bias   added to the scaled scores: (H, S), for every query alike; None for nothing

    Returns (..., H, T, K) real, as wide as the values.

    >>> q, k = np.array([[[1 + 0j]]]), np.array([[[1j], [-1j]]])  # both at right angles to q: equal weights
    >>> complex_attention(q, k, np.array([[[0.0], [4.0]]]), None, scale=1.0).tolist()
    [[[2.0]]]
    """
    scores = complex_scores(q, k, scale)
    if bias is not None:
        scores += bias[:, None]
    return attention_mean(attention_probabilities(scores, mask), v)


def real_pairs(z: ComplexArray) -> NDArray:
    """See complex numbers as pairs of real ones: (..., K) complex → (..., 2K), a view where contiguous.

    >>> real_pairs(np.array([1 + 2j, 3 + 4j])).tolist()
    [1.0, 2.0, 3.0, 4.0]
    """
    return np.ascontiguousarray(z).view(z.real.dtype)


def complex_numbers(pairs: NDArray) -> ComplexArray:
    """See pairs of neighbours as complex numbers: (..., 2K) → (..., K) complex, a view where contiguous.

    >>> complex_numbers(np.array([1.0, 2.0, 3.0, 4.0])).tolist()
    [(1+2j), (3+4j)]
    """
    return np.ascontiguousarray(pairs).view(np.result_type(pairs.dtype, np.complex64))
