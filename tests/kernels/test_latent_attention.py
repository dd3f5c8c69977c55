"""The two forms of latent attention against each other and against a loop over single scores."""

import tracemalloc

import numpy as np
import pytest
from masks import last_queries

from tinystar_np import fast
from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.blockwise_attention import QUERY_BLOCK, blockwise_attention
from tinystar_np.kernels.latent_attention import (
    absorbed,
    absorbed_latent_attention,
    absorbing_is_cheaper,
    expanded,
    latent_attention,
)

R, K, K_R, K_V = 16, 5, 4, 7


def random_arguments(*batch: int, heads: int, t: int, s: int, rope_dim: int = K_R) -> tuple[np.ndarray, ...]:
    """q, memory, up_k, up_v."""
    rng = np.random.default_rng(1000 * t + s + heads)
    shapes = (
        (*batch, heads, t, K + rope_dim),
        (*batch, 1, s, R + rope_dim),
        (heads, R, K),
        (heads, R, K_V),
    )
    q, memory, up_k, up_v = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
    return q, memory, 0.3 * up_k, 0.3 * up_v


def by_loops(
    q: np.ndarray, memory: np.ndarray, up_k: np.ndarray, up_v: np.ndarray, scale: float
) -> np.ndarray:
    """Causal latent attention of one row, one score at a time, in float64."""
    H, T, _ = q.shape
    S = memory.shape[1]
    q, up_k, up_v = (array.astype(np.float64) for array in (q, up_k, up_v))
    latents, turned = memory[0, :, :R].astype(np.float64), memory[0, :, R:].astype(np.float64)
    out = np.zeros((H, T, K_V))
    for h in range(H):
        for t in range(T):
            weights, values = [], []
            for s in range(S - T + t + 1):
                key, value = latents[s] @ up_k[h], latents[s] @ up_v[h]
                weights.append(np.exp(scale * (q[h, t, :K] @ key + q[h, t, K:] @ turned[s])))
                values.append(value)
            out[h, t] = np.array(weights) @ np.array(values) / sum(weights)
    return out


@pytest.mark.parametrize("form", [latent_attention, absorbed_latent_attention])
@pytest.mark.parametrize("rope_dim", [K_R, 0])
@pytest.mark.parametrize(("t", "s"), [(1, 1), (1, 7), (5, 5), (3, 9)])
def test_both_forms_give_the_definition(form: object, rope_dim: int, t: int, s: int) -> None:
    arguments = random_arguments(heads=3, t=t, s=s, rope_dim=rope_dim)
    found = form(*arguments, last_queries(t, s), scale=0.4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_loops(*arguments, 0.4), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("window", [None, 1, 40])
@pytest.mark.parametrize(("t", "s"), [(1, 300), (2, 700), (QUERY_BLOCK + 3, QUERY_BLOCK + 3), (200, 700)])
def test_expanded_is_absorbed(t: int, s: int, window: int | None) -> None:
    """With biases and windows, plainly and in blocks, in a batch."""
    arguments = random_arguments(2, heads=3, t=t, s=s)
    bias = np.random.default_rng(0).standard_normal((3, s), dtype=np.float32)
    mask = last_queries(t, s, window)
    expected = latent_attention(*arguments, mask, scale=0.4, bias=bias)
    assert np.abs(expected).max() > 0.5
    for form in (absorbed_latent_attention, fast.latent_attention):
        found = form(*arguments, mask, scale=0.4, bias=bias)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_what_each_form_attends_to() -> None:
    """All heads' keys and values in the one, one head's latents in the other: (H, ...) and (1, ...)."""
    q, memory, up_k, up_v = random_arguments(2, heads=3, t=4, s=9)
    keys, values = expanded(memory, up_k, up_v)
    assert (keys.shape, values.shape) == ((2, 3, 9, K + K_R), (2, 3, 9, K_V))
    np.testing.assert_array_equal(keys[:, 1, :, K:], memory[:, 0, :, R:])
    queries = absorbed(q, up_k)
    assert queries.shape == (2, 3, 4, R + K_R)
    np.testing.assert_array_equal(queries[..., R:], q[..., K:])
    np.testing.assert_allclose(queries @ memory.swapaxes(-1, -2), q @ keys.swapaxes(-1, -2), atol=1e-4)


@pytest.mark.parametrize("width", [1, 3, 20])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_blocks_when_values_are_not_as_wide_as_keys(width: int, groups: int) -> None:
    rng = np.random.default_rng(width)
    q = rng.standard_normal((2, 6, QUERY_BLOCK + 5, 8), dtype=np.float32)
    k = rng.standard_normal((2, groups, 600, 8), dtype=np.float32)
    v = rng.standard_normal((2, groups, 600, width), dtype=np.float32)
    expected = attention(q, k, v, last_queries(q.shape[2], 600), scale=0.3)
    found = blockwise_attention(q, k, v, scale=0.3)
    assert found.dtype == np.float32
    assert found.shape == (*q.shape[:-1], width)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-6)


