"""The indexer and both forms of sparse attention, against sentences of the definition in plain Python."""

import numpy as np
import pytest
from masks import last_queries

from tinystar_np.kernels.latent_attention import latent_attention
from tinystar_np.kernels.masks import Mask, visible
from tinystar_np.kernels.sparse_attention import (
    best_keys,
    gathered_latent_attention,
    index_scores,
    only_chosen,
    sparse_latent_attention,
)

J, WIDTH, H, R, K, K_R, K_V = 3, 4, 2, 8, 5, 2, 6


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def test_scores() -> None:
    q, keys, weights = normal(2, J, 5, WIDTH), normal(2, 1, 7, WIDTH), normal(2, J, 5)
    found = index_scores(q, keys, weights)
    for b, t, s in np.ndindex(2, 5, 7):
        expected = sum(weights[b, j, t] * max(0.0, float(q[b, j, t] @ keys[b, 0, s])) for j in range(J))
        np.testing.assert_allclose(found[b, t, s], expected, rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("k", [1, 3, 9])
@pytest.mark.parametrize("window", [None, 2])
def test_choice(k: int, window: int | None) -> None:
    scores, mask = normal(2, 4, 9), Mask(np.arange(5, 9), np.arange(9), window=window)
    for row, chosen in zip(scores, best_keys(scores, mask, k), strict=True):
        for t, shown in enumerate(visible(mask)):
            best = sorted(np.flatnonzero(shown), key=lambda s: -row[t, s])[:k]
            assert chosen[t].tolist() == best + [-1] * (k - len(best))


def test_the_earlier_of_equal_keys_is_chosen() -> None:
    mask = Mask(np.arange(6), np.arange(6))
    assert best_keys(np.zeros((1, 6, 6), np.float32), mask, 2)[0, 5].tolist() == [0, 1]


def test_rows_of_different_lengths() -> None:
    mask = Mask(np.array([[4], [1]]), np.arange(5))
    assert best_keys(np.arange(5.0)[None, None].repeat(2, 0), mask, 3)[:, 0].tolist() == [
        [4, 3, 2],
        [1, 0, -1],
    ]


@pytest.mark.parametrize("form", [sparse_latent_attention, gathered_latent_attention])
@pytest.mark.parametrize("t", [1, 6])
@pytest.mark.parametrize("k", [1, 4, 11])
def test_forms(form: type, t: int, k: int) -> None:
    """As if each query's text had its chosen tokens and no others."""
    S = 11
    q, memory = normal(2, H, t, K + K_R), normal(2, 1, S, R + K_R)
    up_k, up_v = normal(H, R, K), normal(H, R, K_V)
    mask = last_queries(t, S)
    chosen = best_keys(normal(2, t, S), mask, k)
    found = form(q, memory, up_k, up_v, mask, chosen, scale=0.3)
    assert found.dtype == np.float32
    for b, i in np.ndindex(2, t):
        some = chosen[b, i][chosen[b, i] >= 0]
        expected = latent_attention(q[b, :, i : i + 1], memory[b][:, some], up_k, up_v, None, scale=0.3)
        np.testing.assert_allclose(found[b, :, i : i + 1], expected, rtol=1e-4, atol=1e-5)


def test_only_chosen() -> None:
    found = only_chosen(np.array([[[0, 2], [1, -1]]]), 3)
    assert (found == 0)[0, 0].tolist() == [[True, False, True], [False, True, False]]
