"""Rotary positions turn: no vector changes its length, and a query meets a key by their distance alone.

Angles are positions times frequencies in float32, as the models were trained. A product that is off by half
a unit in the last of 24 bits turns a pair by up to p · 2⁻²⁴ too far, 0.006 of a radian at position 100 000:
that much two pairs of positions of the same distance may differ, and no more.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import FIXED

from tinystar_np.cache import Step
from tinystar_np.layers.rope import Rotary
from tinystar_np.models.rope_parameters import RULES, RopeParameters

K = 16
HALF_A_UNIT = 2.0**-24
KINDS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0},
    "yarn, given factor": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 0.7},
    "yarn of DeepSeek": {"rope_type": "yarn", "factor": 40.0, "mscale": 0.7, "mscale_all_dim": 1.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "longrope": {
        "rope_type": "longrope",
        "factor": 4.0,
        "short_factor": [1.0 + j / 8 for j in range(K // 2)],
        "long_factor": [1.0 + j for j in range(K // 2)],
    },
    "proportional": {"rope_type": "proportional", "partial_rotary_factor": 0.5},
}


def test_every_rule_is_here() -> None:
    assert {kind["rope_type"] for kind in KINDS.values()} == set(RULES)


def parameters(kind: str, part: float = 1.0) -> RopeParameters:
    """Read a rule as a config states it, of a model trained on 512 tokens."""
    keys = {"rope_theta": 10000.0, "partial_rotary_factor": part, **KINDS[kind]}
    if "_factor" in kind or kind == "longrope":
        keys |= {key: keys[key][: int(K * part) // 2] for key in ("short_factor", "long_factor")}
    if keys["rope_type"] in ("yarn", "llama3", "longrope"):
        keys["original_max_position_embeddings"] = 512
    config = {"rope_parameters": keys, "max_position_embeddings": 512}
    return RopeParameters.read(config, head_dim=K, partial=True)


def rotary(read: RopeParameters, interleaved: bool, length: int) -> Rotary:
    """Return the layer with the frequencies of a text of that length, whatever is turned with it."""
    frequencies = read.frequencies()
    of_length = frequencies(length) if callable(frequencies) else frequencies
    return Rotary(of_length, attention_factor=read.attention_factor, interleaved=interleaved)


def turned(rope: Rotary, x: np.ndarray, position: int) -> np.ndarray:
    return rope(x[None, :, None], Step(np.array([position]), 1))[0, :, 0].astype(np.float64)


kinds = st.sampled_from(sorted(KINDS))
parts = st.sampled_from([1.0, 0.5])
positions = st.integers(0, 100_000)
lengths = st.sampled_from([100, 5_000])  # within the trained length and beyond
seeds = st.integers(0, 2**32 - 1)


@FIXED
@given(kind=kinds, part=parts, interleaved=st.booleans(), position=positions, length=lengths, seed=seeds)
def test_lengths_stay(
    kind: str, part: float, interleaved: bool, position: int, length: int, seed: int
) -> None:
    """Each pair keeps its length, but for the attention factor; what does not turn stays as it is."""
    read = parameters(kind, KINDS[kind].get("partial_rotary_factor", part))
    x = np.random.default_rng(seed).standard_normal((3, K), dtype=np.float32)
    y = turned(rotary(read, interleaved, length), x, position)
    width = read.rotary_dim

    def squares(z: np.ndarray) -> np.ndarray:
        pairs = (
            z[:, :width].reshape(3, -1, 2) if interleaved else z[:, :width].reshape(3, 2, -1).swapaxes(1, 2)
        )
        return np.square(pairs.astype(np.float64)).sum(axis=-1)

    assert read.attention_factor == 1 or read.rope_type in ("yarn", "longrope")
    np.testing.assert_allclose(squares(y), read.attention_factor**2 * squares(x), rtol=1e-6)
    np.testing.assert_array_equal(y[:, width:], x[:, width:])


@FIXED
@given(
    kind=kinds,
    part=parts,
    interleaved=st.booleans(),
    query=positions,
    key=positions,
    shift=positions,
    length=lengths,
    seed=seeds,
)
def test_only_distances_count(
    kind: str, part: float, interleaved: bool, query: int, key: int, shift: int, length: int, seed: int
) -> None:
    """Also of queries before their keys, as in models that read both ways."""
    read = parameters(kind, KINDS[kind].get("partial_rotary_factor", part))
    rope = rotary(read, interleaved, length)
    q, k = np.random.default_rng(seed).standard_normal((2, 3, K), dtype=np.float32)

    def product(p: int, s: int) -> np.ndarray:
        return (turned(rope, q, p) * turned(rope, k, s)).sum(axis=-1)

    size = read.attention_factor**2 * np.linalg.norm(q, axis=-1) * np.linalg.norm(k, axis=-1)
    # Four angles, each rounded once, and a few roundings of cosines, sines and products beside them.
    allowed = size * HALF_A_UNIT * (2 * (query + shift) + 2 * (key + shift) + 40)
    assert (np.abs(product(query + shift, key + shift) - product(query, key)) <= allowed).all()


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_another_distance_is_felt(kind: str, interleaved: bool) -> None:
    rope = rotary(parameters(kind, KINDS[kind].get("partial_rotary_factor", 1.0)), interleaved, 100)
    q, k = np.random.default_rng(0).standard_normal((2, 3, K), dtype=np.float32)
    near, far = ((turned(rope, q, 9) * turned(rope, k, s)).sum(axis=-1) for s in (8, 7))
    assert (np.abs(near - far) > 1e-2).all()


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_frequencies_by_length_break_it_across_calls(kind: str) -> None:
    """What layers/rope.py says: keys stay as they were turned, so distances agree within one length only."""
    read = parameters(kind)
    within, beyond = (rotary(read, False, length) for length in (512, 513))
    q, k = np.random.default_rng(0).standard_normal((2, 3, K), dtype=np.float32)
    both = (turned(beyond, q, 600) * turned(beyond, k, 500)).sum(axis=-1)
    mixed = (turned(beyond, q, 600) * turned(within, k, 500)).sum(axis=-1)
    assert np.abs(both - mixed).max() > 1e-2
