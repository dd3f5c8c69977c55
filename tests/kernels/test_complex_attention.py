"""Complex attention: the definition by loops, and the real form that runs against the definition."""

import numpy as np
import pytest
from masks import last_queries

from tinystar_np import fast
from tinystar_np.kernels.attention import attention, attention_scores
from tinystar_np.kernels.blockwise_attention import blockwise_attention
from tinystar_np.kernels.complex_attention import (
    complex_attention,
    complex_numbers,
    complex_rotary_embedding,
    complex_scores,
    real_pairs,
)
from tinystar_np.kernels.rope import default_frequencies, rotary_angles


def random_complex(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    parts = rng.standard_normal((2, *shape), dtype=np.float32)
    return parts[0] + 1j * parts[1]


def random_qkv(heads: int, groups: int, t: int, s: int, width: int = 4) -> tuple[np.ndarray, ...]:
    v = np.random.default_rng(2).standard_normal((2, groups, s, width), dtype=np.float32)
    return random_complex(2, heads, t, width), random_complex(2, groups, s, width, seed=1), v


def test_definition() -> None:
    """One product of two complex numbers at a time, in float64, as |a| |b| cos(angle between)."""
    heads, groups, t, s = 4, 2, 3, 5
    q, k, v = random_qkv(heads, groups, t, s)
    found = complex_attention(q, k, v, last_queries(t, s), scale=0.3)
    assert found.dtype == np.float32
    for b, h, i in np.ndindex(2, heads, t):
        weights = []
        for j in range(s - t + i + 1):
            pairs = zip(q[b, h, i].astype(complex), k[b, h // 2, j].astype(complex), strict=True)
            score = sum(abs(x) * abs(y) * np.cos(np.angle(x) - np.angle(y)) for x, y in pairs)
            weights.append(np.exp(0.3 * score))
        mean = sum(w * v[b, h // 2, j].astype(float) for j, w in enumerate(weights)) / sum(weights)
        np.testing.assert_allclose(found[b, h, i], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize(("t", "before"), [(1, 9), (7, 0), (140, 500)])
def test_real_pairs_give_the_definition(heads: int, groups: int, t: int, before: int) -> None:
    s = before + t
    q, k, v = random_qkv(heads, groups, t, s)
    bias = np.random.default_rng(3).standard_normal((heads, s), dtype=np.float32)
    expected = complex_attention(q, k, v, last_queries(t, s), scale=0.4, bias=bias)
    plain = attention(real_pairs(q), real_pairs(k), v, last_queries(t, s), scale=0.4, bias=bias)
    blocks = blockwise_attention(real_pairs(q), real_pairs(k), v, scale=0.4, bias=bias)
    for found in (plain, blocks):
        assert found.dtype == np.float32
        assert found.shape == expected.shape == (2, heads, t, 4)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=5e-6)
    np.testing.assert_allclose(
        attention_scores(real_pairs(q), real_pairs(k), scale=0.4),
        complex_scores(q, k, 0.4),
        rtol=1e-4,
        atol=1e-5,
    )


def test_only_the_real_part_of_the_conjugate_product_counts() -> None:
    """Turning both by one angle changes nothing, turning one by a right angle leaves nothing."""
    q, k, _ = random_qkv(2, 2, 3, 3)
    scores = complex_scores(q, k, 1.0)
    turn = np.complex64(np.exp(0.7j))
    np.testing.assert_allclose(complex_scores(q * turn, k * turn, 1.0), scores, atol=1e-5)
    assert np.abs(complex_scores(q * turn, k, 1.0) - scores).max() > 0.1
    np.testing.assert_allclose(
        np.diagonal(complex_scores(q, q * np.complex64(1j), 1.0), 0, 2, 3), 0, atol=1e-5
    )


def test_rotary_embedding_is_a_product() -> None:
    """Against e^(iθ) by loops, and against the form that runs."""
    z = random_complex(2, 3, 5, 4)
    positions = np.array([0, 1, 7, 200, 3000])
    frequencies = default_frequencies(8, 100.0)
    turned = complex_rotary_embedding(z, positions, frequencies)
    assert turned.dtype == np.complex64
    for (b, h, t, j), number in np.ndenumerate(z):
        expected = complex(number) * np.exp(1j * float(np.float32(positions[t]) * frequencies[j]))
        assert abs(turned[b, h, t, j] - expected) < 1e-6 * abs(expected)
    angles = rotary_angles(positions, frequencies)
    running = fast.rotary_embedding(real_pairs(z), np.cos(angles), np.sin(angles), interleaved=True)
    np.testing.assert_allclose(complex_numbers(running), turned, rtol=1e-5, atol=1e-6)


def test_pairs_and_back() -> None:
    z = random_complex(2, 3, 5, 4)
    pairs = real_pairs(z)
    assert pairs.dtype == np.float32
    assert np.shares_memory(pairs, z)
    np.testing.assert_array_equal(pairs[..., 0::2], z.real)
    np.testing.assert_array_equal(pairs[..., 1::2], z.imag)
    np.testing.assert_array_equal(complex_numbers(pairs), z)
    across = z.transpose(0, 2, 1, 3)[..., ::2]
    np.testing.assert_array_equal(complex_numbers(real_pairs(across)), across)
