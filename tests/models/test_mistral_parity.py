"""Mistral against transformers: windows that prompts, pieces and single tokens cross."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, check, edit_config, logits_of, random_ids, reference_model, save

from tinystar_np.cache import SlidingKeyValueState, join_caches
from tinystar_np.errors import ConfigError, InputError
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize("window", [1, 2, 17, 64, 89, 90, 91, None])
def test_window(window: int | None, tmp_path: Path) -> None:
    reference = reference_model("mistral", **SMALL, sliding_window=window)
    save(reference, tmp_path)
    edit_config(tmp_path, sliding_window=window)
    if window is None:  # edit_config takes None as "no such key", for which the default is 4096
        path = tmp_path / "config.json"
        path.write_text(path.read_text().replace('"model_type"', '"sliding_window": null, "model_type"'))
    w = min(window or 40, 89)
    cuts = [[w, 90 - w], [90 - w, w], [max(w - 1, 1), 90 - max(w - 1, 1)], [20, 1, 1, 1, 60, 7]]
    # transformers' own cache keeps everything where it should keep the last 0 keys, [-0:]: no ids for W = 1.
    greedy = window != 1
    model = check(reference, tmp_path, cuts=[[n for n in cut if n] for cut in cuts], greedy=greedy)
    assert model.config.sliding_window == window


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


def test_a_long_prompt_in_blocks(tmp_path: Path) -> None:
    """Long enough for the blockwise form, with the window shorter and longer than a block of keys."""
    for window in (100, 700):
        reference = reference_model("mistral", **SMALL, sliding_window=window)
        model, _ = load(save(reference, tmp_path))
        ids = random_ids(2, 1500)
        expected = logits_of(reference, ids)
        assert_close(model(ids), expected)
        cache = model.new_cache(2)
        pieces = [model(ids[:, a:b], cache=cache) for a, b in ((0, 512), (512, 1024), (1024, 1500))]
        assert_close(np.concatenate(pieces, axis=1), expected)


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


def test_bad_window(tmp_path: Path) -> None:
    directory = save(reference_model("mistral", **SMALL), tmp_path, sliding_window=0)
    with pytest.raises(ConfigError, match="sliding_window = 0, but a token sees at least itself"):
        load(directory)
