"""The exercises of docs/kernels/windows_and_sinks.md, solved."""

import numpy as np

from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.masks import Mask, visible


def test_layers_until_the_first_token_is_heard() -> None:
    # Each layer reaches W − 1 = 127 tokens further back, and 4095 are needed: 4095 / 127 = 32.2, so 33.
    layers = 33
    assert (layers - 1) * 127 < 4095 <= layers * 127
    # The same with small numbers and the masks themselves: 12 tokens, W = 4, 11 / 3 = 3.7.
    t = np.arange(12)
    one = visible(Mask(t, t, window=4)).astype(int)
    assert np.linalg.matrix_power(one, 3)[11, 0] == 0
    assert np.linalg.matrix_power(one, 4)[11, 0] > 0


def test_a_sink_is_a_key_whose_value_is_zero() -> None:
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 1, 4, 8))
    with_sink = attention(q, k, v, None, scale=1.0, sinks=np.array([1.5]))
    # One more key with a value of 0. A key of zeros scores 0 with every query; a bias makes 1.5 of it.
    longer = np.pad(k, ((0, 0), (0, 1), (0, 0)))
    values = np.pad(v, ((0, 0), (0, 1), (0, 0)))
    bias = np.array([[0, 0, 0, 0, 1.5]])
    as_key = attention(q, longer, values, None, scale=1.0, bias=bias)
    np.testing.assert_allclose(with_sink, as_key, atol=1e-12)  # no difference: that is what a sink is


def test_a_window_that_keeps_the_first_tokens() -> None:
    T, W = 9, 3
    q, k, v = np.random.default_rng(0).normal(size=(3, 2, T, 8))
    t = np.arange(T)
    kept = visible(Mask(t, t, window=W)) | (t < 2)  # (T, T): the window, or one of the first two tokens
    bias = np.where(kept, 0.0, -np.inf)[None]  # (1, T, T): for all heads alike
    result = attention(q, k, v, Mask(t, t), scale=1.0, bias=bias)
    # The query at position 7 must see 0, 1 and 5, 6, 7, and nothing else.
    seen = [0, 1, 5, 6, 7]
    alone = attention(q[:, 7:8], k[:, seen], v[:, seen], None, scale=1.0)
    np.testing.assert_allclose(result[:, 7:8], alone, atol=1e-12)
