"""Tokens one at a time through models that remember by a recurrence, whose arrays take turns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import build, small_model

from tinystar_np.cache import join_caches
from tinystar_np.fast.deferred_state import MOST
from tinystar_np.models import Decoder

FALCON_H1 = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "mamba_d_ssm": 48,
    "mamba_n_heads": 6,
    "mamba_d_head": 8,
    "mamba_n_groups": 2,
    "mamba_d_state": 8,
}
ROWS = 3


@pytest.fixture(
    scope="module", params=["mamba 1", "mamba 2", "delta rule", "mamba 2 and attention", "side by side"]
)
def model(request: Any) -> Decoder:
    if request.param == "side by side":
        return build("falcon_h1", FALCON_H1)
    return small_model(request.param)


def some_ids(model: Decoder, length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(0, model.vocab_size, (ROWS, length))


def stepped(model: Decoder, ids: np.ndarray) -> Any:
    """Return a cache that has read each token by itself."""
    cache = model.new_cache(len(ids))
    for t in range(ids.shape[1]):
        model(ids[:, t : t + 1], cache=cache)
    return cache


@pytest.mark.parametrize("read", [0, 1, 2, 3, 4])
def test_steps_are_the_whole(model: Decoder, read: int) -> None:
    """After 0 to 4 steps: a whole piece, and as many steps as take what is recent into the state twice."""
    ids = some_ids(model, 25 + 2 * MOST + 3)
    whole = model(ids)
    cache = stepped(model, ids[:, :read])
    pieces = [(read, 25), *((t, t + 1) for t in range(25, ids.shape[1]))]
    for start, end in pieces:
        found = model(ids[:, start:end], cache=cache)
        assert np.abs(found - whole[:, start:end]).max() < 2e-5 * np.abs(whole).max()


@pytest.mark.parametrize("read", [1, 2, 3, MOST - 2])
def test_a_call_that_breaks_off_changes_nothing(
    model: Decoder, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = some_ids(model, read + 5)
    cache, other = stepped(model, ids[:, :read]), stepped(model, ids[:, :read])
    expected = [model(ids[:, t : t + 1], cache=other) for t in range(read, read + 5)]

    def interrupt(x: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    for t in range(read, read + 5):
        for new in (1, 5):
            with monkeypatch.context() as patch:
                patch.setattr(model, "final_norm", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    model((ids[:, t : t + 1] + 1 + np.arange(new)) % model.vocab_size, cache=cache)
        np.testing.assert_array_equal(model(ids[:, t : t + 1], cache=cache), expected[t - read])


@pytest.mark.parametrize("read", [1, 2, 3])
def test_copies_go_their_own_ways(model: Decoder, read: int, tmp_path: Path) -> None:
    """A copy, rows chosen and joined again, and a saved file: none hears of what the others read."""
    ids = some_ids(model, 12)
    cache = stepped(model, ids[:, :read])
    cache.save(tmp_path / "cache")
    others = [
        cache.copy(),
        join_caches([cache.select([0, 1]), cache.select([2])]),
        model.load_cache(tmp_path / "cache"),
        model.load_cache(tmp_path / "cache"),
    ]
    expected = [model(ids[:, t : t + 1], cache=cache) for t in range(read, 12)]
    for other in others:
        nearby = other.copy()
        for t in range(read, 12):
            np.testing.assert_array_equal(model(ids[:, t : t + 1], cache=other), expected[t - read])
            model(ids[:, -t : 1 - t or None], cache=nearby)


def test_rows_that_have_read_differently_are_joined(model: Decoder) -> None:
    ids, lengths = some_ids(model, MOST + 6), (MOST + 1, 2, 4)
    caches = [stepped(model, ids[b : b + 1, :length]) for b, length in enumerate(lengths[:2])]
    caches.append(model.new_cache())
    model(ids[2:, : lengths[2]], cache=caches[2])
    cache = join_caches(caches)
    assert cache.lengths.tolist() == list(lengths)
    whole = model(ids)
    for t in range(3):
        at = (np.arange(ROWS), np.array(lengths) + t)
        found = model(ids[at][:, None], cache=cache)[:, 0]
        assert np.abs(found - whole[at]).max() < 2e-5 * np.abs(whole).max()
