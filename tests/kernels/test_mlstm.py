"""mLSTM: the recurrence against its formula without a running exponent, the chunks against the recurrence."""

import numpy as np
import pytest

from tinystar_np.kernels.mlstm import CHUNK, Memory, chunked_mlstm, log_sigmoid, mlstm


def inputs(T: int, size: float = 1.0) -> list[np.ndarray]:
    """q, k, v, i, f of two rows and three heads."""
    random = np.random.default_rng(T)
    wide = [random.standard_normal((2, T, 3, width), dtype=np.float32) for width in (4, 4, 5)]
    gates = [np.float32(size) * random.standard_normal((2, T, 3), dtype=np.float32) for _ in "if"]
    return [*wide, gates[0], gates[1] + np.float32(1)]


def test_the_formula_in_float64() -> None:
    q, k, v, i, f = inputs(20)
    y, memory = mlstm(q, k, v, i, f)
    assert y.dtype == memory.matrix.dtype == np.float32
    for b, h in np.ndindex(2, 3):
        C, n = np.zeros((4, 5)), np.zeros(4)
        for t in range(20):
            key, value, query = (x[b, t, h].astype(float) for x in (k, v, q))
            forget, write = 1 / (1 + np.exp(-float(f[b, t, h]))), np.exp(float(i[b, t, h]))
            C, n = forget * C + write * np.outer(key, value), forget * n + write * key
            query /= 2
            np.testing.assert_allclose(y[b, t, h], query @ C / max(abs(query @ n), 1), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("T", [1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
@pytest.mark.parametrize("size", [1.0, 20.0])
def test_chunks(T: int, size: float) -> None:
    given = inputs(T, size)
    random = np.random.default_rng(1)
    matrix = random.standard_normal((2, 3, 4, 6), dtype=np.float32)
    for before in (None, Memory(matrix, random.standard_normal((2, 3), dtype=np.float32))):
        y, after = mlstm(*given, before)
        found, found_after = chunked_mlstm(*given, before)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-4 * np.abs(y).max())
        np.testing.assert_allclose(found_after.exponent, after.exponent, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(found_after.matrix, after.matrix, rtol=1e-4, atol=1e-4)


def test_a_gate_beyond_float32() -> None:
    """e^200 is none of its numbers; the value written with it is all that is read."""
    q, _, v, i, f = inputs(5)
    i[:, 2] = 200
    y, _ = mlstm(q, q, v, i, f)
    np.testing.assert_allclose(y[:, 2], v[:, 2], rtol=1e-5)


def test_log_sigmoid_far_out() -> None:
    np.testing.assert_allclose(log_sigmoid(np.float32([-100, 100])), [-100, 0], atol=1e-30)
