"""Paged attention against a loop over single scores, and what rows of a pool do not depend on."""

import numpy as np
import pytest

from tinystar_np.kernels.latent_attention import expanded
from tinystar_np.kernels.paged_attention import (
    Paged,
    gathered,
    paged_attention,
    paged_latent_attention,
)

H, G, K, K_V, SIZE = 4, 2, 5, 3, 4
LENGTHS = np.array([1, 4, 11, 9])
TABLES = np.array([[7, 0, 0], [2, 0, 0], [5, 1, 6], [5, 1, 3]])  # the last two rows share two blocks


def random_arguments(queries: int) -> tuple[np.ndarray, Paged, Paged]:
    """q, k, v."""
    rng = np.random.default_rng(queries)
    q = rng.standard_normal((len(TABLES), H, queries, K))
    pools = (rng.standard_normal((G, 8 * SIZE, width)) for width in (K, K_V))
    k, v = (Paged(pool, TABLES, LENGTHS, SIZE) for pool in pools)
    return q, k, v


def place(b: int, t: int) -> int:
    return int(TABLES[b, t // SIZE]) * SIZE + t % SIZE


def by_loops(
    q: np.ndarray,
    k: Paged,
    v: Paged,
    scale: float,
    window: int | None = None,
    chunk: int | None = None,
    bias: np.ndarray | None = None,
    sinks: np.ndarray | None = None,
) -> np.ndarray:
    """Attention, one score at a time; a bias is (B, H, S)."""
    out = np.zeros((*q.shape[:3], K_V))
    for b, h, i in np.ndindex(q.shape[:3]):
        t, g = LENGTHS[b] - q.shape[2] + i, h // (H // G)
        total = 0.0 if sinks is None else np.exp(sinks[h])
        for s in range(t + 1):
            if (window is None or t - s < window) and (chunk is None or s // chunk == t // chunk):
                score = scale * (q[b, h, i] @ k.pool[g, place(b, s)])
                weight = np.exp(score + (0 if bias is None else bias[b, h, s]))
                out[b, h, i] += weight * v.pool[g, place(b, s)]
                total += weight
        out[b, h, i] /= total
    return out


def test_gathered_rows_are_in_the_order_of_their_tokens() -> None:
    _, k, _ = random_arguments(1)
    keys = gathered(k)
    assert keys.shape == (4, G, 11, K)
    for b, length in enumerate(LENGTHS):
        for t in range(11):
            expected = k.pool[:, place(b, t)] if t < length else 0
            np.testing.assert_array_equal(keys[b, :, t], np.broadcast_to(expected, (G, K)))
    np.testing.assert_array_equal(gathered(k, first=6), keys[:, :, 6:])


@pytest.mark.parametrize("limits", [{}, {"window": 3}, {"chunk": 4}, {"window": 2, "chunk": 3}])
def test_is_the_definition(limits: dict[str, int]) -> None:
    q, k, v = random_arguments(1)
    found = paged_attention(q, k, v, scale=0.4, **limits)
    np.testing.assert_allclose(found, by_loops(q, k, v, 0.4, **limits), rtol=1e-12)


def test_biases_and_sinks() -> None:
    q, k, v = random_arguments(1)
    rng = np.random.default_rng(0)
    bias, sinks = rng.standard_normal((4, H, 11)), rng.standard_normal(H)
    expected = by_loops(q, k, v, 0.4, bias=bias, sinks=sinks)
    for given in (bias, bias[:, :, None]):
        found = paged_attention(q, k, v, scale=0.4, bias=given, sinks=sinks)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    expected = by_loops(q, k, v, 0.4, bias=np.broadcast_to(bias[0], bias.shape))
    for given in (bias[0], bias[:1]):
        np.testing.assert_allclose(paged_attention(q, k, v, scale=0.4, bias=given), expected, rtol=1e-12)


def test_several_queries_are_the_last_tokens_of_their_row() -> None:
    several, k, v = random_arguments(3)
    longer = slice(1, None)  # the first row has one token
    k, v = (held._replace(tables=TABLES[longer], lengths=LENGTHS[longer]) for held in (k, v))
    found = paged_attention(several[longer], k, v, scale=0.4, window=5)
    for back in range(3):
        lengths = LENGTHS[longer] - back
        one = several[longer, :, 2 - back : 3 - back]
        alone = paged_attention(
            one, k._replace(lengths=lengths), v._replace(lengths=lengths), scale=0.4, window=5
        )
        np.testing.assert_allclose(found[:, :, 2 - back : 3 - back], alone, rtol=1e-12)


def test_other_places_of_the_pool_do_not_count() -> None:
    q, k, v = random_arguments(1)
    expected = paged_attention(q, k, v, scale=0.4)
    held = {place(b, t) for b, length in enumerate(LENGTHS) for t in range(length)}
    others = [p for p in range(8 * SIZE) if p not in held]
    assert others
    for pool in (k.pool, v.pool):
        pool[:, others] = np.nan
    np.testing.assert_array_equal(paged_attention(q, k, v, scale=0.4), expected)


def test_latents_are_attention_to_the_keys_and_values_made_from_them() -> None:
    rng = np.random.default_rng(0)
    R, K_R = 6, 2
    memory = Paged(rng.standard_normal((1, 8 * SIZE, R + K_R)), TABLES, LENGTHS, SIZE)
    up_k, up_v = rng.standard_normal((H, R, K)), rng.standard_normal((H, R, K_V))
    q = rng.standard_normal((len(TABLES), H, 1, K + K_R))
    keys, values = expanded(memory.pool, up_k, up_v)  # (H, P, K + K_r), (H, P, K_v)
    k, v = memory._replace(pool=keys), memory._replace(pool=values)
    for limits in ({}, {"window": 3}, {"chunk": 4}):
        found = paged_latent_attention(q, memory, up_k, up_v, scale=0.4, **limits)
        np.testing.assert_allclose(found, paged_attention(q, k, v, scale=0.4, **limits), rtol=1e-10)
