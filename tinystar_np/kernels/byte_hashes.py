"""Hashes of byte n-grams: a table of vectors for groups of bytes, without a list of the groups.

    hash(b_1 … b_n) = (b_1 + b_2 p + b_3 p² + … + b_n pⁿ⁻¹  mod 2⁶⁴)  mod M

A byte says little by itself; the n bytes up to it say which part of which word it stands in. There are 256ⁿ
groups of n bytes, too many for a table, so a group is hashed to one of M rows. Groups that share a row share
its vector, and the model learns to live with that: common groups are few, and a byte has the vectors of
several n, of which some are its own.

The hash is a polynomial in a large prime p with the bytes as coefficients, as in the search of Karp & Rabin
1987. It is computed in 64 bits, and what overflows is lost, which is a remainder too: from p³ on the powers
of p ≈ 10⁹ are larger. The sum is read as a number with a sign, and the remainder by M is at least 0. Before
the text stand zeros.

Pagnoni et al. 2024 (Byte Latent Transformer), arXiv:2412.09871, section 3.2.1: n = 3 … 8.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

PRIMES = (
    *(1000000007, 5915587277, 1500450271, 3267000013, 5754853343, 4093082899),
    *(9576890767, 3628273133, 2860486313, 5463458053, 3367900313),
)
"""The primes of the published model's hash functions, in their order; further functions begin again."""


def byte_hashes(ids: NDArray[np.int64], length: int, prime: int, rows: int) -> NDArray[np.int64]:
    """Hash the group of bytes that ends at each byte.

    ids     (B, n − 1 + T), the bytes, after the n − 1 that come before them (0 before the text)
    length  n
    prime   p
    rows    M

    Returns (B, T), each at least 0 and below M.

    >>> byte_hashes(np.array([[0, 0, 1, 2, 3]]), 3, 10, 1000).tolist()  # the last byte has the largest power
    [[100, 210, 321]]
    """
    powers = np.ones(length, dtype=np.int64)
    powers[1:] = np.cumprod(np.full(length - 1, prime, dtype=np.int64))
    groups = sliding_window_view(ids, length, axis=1)  # (B, T, n)
    hashes: NDArray[np.int64] = (groups * powers).sum(axis=-1) % rows
    return hashes
