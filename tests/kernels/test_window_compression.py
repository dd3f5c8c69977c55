"""Entries of windows, whole and from sums of pieces, against single numbers in plain Python."""

import numpy as np
import pytest

from tinystar_np.kernels.window_compression import (
    Sums,
    compressed,
    compressed_overlapping,
    means,
    merged,
    no_sums,
    sums_of,
)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize(("T", "m"), [(1, 1), (5, 1), (7, 3), (9, 3), (2, 4)])
def test_definition(T: int, m: int) -> None:
    values, gates, bias = normal(2, T, 6), 3 * normal(2, T, 6, seed=1), normal(m, 6)
    apart, overlapping = compressed(values, gates, bias), compressed_overlapping(values, gates, bias)
    assert apart.shape == (2, T // m, 6)
    assert overlapping.shape == (2, T // m, 3)
    assert apart.dtype == overlapping.dtype == np.float32
    for b, i, n in np.ndindex(2, T // m, 6):
        own = range(i * m, (i + 1) * m)
        weights = [np.exp(gates[b, t, n] + bias[t % m, n]) for t in own]
        expected = np.average([values[b, t, n] for t in own], weights=weights)
        np.testing.assert_allclose(apart[b, i, n], expected, rtol=1e-5, atol=1e-5)
        if n < 3:
            both = [(t, n) for t in range(max(i - 1, 0) * m, i * m)] + [(t, n + 3) for t in own]
            weights = [np.exp(gates[b, t, c] + bias[t % m, c]) for t, c in both]
            expected = np.average([values[b, t, c] for t, c in both], weights=weights)
            np.testing.assert_allclose(overlapping[b, i, n], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cuts", [[4], [1, 2, 3], [0, 6]])
def test_sums_of_pieces_are_those_of_the_window(cuts: list[int]) -> None:
    values, gates = normal(7, 5), 40 * normal(7, 5, seed=1)
    whole = no_sums(5)
    for piece in zip(np.split(values, cuts), np.split(gates, cuts), strict=True):
        whole = merged(whole, sums_of(*piece))
    expected = compressed(values[None], gates[None], np.zeros((7, 5), np.float32))[0, 0]
    np.testing.assert_allclose(means(whole), expected, rtol=1e-5, atol=1e-6)
    assert all(part.dtype == np.float32 for part in whole)


def test_no_token() -> None:
    none = sums_of(normal(3, 5), np.full((3, 5), -np.inf, np.float32))
    assert all(map(np.array_equal, none, no_sums(5)))
    assert not means(merged(none, no_sums(5))).any()
    one = sums_of(normal(1, 5), normal(1, 5))
    assert isinstance(one, Sums)
    np.testing.assert_array_equal(means(merged(none, one)), normal(1, 5)[0])
