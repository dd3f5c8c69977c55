"""Work divided among threads: the same results, faults that surface, and BLAS left as it was."""

import threading
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tinystar_np.loading import load
from tinystar_np.threads import FEWEST_ROWS, by_rows, divided, slices


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.mark.parametrize("rows", [1, 2 * FEWEST_ROWS - 1, 2 * FEWEST_ROWS, 301])
def test_rows_give_the_same_divided(rows: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, rows, 8)), rng.standard_normal((2, rows, 3))
    seen: list[tuple[int, str]] = []

    def function(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        seen.append((len(x), threading.current_thread().name))
        return x.sum(-1, keepdims=True) * y

    np.testing.assert_array_equal(by_rows(function, a, b, width=3), a.sum(-1, keepdims=True) * b)
    if 2 * rows >= 2 * FEWEST_ROWS:
        assert sum(count for count, _ in seen) == 2 * rows
        assert len(seen) == len(slices(2 * rows))


def test_a_fault_in_a_thread_surfaces_and_blas_is_left_as_it_was() -> None:
    before = blas_threads()

    def fail(piece: int) -> None:
        raise ValueError(piece)

    with pytest.raises(ValueError, match="0"):
        divided(fail, [0, 1])
    assert blas_threads() == before


def test_slices_cover_everything_once() -> None:
    for length in (1, 2, 3, 12, 513):
        covered = [i for part in slices(length) for i in range(length)[part]]
        assert covered == list(range(length))


def test_two_threads_share_a_model(save_gpt2: Any) -> None:
    _, directory = save_gpt2(n_positions=400)
    model, _ = load(directory)
    prompts = [np.random.default_rng(seed).integers(0, 211, 300) for seed in (1, 2)]
    alone = [model(prompt) for prompt in prompts]
    found: dict[int, np.ndarray] = {}

    def run(i: int) -> None:
        for _ in range(3):
            found[i] = model(prompts[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in (0, 1):
        np.testing.assert_array_equal(found[i], alone[i])


def test_one_blas_thread_or_many_agree(save_gpt2: Any) -> None:
    _, directory = save_gpt2(n_positions=400)
    model, _ = load(directory)
    ids = np.random.default_rng(1).integers(0, 211, 300)
    expected = model(ids)
    with threadpool_limits(1):
        found = model(ids)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
