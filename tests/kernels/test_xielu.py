"""xIELU against torch, and what its formula promises."""

import numpy as np
import torch
from transformers.activations import ACT2CLS

from tinystar_np.kernels.xielu import xielu

BETA, EPSILON = np.float32(0.5), np.float32(-1e-6)


def numbers(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_against_transformers() -> None:
    x = np.concatenate([np.linspace(-90, 90, 2001), [-1e-7, 0, 1e-7]]).astype(np.float32)
    theirs = ACT2CLS["xielu"](dtype=torch.float32)
    for a_p, a_n in ((0.2, -1.1), (-3.0, 2.5), (30.0, -40.0)):
        with torch.no_grad():
            theirs.alpha_p.fill_(a_p)
            theirs.alpha_n.fill_(a_n)
            expected = theirs(torch.from_numpy(x)).numpy()
        found = xielu(x, numbers(a_p), numbers(a_n), BETA, EPSILON)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_both_sides_meet_with_the_slope_beta() -> None:
    x = numbers(-1e-3, 0, 1e-3)
    left, middle, right = xielu(x, numbers(1.0), numbers(-1.0), BETA, EPSILON).tolist()
    assert abs(middle) < 2e-6
    np.testing.assert_allclose([left / -1e-3, right / 1e-3], [0.5, 0.5], atol=1e-2)


def test_the_slope_on_the_left_becomes_negative_whatever_was_learned() -> None:
    for a_n in (-50.0, 0.0, 3.0):
        y = xielu(numbers(-9, -8), numbers(0.0), numbers(a_n), BETA, EPSILON)
        assert y[0] >= y[1] or a_n == -50  # there it is level: α_n = β

    def at(x: float) -> float:
        return float(xielu(numbers(x), numbers(0.0), numbers(0.0), BETA, EPSILON)[0])

    assert at(-9) > at(-1)
