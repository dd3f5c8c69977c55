"""The exercises of docs/kernels/stretched_contexts.md, solved."""

import math

import numpy as np

from tinystar_np.kernels.rope import (
    default_frequencies,
    dynamic_frequencies,
    linear_frequencies,
    llama3_frequencies,
)


def test_a_wave_of_628_tokens() -> None:
    # 2π / 0.01 = 628 tokens for one rotation; 4096 / 628 = 6.5 rotations. Stretched, it is four times
    # as long: 2513 tokens, so that 16 384 tokens are the same 6.5 rotations.
    frequency = float(default_frequencies(64, 10000.0)[16])
    assert math.isclose(frequency, 0.01, rel_tol=1e-6)
    assert round(2 * math.pi / frequency) == 628
    assert round(4096 * frequency / (2 * math.pi), 1) == 6.5
    slow = float(linear_frequencies(64, 10000.0, 4.0)[16])
    assert round(2 * math.pi / slow) == 2513
    assert math.isclose(16384 * slow, 4096 * frequency, rel_tol=1e-6)


def test_which_pairs_of_llama_3_1_change() -> None:
    before = default_frequencies(128, 500000.0)
    after = llama3_frequencies(128, 500000.0, 8.0, 1.0, 4.0, 8192)
    # Waves shorter than 8192 / 4 = 2048 tokens stay, those longer than 8192 / 1 slow down in full. A wave is
    # 2π · 500000^(j/64) tokens long: j = 64 · ln(2048 / 2π) / ln(500000) = 28.2, and for 8192 j = 35.0.
    stay, in_full = after == before, np.isclose(after, before / 8, rtol=1e-6)
    assert stay.sum() == 29  # pairs 0 to 28
    assert in_full.sum() == 64 - 35  # pairs 35 to 63; six lie between
    assert stay[:29].all()
    assert in_full[35:].all()


def test_the_base_that_slows_the_last_pair() -> None:
    K, theta, trained, s = 64, 10000.0, 2048, 3.0
    # Pair j has the frequency θ^(−2j/K). The last, j = K/2 − 1, has the exponent −(K − 2)/K, and for it to be
    # s times as slow, (θ'/θ)^((K − 2)/K) = s. So θ' = θ · s^(K/(K − 2)). Pair 0 has the exponent 0 and stays.
    larger = theta * s ** (K / (K - 2))
    mine = default_frequencies(K, larger)
    np.testing.assert_allclose(mine[-1], default_frequencies(K, theta)[-1] / s, rtol=1e-5)
    assert mine[0] == 1
    kernels = dynamic_frequencies(K, theta, factor=1.0, trained_length=trained, length=3 * trained)
    np.testing.assert_allclose(mine, kernels, rtol=1e-5)