def test_a_piece_of_a_long_text_builds_no_scores_and_no_keys() -> None:
    """Absorbed, in blocks: the queries, their means and the result, nothing as long as the text."""
    arguments = random_arguments(1, heads=8, t=8, s=8000)
    mask = last_queries(8, 8000)
    tracemalloc.start()
    fast.latent_attention(*arguments, mask, scale=1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # the scores would be 2 MB, keys and values 4 MB


def test_a_long_prompt_builds_no_square_of_scores() -> None:
    arguments = random_arguments(1, heads=4, t=3000, s=3000)
    mask = last_queries(3000, 3000)
    tracemalloc.start()
    fast.latent_attention(*arguments, mask, scale=1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    made = 4 * 3000 * (K + K_R + K_V + K_V) * 4  # keys, values, result
    assert peak < made + 4_000_000  # the scores of one head would be 36 MB


def multiplications(form: str, t: int, s: int, sizes: tuple[int, int, int, int]) -> int:
    """Count them product by product: (rows, inner) times (inner, columns)."""
    rank, plain, rotary, value = sizes
    if form == "expanded":
        products = [(s, rank, plain), (s, rank, value), (t, plain + rotary, s), (t, s, value)]
    else:
        products = [(t, plain, rank), (t, rank + rotary, s), (t, s, rank), (t, rank, value)]
    return sum(a * b * c for a, b, c in products)


@pytest.mark.parametrize("sizes", [(512, 128, 64, 128), (16, 5, 4, 7), (8, 16, 8, 16), (32, 8, 0, 8)])
def test_the_cheaper_form(sizes: tuple[int, int, int, int]) -> None:
    rank, plain, _, value = sizes
    up_k, up_v = np.broadcast_to(np.float32(0), (1, rank, plain)), np.zeros((1, rank, value))
    chosen = set()
    for s in (1, 2, 10, 100, 171, 172, 1000, 10**5):
        for t in (1, 2, 10, 11, 100, 170, 171, 172, 1000, 10**5):
            if t <= s:
                costs = {form: multiplications(form, t, s, sizes) for form in ("expanded", "absorbed")}
                absorbing = absorbing_is_cheaper(t, s, up_k, up_v)
                assert absorbing == (costs["absorbed"] <= costs["expanded"])
                chosen.add(absorbing)
    assert chosen == ({True} if 2 * rank <= plain + value else {True, False})


def test_where_the_forms_meet_in_deepseek_v2() -> None:
    up_k = up_v = np.broadcast_to(np.float32(0), (128, 512, 128))
    assert absorbing_is_cheaper(170, 10**7, up_k, up_v)
    assert not absorbing_is_cheaper(171, 10**7, up_k, up_v)
    assert not absorbing_is_cheaper(4096, 4096, up_k, up_v)
