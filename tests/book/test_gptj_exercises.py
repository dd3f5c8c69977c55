"""The exercises of docs/from_gpt2/gptj.md, solved."""

from math import pi

import numpy as np
from from_gpt2 import random_model

import tinystar_np as ts
from tinystar_np.kernels.rope import default_frequencies


def test_wavelengths_of_gptj() -> None:
    # 64 numbers are 32 pairs. Pair j turns by the angle 10000^(−2j/64) a token.
    frequencies = default_frequencies(64, 10000.0)
    assert len(frequencies) == 32
    # The first turns by 1 radian a token: once round after 2π, about 6 tokens.
    first, *_, last = 2 * pi / frequencies
    assert 6 < first < 7
    # The last by 10000^(−62/64): once round after some 47 000 tokens, far more than GPT-J reads.
    assert round(last) == round(2 * pi * 10000 ** (62 / 64))
    assert 47_000 < last < 48_000


def test_parallel_differs_first_in_the_feed_forward_layer() -> None:
    caught = []
    for parallel in (False, True):
        config = ts.TinyStarConfig(hidden_size=64, num_layers=2, parallel=parallel, init_std=0.2)
        with ts.record() as taps:
            ts.TinyStar(config, seed=1)([3, 1, 4])
        caught.append(taps)
    sequential, parallel_taps = caught
    both = [name for name in sequential if name in parallel_taps]
    differing = [name for name in both if not np.allclose(sequential[name], parallel_taps[name])]
    # Attention reads the same. The feed-forward layer, in a parallel block, has not heard of its result.
    assert "blocks.0.attention.out" not in differing
    assert differing[0] == "blocks.0.feed_forward.gate"


def test_three_arrays_make_the_residual() -> None:
    sizes = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 2, "rotary_dim": 8}
    with ts.record() as taps:
        random_model({"model_type": "gptj", **sizes}, std=0.2)([3, 1, 4, 1, 5])
    # The stream before the block, and what both branches add to it.
    total = taps["embedding"] + taps["blocks.0.attention.out"] + taps["blocks.0.feed_forward.down"]
    np.testing.assert_allclose(taps["blocks.0.residual"], total, atol=1e-6)
