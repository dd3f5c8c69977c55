"""The two forms of the convolution against each other and against a loop over single numbers."""

import numpy as np
import pytest

from tinystar_np import fast
from tinystar_np.fast.scans import BLOCK
from tinystar_np.kernels.convolution import causal_convolution

FORMS = (causal_convolution, fast.causal_convolution)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def convolution_by_loops(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, state: np.ndarray | None
) -> np.ndarray:
    B, T, C = x.shape
    W = len(weight)
    y = np.zeros(x.shape)
    for b, t, c in np.ndindex(B, T, C):
        y[b, t, c] = 0.0 if bias is None else bias[c]
        for back in range(W):
            if t - back >= 0:
                y[b, t, c] += float(weight[W - 1 - back, c]) * float(x[b, t - back, c])
            elif state is not None:
                y[b, t, c] += float(weight[W - 1 - back, c]) * float(state[b, W - 1 + t - back, c])
    return y


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("width", [1, 2, 4, 7])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 9])
def test_definition(length: int, width: int, with_bias: bool, with_state: bool, form: object) -> None:
    x, weight = random(2, length, 5), random(width, 5)
    bias = random(5) if with_bias else None
    state = random(2, width - 1, 5) if with_state else None
    y, after = form(x, weight, bias, state)  # type: ignore[operator]
    assert y.dtype == after.dtype == np.float32
    np.testing.assert_allclose(y, convolution_by_loops(x, weight, bias, state), rtol=1e-5, atol=1e-6)
    before = np.zeros((2, width - 1, 5), dtype=np.float32) if state is None else state
    everything = np.concatenate([before, x], axis=1)
    np.testing.assert_array_equal(after, everything[:, everything.shape[1] - (width - 1) :])


@pytest.mark.parametrize("rows", [1, 3])
def test_blocks_give_the_definition(rows: int) -> None:
    channels = 1024
    length = BLOCK // channels + 11  # two blocks for one row, four for three
    x, weight, bias = random(rows, length, channels), random(4, channels), random(channels)
    state = random(rows, 3, channels)
    kept = state.copy()
    expected, expected_after = causal_convolution(x, weight, bias, state)
    found, after = fast.causal_convolution(x, weight, bias, state)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(after, expected_after)
    np.testing.assert_array_equal(state, kept)


def test_pieces_continue_each_other() -> None:
    x, weight, bias = random(2, 12, 5), random(4, 5), random(5)
    whole, after_all = causal_convolution(x, weight, bias)
    state, pieces, start = None, [], 0
    for length in (1, 2, 1, 5, 3):
        y, state = fast.causal_convolution(x[:, start : start + length], weight, bias, state)
        pieces.append(y)
        start += length
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole)
    np.testing.assert_array_equal(state, after_all)


@pytest.mark.parametrize("form", FORMS)
def test_the_state_does_not_keep_the_prompt_alive(form: object) -> None:
    _, after = form(random(1, 100, 1024), random(4, 1024))  # type: ignore[operator]
    assert after.base is None
