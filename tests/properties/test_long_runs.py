"""20 000 tokens: what a cache says at the end is what the whole text says, and it has not grown.

The reference is an uncached pass over all of the text, cheap in a model this small: a window's blocks are
few, and the hybrid's attention is its last layer, where only the last token of a call need look at the
others. For the window there is another reference that no long run has touched: a token feels nothing further
back than L · (W − 1) tokens, and rotary positions know distances only, so that the end of the text read by
itself gives the same logits.
"""

import tracemalloc
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
from parity import assert_close, random_ids
from small_models import FULL, LINEAR, build

from tinystar_np import fast
from tinystar_np.kernels.activations import sigmoid, softplus
from tinystar_np.kernels.delta_rule import chunked_delta_rule, delta_rule, unit_vectors
from tinystar_np.kernels.selective_scan import selective_scan
from tinystar_np.kernels.ssm import chunked_ssm_scan, ssm_scan

LONG, EARLY, W, L = 20_000, 2_000, 64, 2
SMALL = {
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": L,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "max_position_embeddings": LONG,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "window": ("mistral", {**SMALL, "sliding_window": W}),
    "hybrid": (
        "granitemoehybrid",
        {
            **SMALL,
            "shared_intermediate_size": 16,
            "layer_types": [LINEAR, FULL],
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "mamba_n_heads": 2,
            "mamba_d_state": 4,
            "position_embedding_type": "rope",
        },
    ),
    "mamba 1": ("mamba", {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}),
}
# Single tokens where the window has wrapped a few times and at the very end, pieces of all kinds between.
ODD = [W - 1, W, W + 1, 1, 512, 300, 7]
# Both runs of single tokens are multiples of 16: as many stand beside a recurrence's state after each.
PIECES = [EARLY - 400, *[1] * 400, *ODD * 17, *[1] * 304]
PIECES.insert(-304, LONG - sum(PIECES))


def pieces() -> Iterator[tuple[int, int]]:
    return pairwise(accumulate(PIECES, initial=0))


def assert_no_drift(found: np.ndarray, expected: np.ndarray, early: int, late: int) -> None:
    """At the end the error is small, and no larger than a few times what it was at the beginning."""
    assert_close(found, expected)
    error = np.abs(found - expected).max(axis=-1)
    assert error[-late:].max() <= 5 * error[:early].max() + 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["window", "mamba 1"])
def test_no_drift(name: str) -> None:
    model = build(*MODELS[name])
    ids = random_ids(LONG, vocabulary=31)
    cache = model.new_cache()
    found = np.concatenate([model(ids[a:b], cache=cache) for a, b in pieces()])
    assert_no_drift(found, model(ids), EARLY, EARLY)
    if name == "window":
        end = model(ids[-200:])[L * (W - 1) :]  # far from the beginning, angles are rounded more
        assert_close(found[-len(end) :], end, tolerance=2e-3)


def test_no_drift_of_a_hybrid() -> None:
    model = build(*MODELS["hybrid"])
    ids = random_ids(LONG, vocabulary=31)
    cache = model.new_cache()
    ends = {b: model(ids[a:b], cache=cache, last_only=True)[0] for a, b in pieces()}
    early, late = [EARLY - 400, EARLY - 399, EARLY], [LONG - 300, LONG - 1, LONG]
    chosen = [*early, *(b for b in ends if EARLY < b < LONG - 300 and b % 7 == 0), *late]
    found = np.stack([ends[b] for b in chosen])
    expected = np.stack([model(ids[:b], last_only=True)[0] for b in chosen])
    assert_no_drift(found, expected, 3, 3)


@pytest.mark.parametrize("name", MODELS)
def test_no_growth_of_memory(name: str) -> None:
    """What Python holds between tokens 2000 and 20 000, beside keys and values that must be held."""
    model = build(*MODELS[name])
    ids = random_ids(LONG, vocabulary=31)
    cache = model.new_cache(capacity=LONG if name == "hybrid" else 0)
    found = []
    tracemalloc.start()
    try:
        for a, b in pieces():
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            model(ids[a:b], cache=cache, last_only=True)
            if b in (EARLY, LONG):
                held, peak = tracemalloc.get_traced_memory()
                found.append((held, peak - before, cache.nbytes))
    finally:
        tracemalloc.stop()
    (held_early, peak_early, early), (held_late, peak_late, late) = found
    slack = 20_000  # about one byte per token, of what Python keeps around
    assert held_late <= held_early + slack
    if name == "hybrid":
        keys_and_values = 2 * LONG * 16 * 4  # float32, one layer
        assert early == late <= keys_and_values + slack
        assert (
            peak_late <= peak_early + 4 * LONG * 4 + slack
        )  # of one token, its scores and what is made of them
    else:
        assert early == late < 40_000
        assert peak_late <= peak_early + slack


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


RATES = np.array([1e-4, 1e-2], dtype=np.float32)  # one head, or channel, remembers ten thousand tokens


def ssm_inputs() -> list[np.ndarray]:
    B, C = normal(1, 2, 1, LONG, 1, 3)
    return [normal(0, 1, LONG, 2, 3), softplus(normal(2, 1, LONG, 2)), -RATES, B, C, normal(3, 2)]


def selective_inputs() -> list[np.ndarray]:
    B, C = normal(1, 2, 1, LONG, 3)
    return [
        normal(0, 1, LONG, 2),
        softplus(normal(2, 1, LONG, 2)),
        -RATES * np.ones((3, 1), "f4"),
        B,
        C,
        RATES,
    ]


def delta_inputs() -> list[np.ndarray]:
    q, k = (unit_vectors(x) for x in normal(0, 2, 1, LONG, 1, 4))
    g, beta = -RATES * softplus(normal(1, 1, LONG, 2)), sigmoid(normal(2, 1, LONG, 2) - 4)
    return [q, k, normal(3, 1, LONG, 2, 3), g, beta]


@pytest.mark.parametrize(
    ("exact", "form", "inputs"),
    [
        (ssm_scan, chunked_ssm_scan, ssm_inputs),
        (selective_scan, fast.selective_scan, selective_inputs),
        (delta_rule, chunked_delta_rule, delta_inputs),
    ],
)
def test_float32_states_do_not_drift(
    exact: Callable[..., Any], form: Callable[..., Any], inputs: Callable[[], list[np.ndarray]]
) -> None:
    """Scans that hardly forget, against the definition in float64.

    Each step rounds a state once or twice, up or down. Such a walk comes √n · 2⁻²⁴ far in n steps, no more.
    """
    given = inputs()
    found, state = form(*given)
    expected, exact_state = exact(*(x.astype(np.float64) for x in given))
    assert found.dtype == state.dtype == np.float32
    error, size = np.abs(found - expected), np.abs(expected)
    for stretch in (slice(0, EARLY), slice(LONG - EARLY, LONG)):
        assert error[:, stretch].max() <= 5 * stretch.stop**0.5 * 2.0**-24 * size[:, stretch].max()
    assert np.abs(state - exact_state).max() <= 5 * LONG**0.5 * 2.0**-24 * np.abs(exact_state).max()
