"""Fewer threads under load: the decisions on scripted times, and where no decision may be taken.

No real time is measured here: a clock is moved on by what a token takes in a made-up machine.
"""

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import tinystar_np.threads as threads
from tinystar_np.generation import generate_ids, pace
from tinystar_np.generation.loop import run
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.generation.pace import FIRST, Pace, at_pace
from tinystar_np.threads import NAMED_IN, at_most, shares, use_threads
from tinystar_np.tracing import record

Token = tuple[float, float]  # seconds, and for how many of them each thread had a core
Machine = Callable[[int, int], Token]  # token, threads → how it went

QUIET = {2: (0.016, 0.9), 1: (0.020, 1.0)}
BUSY = {2: (0.030, 0.55), 1: (0.021, 0.99)}  # SmolLM2's shape with one busy process on two cores


def tokens(machine: Machine, count: int, most: int = 2) -> tuple[list[int], float]:
    """Generate on a made-up machine: the threads of each token, and the seconds of all."""
    judge, used, total = Pace(most), [], 0.0
    for token in range(count):
        used.append(judge.threads)
        seconds, share = machine(token, judge.threads)
        judge.told(seconds, seconds * share * judge.threads)
        total += seconds
    return used, total


def test_a_quiet_machine_is_left_alone() -> None:
    used, _ = tokens(lambda token, threads: QUIET[threads], 2000)
    assert set(used) == {2}


def test_single_slow_tokens_are_no_load() -> None:
    used, _ = tokens(lambda token, threads: (0.2, 0.9) if token % 7 == 0 else QUIET[threads], 2000)
    assert set(used) == {2}


@pytest.mark.parametrize("count", [20, 64, 256, 2000])
def test_busy_from_the_start(count: int) -> None:
    """Never slower than one thread by more than a tenth, after the first few tokens."""
    used, seconds = tokens(lambda token, threads: BUSY[threads], count)
    assert set(used[:3]) == {2}
    assert set(used[3 : 3 + FIRST]) == {1}
    assert seconds - 3 * BUSY[2][0] < 1.1 * (count - 3) * BUSY[1][0]


def test_all_threads_are_tried_again_less_and_less_often() -> None:
    used, _ = tokens(lambda token, threads: BUSY[threads], 3000)
    starts = [i for i in range(1, 3000) if used[i] == 2 and used[i - 1] == 1]
    gaps = np.diff(starts)
    assert all(later >= earlier for earlier, later in pairwise(gaps))
    assert gaps[0] < 3 * FIRST
    assert used.count(2) < 40


def test_a_neighbour_comes_and_goes() -> None:
    used, _ = tokens(lambda token, threads: (BUSY if 300 <= token < 600 else QUIET)[threads], 1500)
    assert set(used[:300]) == {2}
    assert used[310:590].count(1) > 250
    assert set(used[-300:]) == {2}


def test_many_cores_of_which_one_is_taken() -> None:
    """There the time that was given hardly differs; that tokens take longer than before says it."""

    def machine(token: int, threads: int) -> Token:
        slow = threads == 8 and token >= 100
        return (0.030 if slow else 0.010 if threads == 8 else 0.013), 0.85

    used, _ = tokens(machine, 300, most=8)
    assert set(used[:100]) == {8}
    assert used[110:200].count(4) > 80


def test_a_model_that_never_uses_all_cores_is_hardly_disturbed() -> None:
    """Scans run on one core: the time given is low, and still all threads are faster."""
    used, _ = tokens(lambda token, threads: (0.020, 0.6) if threads == 2 else (0.028, 1.0), 1000)
    assert 0 < used.count(1) < 25


def test_a_growing_text_is_no_load() -> None:
    """Its tokens become three times as slow in the course of time."""
    used, _ = tokens(lambda token, threads: (QUIET[threads][0] * (1 + token / 1000), 0.9), 2000)
    assert used.count(1) < 15


def test_short_tokens_are_not_looked_at() -> None:
    used, _ = tokens(lambda token, threads: (0.001, 0.5), 500)
    assert set(used) == {2}


# In the loop

ENDLESS = {"max_new_tokens": 40, "temperature": 0.0}


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


class Clock:
    """Time that passes as the model says."""

    def __init__(self) -> None:
        self.now = self.computed = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.computed


class Model:
    """Scores without a model, in the time that a token takes on a busy machine."""

    context_length = None
    end_ids = ()

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.used: list[int] = []

    def new_cache(self, batch_size: int = 1, capacity: int = 0) -> Any:
        return None

    def __call__(self, ids: Any, cache: Any = None, last_only: bool = False) -> np.ndarray:
        (number,) = blas_threads()
        assert len(shares(10)) == number  # our own threads are as many
        self.used.append(number)
        seconds, share = BUSY[number]
        self.clock.now += seconds
        self.clock.computed += seconds * share * number
        return np.eye(8, dtype=np.float32)[np.asarray(ids) % 8]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """A machine of two cores where nobody has named a number of threads."""
    for name in NAMED_IN:
        monkeypatch.delenv(name, raising=False)
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    monkeypatch.setattr(pace, "usable_cores", lambda: 2)
    with threadpool_limits():  # takes back what is set meanwhile
        use_threads(2)
        monkeypatch.setattr(threads, "_chosen", False)
        yield Model(clock)
    threads._machine.cache_clear()


def test_generating_under_load(model: Model) -> None:
    assert len(generate_ids(model, [1, 2], **ENDLESS)) == 40
    assert model.used[0] == 2  # the prompt
    assert model.used[1:4] == [2, 2, 2]
    assert set(model.used[4 : 4 + FIRST]) == {1}
    assert blas_threads() == {2}
    assert len(shares(10)) == 2


def test_between_two_tokens_and_after_a_fault_all_threads_are_there(model: Model) -> None:
    for _ in run(model, [[1, 2]], None, SamplingOptions(**ENDLESS)):
        assert blas_threads() == {2}
    assert 1 in model.used

    def fail() -> None:
        with at_most(1):
            raise ValueError("in the model")

    with pytest.raises(ValueError, match="in the model"):
        fail()
    assert blas_threads() == {2}


def test_nobody_gets_more_than_was_allowed_otherwise(model: Model) -> None:
    with threadpool_limits(1):
        with at_most(2):
            assert blas_threads() == {1}
        assert blas_threads() == {1}


def test_a_text_that_is_to_be_repeatable_keeps_its_threads(model: Model) -> None:
    generate_ids(model, [1, 2], seed=0, **ENDLESS)
    assert set(model.used) == {2}


def test_a_number_that_was_named_is_kept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMED_IN:
        with monkeypatch.context() as patch:
            patch.setenv(name, "2")
            generate_ids(model, [1, 2], **ENDLESS)
    use_threads(2)
    generate_ids(model, [1, 2], **ENDLESS)
    assert set(model.used) == {2}


def test_whoever_listens_or_is_not_obeyed_keeps_the_threads(model: Model) -> None:
    with record():
        generate_ids(model, [1, 2], **ENDLESS)
    other = threading.Thread(target=generate_ids, args=(model, [1, 2]), kwargs=ENDLESS)
    other.start()
    other.join()
    assert len(model.used) == 2 * 40
    assert set(model.used) == {2}


def test_one_core_leaves_no_choice(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "usable_cores", lambda: 1)
    assert at_pace(model, SamplingOptions()) is model
