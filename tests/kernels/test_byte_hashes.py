"""Hashes of groups of bytes against Python's whole numbers, which do not overflow."""

import numpy as np
import pytest

from tinystar_np.kernels.byte_hashes import PRIMES, byte_hashes


def by_hand(group: list[int], prime: int, rows: int) -> int:
    total = sum(byte * prime**power for power, byte in enumerate(group)) % 2**64
    signed = total - 2**64 if total >= 2**63 else total
    return signed % rows


@pytest.mark.parametrize("prime", PRIMES)
@pytest.mark.parametrize("length", [1, 3, 8])
def test_against_whole_numbers(length: int, prime: int) -> None:
    ids = np.random.default_rng(length).integers(0, 260, (2, length - 1 + 20))
    found = byte_hashes(ids, length, prime, 500002)
    expected = [[by_hand(row[t : t + length], prime, 500002) for t in range(20)] for row in ids.tolist()]
    assert found.tolist() == expected


def test_some_sums_overflow_and_are_negative() -> None:
    """So the remainder of a number with a sign is tried above."""
    ids = np.random.default_rng(0).integers(0, 260, (1, 50))
    sums = [sum(b * PRIMES[0] ** n for n, b in enumerate(ids[0, t : t + 8].tolist())) for t in range(43)]
    assert any(total % 2**64 >= 2**63 for total in sums)
