"""A row of a batch is what it would be alone: it does not depend on its neighbours or on what fills a cache.

Other neighbours of the same length change no bit. Fewer neighbours may change the last one: the rows of all
texts are multiplied by the weights in one product, and BLAS sums in an order that it chooses by the number of
rows. Where there are experts, the neighbours decide how many rows each expert's product has, and may change
the last bit too; see test_causality.py.
"""

import numpy as np
import pytest
from parity import random_ids
from small_models import DENSE, EXPERTS, small_model

from tinystar_np import fast
from tinystar_np.cache import KeyValueState, join_caches
from tinystar_np.generation import generate_ids
from tinystar_np.kernels.experts import chosen_outputs, mixture
from tinystar_np.models import Decoder

LENGTHS = [3, 150]


def assert_within_rounding(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", DENSE)
def test_other_neighbours_change_no_bit(name: str, length: int) -> None:
    model = small_model(name)
    ids, other = random_ids(3, length), random_ids(3, length, seed=2)
    other[1] = ids[1]
    before, after = model(ids), model(other)
    np.testing.assert_array_equal(after[1], before[1])
    assert (after[[0, 2]] != before[[0, 2]]).any()
    assert_within_rounding(before[1], model(ids[1]))


@pytest.mark.parametrize("name", EXPERTS)
def test_other_neighbours_at_experts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(name)
    ids, other = random_ids(3, 40), random_ids(3, 40, seed=2)
    other[1] = ids[1]
    alone = model(ids[1])
    for company in (ids, other):
        assert_within_rounding(model(company)[1], alone)
    monkeypatch.setattr(fast, "mixture", mixture)
    monkeypatch.setattr(fast, "chosen_outputs", chosen_outputs)
    np.testing.assert_array_equal(model(other)[1], model(ids)[1])


def joined(model: Decoder, seed: int) -> tuple[np.ndarray, object]:
    """A cache of three rows of 5, 30 and 1 tokens; the middle one is the same for every seed."""
    caches = [model.new_cache() for _ in range(3)]
    for i, (cache, length) in enumerate(zip(caches, (5, 30, 1), strict=True)):
        model(random_ids(length, seed=7 if i == 1 else seed + i), cache=cache)
    new = random_ids(3, 9, seed=seed + 5)
    new[1] = random_ids(9, seed=8)
    return new, join_caches(caches)


@pytest.mark.parametrize("name", DENSE)
def test_neighbours_at_other_lengths(name: str) -> None:
    """Rows that continue at lengths of their own: single tokens and a piece."""
    model = small_model(name)
    results = []
    for seed in (10, 20):
        ids, cache = joined(model, seed)
        singles = [model(ids[:, t : t + 1], cache=cache)[1] for t in range(3)]
        results.append(np.concatenate([*singles, model(ids[:, 3:], cache=cache)[1]]))
    np.testing.assert_array_equal(results[0], results[1])
    whole = model(np.concatenate([random_ids(30, seed=7), random_ids(9, seed=8)]))
    assert_within_rounding(results[0], whole[30:])


@pytest.mark.parametrize("new", [1, 6, 200])
@pytest.mark.parametrize("name", ["rope, groups", "alibi", "latent attention", "mamba 2 and attention"])
def test_what_fills_a_cache_behind_a_row_is_never_seen(name: str, new: int) -> None:
    """Nothing is padded, but shorter rows have room up to the longest; here the room is full of 1e30."""
    model = small_model(name)
    ids = random_ids(3, new)
    results = []
    for filling in (0, 1e30):
        _, cache = joined(model, 10)
        for state in cache.states:
            if isinstance(state, KeyValueState):
                for b, length in enumerate(cache.lengths):
                    state.keys[b, :, length:] = filling
                    state.values[b, :, length:] = filling
        results.append(model(ids, cache=cache))
    np.testing.assert_array_equal(results[1], results[0])


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"seed": 5, "top_p": 0.9}])
@pytest.mark.parametrize("name", ["window", "caps, windows in turns", "mamba 2 and attention", *EXPERTS])
def test_generated_in_company_and_alone(name: str, sampling: dict[str, float]) -> None:
    """Prompts of different lengths, one of which ends early; each draws from a source of its own."""
    model = small_model(name)
    prompts = [random_ids(length, seed=length).tolist() for length in (1, 33, 8, 20)]
    together = generate_ids(model, prompts, max_new_tokens=15, **sampling)
    assert together == [generate_ids(model, prompt, max_new_tokens=15, **sampling) for prompt in prompts]
    assert len({tuple(ids) for ids in together}) > 1
