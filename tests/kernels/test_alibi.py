"""ALiBi against the paper's numbers, against its own definition by distances, and against transformers."""

import numpy as np
import pytest
import torch
from masks import last_queries
from transformers.models.bloom.modeling_bloom import build_alibi_tensor as bloom_alibi
from transformers.models.falcon.modeling_falcon import build_alibi_tensor as falcon_alibi

from tinystar_np.kernels.alibi import alibi_bias, alibi_bias_in_bfloat16, alibi_slopes
from tinystar_np.kernels.attention import attention, attention_probabilities
from tinystar_np.kernels.blockwise_attention import blockwise_attention


@pytest.mark.parametrize(
    ("heads", "exponents"),
    [
        (1, [8]),
        (2, [4, 8]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (3, [4, 8, 2]),
        (6, [2, 4, 6, 8, 1, 3]),
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),
    ],
)
def test_slopes_of_the_paper(heads: int, exponents: list[float]) -> None:
    slopes = alibi_slopes(heads)
    assert slopes.dtype == np.float32
    np.testing.assert_allclose(slopes, [2.0**-e for e in exponents], rtol=1e-7)


@pytest.mark.parametrize("heads", [4, 6])
def test_positions_of_keys_weigh_as_distances_do(heads: int) -> None:
    tokens = 40
    scores = np.random.default_rng(heads).standard_normal((heads, tokens, tokens), dtype=np.float32)
    mask = last_queries(tokens, tokens)
    by_distance = scores.copy()
    for h, slope in enumerate(alibi_slopes(heads)):
        for t in range(tokens):
            for s in range(t + 1):
                by_distance[h, t, s] -= slope * (t - s)
    by_key = scores + alibi_bias(alibi_slopes(heads), np.arange(tokens))[:, None]
    expected = attention_probabilities(by_distance, mask)
    np.testing.assert_allclose(attention_probabilities(by_key, mask), expected, rtol=2e-5, atol=1e-7)
    assert np.abs(attention_probabilities(scores, mask) - expected).max() > 0.1


@pytest.mark.parametrize("heads", [*range(1, 34), 71, 112, 128])
def test_the_biases_of_transformers(heads: int) -> None:
    """BLOOM's to the last few bits, Falcon's to the last."""
    tokens = 1100
    mask = torch.ones(1, tokens, dtype=torch.long)
    slopes, positions = alibi_slopes(heads), np.arange(tokens)
    theirs = bloom_alibi(mask, heads, torch.float32).reshape(heads, tokens).numpy()
    np.testing.assert_allclose(alibi_bias(slopes, positions), theirs, rtol=1e-6)
    theirs = falcon_alibi(mask, heads, torch.float32).reshape(heads, tokens).numpy()
    ours = alibi_bias_in_bfloat16(slopes, positions)
    assert ours.dtype == alibi_bias(slopes, positions).dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)


def test_distant_positions_fall_together_in_bfloat16() -> None:
    ones = np.ones(1, dtype=np.float32)
    (near,) = alibi_bias_in_bfloat16(ones, np.arange(257))
    np.testing.assert_array_equal(near, np.arange(257))
    (far,) = alibi_bias_in_bfloat16(ones, np.arange(9921, 9921 + 64 * 10))
    assert len(np.unique(far)) in (10, 11)


@pytest.mark.parametrize(("queries", "keys"), [(300, 300), (130, 700), (700, 700)])
def test_blocks_give_the_definition(queries: int, keys: int) -> None:
    """Six heads on two heads of keys, each head with its own slope."""
    rng = np.random.default_rng(keys)
    q = rng.standard_normal((6, queries, 8), dtype=np.float32)
    k, v = rng.standard_normal((2, 2, keys, 8), dtype=np.float32)
    bias = alibi_bias(alibi_slopes(6), np.arange(keys))
    expected = attention(q, k, v, last_queries(queries, keys), scale=0.3, bias=bias)
    np.testing.assert_allclose(
        blockwise_attention(q, k, v, scale=0.3, bias=bias), expected, rtol=1e-4, atol=1e-5
    )
