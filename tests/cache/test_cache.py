"""The cache: growth, rows of different lengths, interruption, and the end of the context."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinystar_np.cache import KeyValueState, Step, join_caches
from tinystar_np.errors import CheckpointError, ContextFullError, InputError
from tinystar_np.kernels.blockwise_attention import KEY_BLOCK
from tinystar_np.loading import load


@pytest.fixture
def model(save_gpt2: Any) -> Any:
    _, directory = save_gpt2(n_positions=700)
    return load(directory)[0]


def prompt(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 211, length)


def test_it_grows_rarely_and_loses_nothing() -> None:
    rng = np.random.default_rng(0)
    k, v = rng.standard_normal((2, 1, 2, 1000, 4), dtype=np.float32)
    state, moves, keys = KeyValueState(1, 2, 4), 0, None
    for t in range(1000):
        before = state.keys
        keys, values, _ = state.append(k[:, :, t : t + 1], v[:, :, t : t + 1], Step(np.array([t]), 1))
        moves += state.keys is not before
        assert np.shares_memory(keys, state.keys)
    np.testing.assert_array_equal(keys, k)
    np.testing.assert_array_equal(values, v)
    assert moves < 10
    assert state.nbytes <= 2 * 1.5 * k.nbytes


def test_rows_of_different_lengths_are_as_if_alone(model: Any) -> None:
    prompts = [prompt(n, seed=n) for n in (5, 130, 1, 64)]
    alone, singles = [], []
    for ids in prompts:
        cache = model.new_cache()
        model(ids, cache=cache, last_only=True)
        singles.append(cache)
    joined = join_caches(singles)
    assert joined.lengths.tolist() == [5, 130, 1, 64]
    # One token, a few, a piece long enough for the blockwise form, and one again.
    for new in (1, 3, 300, 1):
        ids = prompt(4 * new, seed=new).reshape(4, new)
        alone = np.stack([model(row, cache=cache) for row, cache in zip(ids, singles, strict=True)])
        last = model(ids, cache=joined.select(range(4)), last_only=True)
        together = model(ids, cache=joined)
        assert np.abs(last - together[:, -1:]).max() < 1e-5 * np.abs(together).max()
        assert np.abs(together - alone).max() < 1e-5 * np.abs(alone).max()
    chosen = joined.select([3, 0])
    ids = prompt(2, seed=9).reshape(2, 1)
    alone = np.stack([model(ids[0], cache=singles[3]), model(ids[1], cache=singles[0])])
    assert np.abs(model(ids, cache=chosen) - alone).max() < 1e-5 * np.abs(alone).max()
    assert joined.lengths.tolist() == [310, 435, 306, 369]  # a selection is a copy


def test_pieces_around_the_borders_of_blocks(model: Any) -> None:
    ids = prompt(700)
    whole = model(ids)
    for first in (KEY_BLOCK - 1, KEY_BLOCK, KEY_BLOCK + 1):
        cache = model.new_cache(capacity=700)
        pieces = [model(ids[:first], cache=cache), model(ids[first:], cache=cache)]
        assert np.abs(np.concatenate(pieces) - whole).max() < 1e-5 * np.abs(whole).max()


def test_a_full_context_is_refused_and_the_cache_stays_usable(model: Any) -> None:
    cache = model.new_cache()
    model(prompt(699), cache=cache)
    with pytest.raises(ContextFullError, match=r"context is 700 tokens: 699 are taken and 2 more"):
        model(prompt(2), cache=cache)
    assert cache.lengths.tolist() == [699]
    model(prompt(1), cache=cache)
    with pytest.raises(ContextFullError, match="0 are taken and 701 more"):
        model(prompt(701))


def test_an_interrupted_call_leaves_the_cache_as_it_was(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = prompt(60)
    cache = model.new_cache()
    model(ids[:20], cache=cache)

    def interrupt(x: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model.blocks[2].feed_forward, "activation", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model(prompt(30, seed=5), cache=cache)
    assert cache.lengths.tolist() == [20]
    expected = model(ids)[20:]
    assert np.abs(model(ids[20:], cache=cache) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "at least one token"),
        ([[[1]]], r"shape \(1, 1, 1\)"),
        ([0.5], "float64"),
        ([True], "bool"),
        ([3, 211], "token id 211 is outside the vocabulary, 0 to 210"),
        ([-1], "token id -1"),
        ([[1], [2]], "2 rows, but the cache was made for 1"),
    ],
)
def test_bad_ids(model: Any, ids: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model(ids, cache=model.new_cache())


def test_bad_caches(model: Any) -> None:
    with pytest.raises(InputError, match="batch_size = 0"):
        model.new_cache(0)
    with pytest.raises(InputError, match="one or more caches"):
        join_caches([])


def test_a_copy_goes_its_own_way(model: Any) -> None:
    cache = model.new_cache()
    model(prompt(30), cache=cache)
    copy = cache.copy()
    model(prompt(5, seed=1), cache=copy)
    assert (cache.lengths.tolist(), copy.lengths.tolist()) == ([30], [35])
    expected = model(np.concatenate([prompt(30), prompt(7, seed=2)]))[30:]
    assert np.abs(model(prompt(7, seed=2), cache=cache) - expected).max() < 1e-5 * np.abs(expected).max()


def test_truncated(model: Any) -> None:
    cache = model.new_cache()
    ids = prompt(60)
    model(ids, cache=cache)
    cache.truncate(70)
    assert cache.lengths.tolist() == [60]
    cache.truncate(25)
    assert cache.lengths.tolist() == [25]
    other = prompt(20, seed=3)
    expected = model(np.concatenate([ids[:25], other]))[25:]
    assert np.abs(model(other, cache=cache) - expected).max() < 1e-5 * np.abs(expected).max()
    with pytest.raises(InputError, match="length = -1"):
        cache.truncate(-1)


def test_saved_and_loaded(model: Any, tmp_path: Path) -> None:
    """Rows of different lengths; what the loaded cache goes on with is what the saved one does."""
    caches = [model.new_cache(capacity=200) for _ in range(2)]
    for length, cache in zip((70, 9), caches, strict=True):
        model(prompt(length, seed=length), cache=cache)
    cache = join_caches(caches)
    path = tmp_path / "prompt.cache"
    cache.save(path)
    assert path.stat().st_size < 1.1 * 2 * 3 * 2 * 70 * 48 * 4  # without the room for more
    loaded = model.load_cache(str(path))
    assert loaded.lengths.tolist() == [70, 9]
    for new in (1, 100, 1):
        ids = prompt(2 * new, seed=new).reshape(2, new)
        expected = model(ids, cache=cache)
        np.testing.assert_array_equal(model(ids, cache=loaded), expected)
    assert list(tmp_path.glob("*.partial")) == []


def test_a_file_that_is_no_cache_of_this_model(model: Any, save_gpt2: Any, tmp_path: Path) -> None:
    path = tmp_path / "prompt.cache"
    with pytest.raises(CheckpointError, match=r"prompt.cache: no complete saved cache"):
        model.load_cache(path)
    cache = model.new_cache()
    model(prompt(20), cache=cache)
    cache.save(path)
    other = load(save_gpt2(seed=1, n_positions=700)[1])[0]
    with pytest.raises(CheckpointError, match=r"belongs to another model. Read the prompt again."):
        other.load_cache(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"no complete saved cache"):
        model.load_cache(path)
    with pytest.raises(CheckpointError, match=r"a safetensors file, but no cache"):
        model.load_cache(tmp_path / "model" / "model.safetensors")
    with pytest.raises(CheckpointError, match="cannot be written"):
        cache.save(tmp_path / "nowhere" / "prompt.cache")
