"""The exercises of docs/from_gpt2/gpt_oss.md, solved."""

import numpy as np

from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.clamped_swiglu import clamped_swiglu
from tinystar_np.kernels.softmax import softmax


def test_a_sink_by_hand() -> None:
    scores = np.zeros(2)
    # e⁰ three times: a third each, and the sink's third is left out.
    np.testing.assert_allclose(softmax(scores, np.zeros(1)), [1 / 3, 1 / 3])
    # A sink of ln 2 weighs 2 against 1 and 1: a quarter each, and the sink has the other half.
    np.testing.assert_allclose(softmax(scores, np.log([2.0])), [1 / 4, 1 / 4])


def test_the_largest_result() -> None:
    # The gate is cut to 7 and passes its sigmoid nearly whole; the up is cut to 7, and 1 is added.
    gate, up = np.array([100.0, -100.0]), np.array([100.0, 100.0])
    largest, smallest = clamped_swiglu(gate, up, 1.702, 7.0)
    np.testing.assert_allclose(largest, 7 * 8, rtol=1e-4)
    # A gate far below 0 is not cut: its sigmoid closes it.
    np.testing.assert_allclose(smallest, 0, atol=1e-6)


def test_a_sink_is_a_key_with_nothing() -> None:
    random = np.random.default_rng(0)
    q, k, v = (random.normal(size=(1, n, 8)) for n in (1, 5, 5))  # one head, one query, five keys
    sink = np.array([0.7])
    result = attention(q, k, v, None, scale=1.0, sinks=sink)
    # A key whose product with the query is the sink, since q · q / |q|² = 1; and a value of zeros.
    key = sink * q / np.sum(q * q)
    k, v = np.concatenate([k, key], axis=1), np.concatenate([v, np.zeros((1, 1, 8))], axis=1)
    np.testing.assert_allclose(attention(q, k, v, None, scale=1.0), result)
