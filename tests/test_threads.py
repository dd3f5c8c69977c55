"""Work divided among threads: the same results, faults that surface, and BLAS left as it was."""

import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import tinystar_np.threads as threads
from tinystar_np.loading import load
from tinystar_np.threads import FEWEST_ROWS, divided, slices
from tinystar_np.tracing import record


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_slices_cover_everything_once() -> None:
    for count in (1, 2, 3, 12, 513):
        parts = slices(count, rows=FEWEST_ROWS)
        assert [i for part in parts for i in range(count)[part]] == list(range(count))
    assert slices(12, rows=FEWEST_ROWS - 1) == [slice(0, 12)]
    with record():
        assert slices(12, rows=FEWEST_ROWS) == [slice(0, 12)]


def test_results_come_in_order_and_from_threads() -> None:
    names = divided(lambda piece: (piece, threading.current_thread().name), [1, 20, 300])
    assert [piece for piece, _ in names] == [1, 20, 300]
    assert all(name.startswith("tinystar_np") for _, name in names)
    assert divided(lambda piece: threading.current_thread().name, [7]) == [threading.current_thread().name]


def test_a_fault_in_a_thread_surfaces_and_blas_is_left_as_it_was() -> None:
    before = blas_threads()

    def fail(piece: int) -> None:
        raise ValueError(piece)

    with pytest.raises(ValueError, match="0"):
        divided(fail, [0, 1])
    assert blas_threads() == before


@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_divided_is_the_same_as_whole(
    parts: int, last_only: bool, save_gpt2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where heads cannot be divided evenly, and with a cache that holds rows of different lengths."""
    _, directory = save_gpt2(n_positions=500, n_head=6)
    model, _ = load(directory)
    ids = np.random.default_rng(1).integers(0, 211, (2, 130))

    def run(cut: Any) -> list[np.ndarray]:
        with monkeypatch.context() as patch:
            for module in ("attending", "feed_forward"):
                patch.setattr(f"tinystar_np.layers.{module}.slices", cut)
            cache = model.new_cache(2)
            model(ids[:, :5], cache=cache)
            cache.lengths = np.array([5, 3])
            return [model(ids, last_only=last_only), model(ids, cache=cache, last_only=last_only)]

    def cut(count: int, rows: int) -> list[slice]:
        borders = [count * i // parts for i in range(parts + 1)]
        return [slice(a, b) for a, b in pairwise(borders)]

    for whole, shared in zip(run(lambda count, rows: [slice(0, count)]), run(cut), strict=True):
        assert shared.dtype == np.float32
        assert np.abs(whole - shared).max() < 1e-5 * np.abs(whole).max()


def test_two_threads_share_a_model(save_gpt2: Any) -> None:
    _, directory = save_gpt2(n_positions=600)
    model, _ = load(directory)
    prompts = [np.random.default_rng(seed).integers(0, 211, 520) for seed in (1, 2)]
    alone = [model(prompt) for prompt in prompts]
    found: dict[int, np.ndarray] = {}

    def run(i: int) -> None:
        for _ in range(3):
            found[i] = model(prompts[i])

    both = [threading.Thread(target=run, args=(i,)) for i in (0, 1)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    for i in (0, 1):
        np.testing.assert_allclose(found[i], alone[i], rtol=0, atol=1e-5 * np.abs(alone[i]).max())


def test_one_blas_thread_gives_the_same(save_gpt2: Any) -> None:
    _, directory = save_gpt2(n_positions=600)
    model, _ = load(directory)
    ids = np.random.default_rng(1).integers(0, 211, 520)
    expected = model(ids)
    with threadpool_limits(1):
        threads._machine.cache_clear()
        found = model(ids)
    threads._machine.cache_clear()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
