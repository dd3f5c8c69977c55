"""The exercises of docs/fast_in_numpy.md, solved."""

import tracemalloc
from collections.abc import Callable

import numpy as np

from tinystar_np import fast
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.inspection.speed import bytes_per_token
from tinystar_np.kernels.activations import gelu_tanh
from tinystar_np.kernels.softmax import softmax


def test_the_limit_of_gpt2() -> None:
    gpt2 = hollow_model({"model_type": "gpt2"})
    # 12 layers of 12 · 768² weights, and the table of tokens, which is the output layer too.
    weights = 12 * 12 * 768**2 + 50257 * 768
    assert bytes_per_token(gpt2) == 4 * weights
    assert round(20e9 / (4 * weights)) == 40  # tokens a second in float32
    assert round(20e9 / weights) == 162  # in int8, if nothing but reading took time


def test_when_an_activation_is_in_place() -> None:
    rng = np.random.default_rng(0)
    token, prompt = (rng.standard_normal((1, T, 1024), dtype=np.float32) for T in (1, 512))
    expected = gelu_tanh(prompt)
    assert not np.shares_memory(fast.activate(token, gelu_tanh), token)  # a new array: small, and soon made
    result = fast.activate(prompt, gelu_tanh)
    assert np.shares_memory(result, prompt)  # block by block in the array itself
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_a_softmax_in_one_array() -> None:
    def frugal(x: np.ndarray) -> np.ndarray:
        y = x - x.max(axis=-1, keepdims=True)  # the one large array
        np.exp(y, out=y)
        y /= y.sum(axis=-1, keepdims=True)
        return y

    def peak(call: Callable[[np.ndarray], np.ndarray]) -> int:
        tracemalloc.start()
        call(x)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    x = np.random.default_rng(0).standard_normal((64, 8192), dtype=np.float32)
    np.testing.assert_allclose(frugal(x), softmax(x), atol=1e-7)
    assert peak(frugal) < 1.1 * x.nbytes
    assert peak(softmax) > 1.9 * x.nbytes
