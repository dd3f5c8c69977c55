"""Entries of windows of tokens: grown, copied, joined, saved, and in a pool."""

from pathlib import Path

import numpy as np
import pytest
from parity import assert_close, random_ids, reference_model, save
from parity_rows.deepseek_v4 import CASE

from tinystar_np import generate_ids, load
from tinystar_np.cache import EntriesState
from tinystar_np.cache.pool import Pool
from tinystar_np.cache.pooled_states import fits_a_pool
from tinystar_np.models import Decoder


def entries(rows: int, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, count, 3), dtype=np.float32)


def state_of(count: int, seed: int = 0, capacity: int = 0) -> EntriesState:
    """One row with so many entries of 4 tokens each."""
    state = EntriesState(1, 3, 4, capacity, total=np.full((1, 2), count, np.float32))
    state.append(entries(1, count, seed), np.array([0]), count)
    return state


def test_entries_are_kept_as_they_grow() -> None:
    state, all_ = state_of(0), entries(1, 90)
    for i in range(0, 90, 3):
        found = state.append(all_[:, i : i + 3], np.array([i]), i + 2)
        np.testing.assert_array_equal(found, all_[:, : i + 2])
    assert state_of(0, capacity=40).nbytes == state_of(10, capacity=40).nbytes


def test_rows_are_chosen_and_joined() -> None:
    joined = EntriesState.join([state_of(2), state_of(50, seed=1)])
    np.testing.assert_array_equal(joined.entries[0, :2], entries(1, 2)[0])
    swapped = joined.select(np.array([1, 0]))
    np.testing.assert_array_equal(swapped.entries[0, :50], entries(1, 50, 1)[0])
    assert swapped["total"][:, 0].tolist() == [50, 2]
    swapped.append(entries(2, 1, 2), np.array([50, 2]), 51)
    assert not joined.entries[0, 2].any()  # a copy


def test_saved_and_restored() -> None:
    saved, other = state_of(5), state_of(0)
    other.restore(saved.arrays(23), 23)
    np.testing.assert_array_equal(other.entries, saved.entries[:, :5])
    assert other["total"].tolist() == [[5, 5]]
    with pytest.raises(ValueError, match="entries"):
        other.restore(saved.arrays(23), 19)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    directory = tmp_path_factory.mktemp("deepseek_v4")
    save(reference_model("deepseek_v4", **CASE.config("plain")), directory)
    return load(directory)[0]


def test_texts_in_a_pool_go_on_from_one_another(model: Decoder) -> None:
    assert fits_a_pool(model.new_cache())
    pool = Pool(model, blocks=80, states=6, rows=3, size=4)
    ids = random_ids(1, 60)[0].tolist()
    other = [*ids[:31], *random_ids(1, 20, seed=3)[0].tolist()]
    for text_ids in (ids, other, ids[:45]):
        text = pool.text(text_ids)
        cache = pool.begin(text, text_ids, len(text_ids), len(text_ids) - 1)
        assert cache is not None
        assert pool.make_room(text, len(text_ids))
        start = int(cache.lengths[0])
        found = model(np.array([text_ids[start:]]), cache=cache)
        assert_close(found, model(np.array([text_ids]))[:, start:], what="in a pool")


def test_a_list_of_prompts_is_continued_as_each_alone(model: Decoder) -> None:
    prompts = [random_ids(1, length, seed=length)[0].tolist() for length in (3, 26, 11, 5)]
    alone = [generate_ids(model, prompt, max_new_tokens=12, temperature=0.0) for prompt in prompts]
    together = generate_ids(model, prompts, max_new_tokens=12, temperature=0.0)
    assert [list(ids) for ids in together] == [list(ids) for ids in alone]


def test_a_saved_cache_goes_on(model: Decoder, tmp_path: Path) -> None:
    ids = random_ids(2, 40)
    cache = model.new_cache(2)
    model(ids[:, :23], cache=cache)
    cache.save(tmp_path / "cache")
    found = model(ids[:, 23:], cache=model.load_cache(tmp_path / "cache"))
    assert_close(found, model(ids)[:, 23:])
