"""Patches of bytes against loops over patches and bytes, written from the formulas."""

import numpy as np
import pytest

from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.byte_patches import (
    bytes_attend_to_patches,
    ends_of_patches,
    largest_of_patches,
    next_byte_entropy,
    patches_attend_to_bytes,
)

STARTS = np.array([0, 1, 4, 5, 12])
M = 15


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def borders() -> list[tuple[int, int]]:
    return list(zip(STARTS.tolist(), [*STARTS[1:].tolist(), M], strict=True))


def test_entropy() -> None:
    logits = normal(2, 3, 7)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(next_byte_entropy(logits), -(p * np.log(p)).sum(axis=-1), rtol=1e-5)
    assert next_byte_entropy(logits).dtype == np.float32


def test_the_first_byte_of_a_text_is_a_patch_and_no_other_is_one_by_its_place() -> None:
    entropy = np.zeros((2, 3), dtype=np.float32)
    positions = np.array([[0, 1, 2], [5, 6, 7]])
    assert ends_of_patches(entropy, positions, 1.0).tolist() == [[True, False, False], [False] * 3]
    assert not ends_of_patches(np.ones((1, 1)), np.array([[3]]), 1.0).any()  # more than θ


def test_largest() -> None:
    x = normal(M, 4)
    expected = [x[a:b].max(axis=0) for a, b in borders()]
    np.testing.assert_array_equal(largest_of_patches(x, STARTS), expected)


@pytest.mark.parametrize(("H", "G"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_patches_attend_to_their_bytes(H: int, G: int, queries: int, size: float) -> None:
    """Each patch by itself, with the kernel of all attention; large scores do not overflow."""
    q, k, v = size * normal(len(STARTS), queries, H, 6), normal(M, G, 6, seed=1), normal(M, G, 6, seed=2)
    found = patches_attend_to_bytes(q, k, v, STARTS, 0.4)
    assert found.dtype == np.float32
    for j, (a, b) in enumerate(borders()):
        heads = (x.swapaxes(0, 1) for x in (q[j], k[a:b], v[a:b]))
        expected = attention(*heads, None, scale=0.4).swapaxes(0, 1)
        np.testing.assert_allclose(found[j], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("H", "G"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("k_of_a_patch", [1, 3])
def test_bytes_attend_to_one_patch(H: int, G: int, k_of_a_patch: int) -> None:
    B, T, N = 2, 5, 4
    q = normal(B, T, H, 6)
    k, v = normal(B, N, k_of_a_patch, G, 6, seed=1), normal(B, N, k_of_a_patch, G, 6, seed=2)
    patch = np.random.default_rng(0).integers(0, N, (B, T))
    found = bytes_attend_to_patches(q, k, v, patch, 0.4)
    assert found.dtype == np.float32
    for b, t in np.ndindex(B, T):
        its_k, its_v = (x[b, patch[b, t]].swapaxes(0, 1) for x in (k, v))
        expected = attention(q[b, t][:, None], its_k, its_v, None, scale=0.4)[:, 0]
        np.testing.assert_allclose(found[b, t], expected, rtol=1e-5, atol=1e-6)
