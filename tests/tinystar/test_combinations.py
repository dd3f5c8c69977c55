"""Every valid combination of TinyStar's choices: it builds, runs, and is in pieces what it is at once."""

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from tinystar_np import record
from tinystar_np.cache import join_caches
from tinystar_np.errors import ConfigError, InputError
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import CHOICES, TinyStarConfig

pytestmark = pytest.mark.usefixtures("one_blas_thread")

T, WINDOW = 8, 3
IDS = np.random.default_rng(0).integers(0, 256, (2, T))
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_layers": 2,
    "num_heads": 4,
    "max_positions": 27,
    "init_std": 0.2,
}
PIECES = ([1] * T, [WINDOW, WINDOW + 1, 1])
VALID = [pair for pair in product(CHOICES["attention"], CHOICES["positions"]) if pair != ("mla", "relative")]


def random_model(**choices: Any) -> TinyStar:
    """A model with every parameter random, gains and biases too."""
    if choices.get("mask") == "sliding_window":
        choices["window_size"] = WINDOW
    biased = choices.get("norm") == "layernorm"
    model = TinyStar(
        TinyStarConfig(**SMALL, **choices, attention_bias=biased, feed_forward_bias=biased), seed=1
    )
    rng = np.random.default_rng(2)
    for name, array in model.weights.items():
        if name.endswith((".gain", ".bias")):
            array += 0.3 * rng.standard_normal(array.shape, dtype=np.float32)
    return model


def assert_close(found: np.ndarray, expected: np.ndarray, what: Any) -> None:
    assert found.dtype == np.float32, what
    assert found.shape == expected.shape, what
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max(), what  # false for NaN too


@pytest.mark.parametrize("positions", CHOICES["positions"])
@pytest.mark.parametrize("mask", CHOICES["mask"])
@pytest.mark.parametrize("attention", CHOICES["attention"])
def test_the_whole_product(attention: str, mask: str, positions: str) -> None:
    chosen = {"attention": attention, "mask": mask, "positions": positions}
    if attention == "mla" and positions == "relative":
        with pytest.raises(ConfigError, match="positions = 'relative'"):
            TinyStarConfig(**SMALL, **chosen, window_size=3 if mask == "sliding_window" else None)
        return
    for feed_forward, norm, placement, parallel in product(
        CHOICES["feed_forward"], CHOICES["norm"], CHOICES["norm_placement"], (False, True)
    ):
        rest = {"feed_forward": feed_forward, "norm": norm, "norm_placement": placement, "parallel": parallel}
        model = random_model(**chosen, **rest)
        whole = model(IDS)
        assert_close(model(IDS[1], last_only=True), whole[1, -1:], rest)
        if mask == "bidirectional":
            changed = IDS.copy()
            changed[:, -1] += 1
            # The first token sees the last, through the window of the second layer at least.
            assert np.abs(model(changed % 256)[:, 0] - whole[:, 0]).max() > 0, rest
            with pytest.raises(InputError, match="cannot continue one"):
                model.new_cache()
            continue
        # Token by token once for each wiring: the feed-forward layer sees no other token.
        for sizes in PIECES if feed_forward == "mlp" else PIECES[1:]:
            cache = model.new_cache(2)
            starts = np.cumsum([0, *sizes])
            parts = [model(IDS[:, a:b], cache=cache) for a, b in pairwise(starts)]
            assert_close(np.concatenate(parts, axis=1), whole, rest)


@pytest.mark.parametrize(("attention", "positions"), VALID)
@pytest.mark.parametrize("mask", ["causal", "sliding_window"])
def test_rows_of_different_lengths(attention: str, mask: str, positions: str) -> None:
    model = random_model(attention=attention, mask=mask, positions=positions)
    caches = [model.new_cache() for _ in range(2)]
    for cache, length in zip(caches, (2, 7), strict=True):
        model(IDS[0, :length], cache=cache)
    joined = join_caches(caches)
    for new in (1, 3, 1):
        alone = np.stack([model(IDS[1, :new], cache=cache) for cache in caches])
        assert_close(model(np.stack([IDS[1, :new]] * 2), cache=joined), alone, new)


@pytest.mark.parametrize(("attention", "positions"), VALID)
@pytest.mark.parametrize("mask", ["causal", "sliding_window", "bidirectional"])
def test_a_long_prompt_in_the_fast_form(attention: str, mask: str, positions: str) -> None:
    """600 tokens: blocks of queries and keys, threads; while somebody listens, the plain form runs."""
    settings = {**SMALL, "max_positions": 600, "window_size": 150 if mask == "sliding_window" else None}
    model = TinyStar(TinyStarConfig(**settings, attention=attention, mask=mask, positions=positions))
    ids = np.random.default_rng(0).integers(0, 256, 600)
    fast = model(ids)
    with record("logits"):
        plain = model(ids)
    assert_close(fast, plain, "fast and plain")


@pytest.mark.parametrize("attention", CHOICES["attention"])
def test_bytes_of_the_cache(attention: str) -> None:
    """The formulas that the designs are compared by, in float32: 4 bytes."""
    H, K, L, R, J = 4, 4, 2, 8, 2
    per_token = {
        "mha": 2 * H * K,
        "gqa": 2 * 1 * K,
        "mqa": 2 * K,
        "mla": R + J,
        "complex": 3 * H * K,
    }[attention]
    model = random_model(attention=attention)
    assert model.new_cache(3, capacity=50).nbytes == 3 * 50 * L * per_token * 4
    windowed = random_model(attention=attention, mask="sliding_window")
    cache = windowed.new_cache(3, capacity=50)
    for _ in range(3):
        windowed(np.ones((3, 9), dtype=int), cache=cache)
        assert cache.nbytes == 3 * WINDOW * L * per_token * 4
