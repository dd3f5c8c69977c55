"""Two threads of one process: each gets what it would get alone, and hears only its own taps.

Logits may differ in their last bits: while one thread divides its work, BLAS runs on one thread for all of
the process, and cuts a product elsewhere. Token ids are the same.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from parity import assert_close, random_ids, reference_model, save
from small_models import DENSE, EXPERTS, small_model

import tinystar_np as ts
from tinystar_np.fast import threads
from tinystar_np.fast.threads import FEWEST_ROWS

NAMES = [
    "rope, groups",
    "window",
    "latent attention",
    "mamba 1",
    "delta rule",
    "mamba 2 and attention",
    "experts, sinks, window",
]
SHORT, LONG = random_ids(9, seed=1).tolist(), random_ids(FEWEST_ROWS + 20, seed=2).tolist()
GREEDY: dict[str, Any] = {"temperature": 0.0}
SEEDED: dict[str, Any] = {"temperature": 1.2, "top_p": 0.9, "seed": 11}


@pytest.fixture(autouse=True)
def often() -> Iterator[None]:
    """Let Python change threads fifty times as often as it usually does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def at_once(*jobs: Callable[[], Any]) -> list[Any]:
    """Run each job in a thread of its own, all from the same moment; their results, or what one raised."""
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        start.wait(60)
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def test_the_names_are_there() -> None:
    assert set(NAMES) <= set(DENSE | EXPERTS)


@pytest.mark.parametrize("name", NAMES)
def test_two_generations(name: str) -> None:
    """A long prompt, whose work is divided among threads, and a short one with more tokens to follow."""
    model = small_model(name)
    jobs = [
        lambda: ts.generate_ids(model, LONG, max_new_tokens=5, **GREEDY),
        lambda: ts.generate_ids(model, SHORT, max_new_tokens=30, **SEEDED),
        lambda: ts.generate_ids(model, [SHORT, LONG[:30], SHORT[:1]], max_new_tokens=10, **SEEDED),
    ]
    alone = [job() for job in jobs]
    assert at_once(*jobs) == alone
    assert at_once(jobs[0], jobs[0], jobs[1]) == [alone[0], alone[0], alone[1]]


@pytest.mark.parametrize("name", NAMES)
def test_a_recorder_hears_its_own_thread(name: str) -> None:
    model = small_model(name)
    ids = random_ids(7, seed=3)

    def recorded() -> Any:
        with ts.record() as caught:
            for _ in range(5):
                model(ids)
        return caught

    def generated() -> list[int]:
        return ts.generate_ids(model, SHORT, max_new_tokens=40, **SEEDED)

    alone, text = recorded(), generated()
    assert len(alone) > 10
    caught, new, also_caught = at_once(recorded, generated, recorded)
    assert new == text
    for found in (caught, also_caught):
        assert list(found) == list(alone)  # in the same order: nobody else's scopes either
        for path in alone:
            assert found[path].shape == alone[path].shape
            np.testing.assert_allclose(found[path], alone[path], rtol=1e-4, atol=1e-5)


def test_patterns_are_each_threads_own() -> None:
    model = small_model("rope, groups")

    def recorded(pattern: str, ids: np.ndarray) -> Any:
        with ts.record(pattern) as caught:
            for _ in range(20):
                model(ids)
        return {path: array.shape for path, array in caught.items()}

    first, second = at_once(
        lambda: recorded("blocks.*.attention.scores", random_ids(5)),
        lambda: recorded("logits", random_ids(2, 8)),
    )
    assert first == {f"blocks.{i}.attention.scores": (1, 6, 5, 5) for i in range(2)}
    assert second == {"logits": (2, 8, 211)}


def test_caches_of_one_model() -> None:
    """Token by token in both threads, each with a cache of its own that grows meanwhile."""
    model = small_model("mamba 2 and attention")

    def read(seed: int) -> np.ndarray:
        cache = model.new_cache()
        return np.concatenate([model(one, cache=cache) for one in random_ids(100, 1, seed=seed)])

    for found, seed in zip(at_once(lambda: read(5), lambda: read(6)), (5, 6), strict=True):
        assert_close(found, model(random_ids(100, seed=seed)))


@pytest.mark.parametrize("dtype", ["auto", "int8"])
def test_loading_at_once(dtype: str, tmp_path: Any) -> None:
    directory = save(reference_model(*DENSE["rope, groups"][:1], **DENSE["rope, groups"][1]), tmp_path)
    ids = random_ids(30)
    expected = ts.load(directory, dtype)[0](ids)

    def loaded() -> np.ndarray:
        return ts.load(directory, dtype)[0](ids)

    for found in at_once(loaded, loaded, loaded):
        assert_close(found, expected)


def test_the_shipped_model_loaded_and_used_at_once() -> None:
    def told(prompt: str) -> str:
        model, tokenizer = ts.load("stories")
        return ts.generate(model, tokenizer, prompt, max_new_tokens=15, temperature=0.0)

    prompts = ["Once upon a time", "The dog was"]
    assert at_once(*(lambda prompt=prompt: told(prompt) for prompt in prompts)) == [told(p) for p in prompts]


class FourThreads:
    """A BLAS as threadpoolctl shows it; like the real ones, its number of threads is the whole process's."""

    number = 4

    @property
    def lib_controllers(self) -> list["FourThreads"]:
        return [self]

    def select(self, user_api: str) -> "FourThreads":
        return self

    def get_num_threads(self) -> int:
        return self.number

    def set_num_threads(self, number: int) -> None:
        self.number = number


def test_how_many_threads_there_are_is_asked_while_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two first prompts at once: the later one must not take the earlier one's single BLAS thread for all."""
    blas = FourThreads()
    monkeypatch.setattr("threadpoolctl.ThreadpoolController", lambda: blas)
    threads._machine.cache_clear()
    dividing, finish = threading.Event(), threading.Event()

    def hold(piece: int) -> None:
        dividing.set()
        finish.wait(10)

    def ask() -> int:
        dividing.wait(10)
        threading.Timer(0.2, finish.set).start()
        # What a thread gets that began to ask before the first was done.
        return threads._machine.__wrapped__().threads

    try:
        _, counted = at_once(lambda: threads.divided(hold, [0, 1]), ask)
    finally:
        threads._machine.cache_clear()
    assert blas.number == 4
    assert counted == 4
