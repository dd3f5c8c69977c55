"""Windows: what the cache holds, rows at different lengths around the window, saved caches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, random_ids, reference_model, save

from tinystar_np.cache import SlidingKeyValueState, join_caches
from tinystar_np.errors import InputError
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}


def test_the_cache_never_holds_more_than_the_window(tmp_path: Path) -> None:
    reference = reference_model("mistral", **SMALL, sliding_window=16)
    model, _ = load(save(reference, tmp_path))
    cache = model.new_cache(2, capacity=1000)
    window_bytes = 2 * 3 * 2 * 2 * 16 * 8 * 4  # rows, layers, keys and values, G, W, K, float32
    for new in (3, 100, 1, 1, 15, 16, 17, 1):
        model(random_ids(2, new, seed=new), cache=cache)
        assert cache.nbytes <= window_bytes
    assert cache.nbytes == window_bytes
    with pytest.raises(InputError, match="cannot be cut back"):
        cache.truncate(5)


def test_rows_of_different_lengths_around_the_window(tmp_path: Path) -> None:
    """Rows before, at and far beyond the window, by single tokens and by pieces, plain and in blocks."""
    reference = reference_model("mistral", **SMALL, sliding_window=70)
    model, _ = load(save(reference, tmp_path))
    caches: list[Any] = []
    for length in (3, 69, 70, 71, 200):
        caches.append(model.new_cache())
        model(random_ids(length, seed=length), cache=caches[-1])
    joined = join_caches(caches)
    for new in (1, 9, 1, 150, 2, 1):
        ids = random_ids(5, new, seed=new)
        alone = np.stack([model(row, cache=cache) for row, cache in zip(ids, caches, strict=True)])
        assert_close(model(ids, cache=joined), alone)
    chosen = joined.select([4, 0])
    ids = random_ids(2, 3)
    alone = np.stack([model(ids[0], cache=caches[4]), model(ids[1], cache=caches[0])])
    assert_close(model(ids, cache=chosen), alone)


def test_saved_and_loaded(tmp_path: Path) -> None:
    model, _ = load(save(reference_model("mistral", **SMALL, sliding_window=20), tmp_path / "model"))
    cache = model.new_cache()
    model(random_ids(50), cache=cache)
    cache.save(tmp_path / "cache")
    loaded = model.load_cache(tmp_path / "cache")
    assert isinstance(loaded.states[0], SlidingKeyValueState)
    for new in (1, 30, 1):
        np.testing.assert_array_equal(
            model(random_ids(new), cache=loaded), model(random_ids(new), cache=cache)
        )
