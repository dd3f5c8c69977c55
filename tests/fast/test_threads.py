"""Work divided among threads: the same results, faults that surface, and BLAS left as it was."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import tinystar_np.fast.machine as usable
import tinystar_np.fast.threads as threads
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import InputError
from tinystar_np.fast.machine import usable_cores
from tinystar_np.fast.threads import FEWEST_ROWS, beside_others, divided, shares, slices, use_threads
from tinystar_np.generation import Conversation, Piece, generate_ids
from tinystar_np.generation.loop import run
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.loading import load
from tinystar_np.seeing import record


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
    assert names[0][1] == threading.current_thread().name  # it takes a piece itself
    assert all(name.startswith("tinystar_np") for _, name in names[1:])
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
            for module in ("fast.threads", "fast.elementwise"):
                patch.setattr(f"tinystar_np.{module}.slices", cut)
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


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody has named a number of threads; afterwards there are as many as before."""
    for name in threads.NAMED_IN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_chosen", None)
    with threadpool_limits():  # takes back what is set meanwhile
        yield
    threads._machine.cache_clear()


@pytest.mark.usefixtures("as_before")
def test_threads_are_as_many_as_asked_for_before_and_after_first_use() -> None:
    for count in (3, 1, 2):
        use_threads(count)
        assert set(blas_threads()) == {count}
        assert len(shares(10)) == count
        assert divided(lambda piece: piece * 2, [1, 2, 3, 4]) == [2, 4, 6, 8]
        assert set(blas_threads()) == {count}


@pytest.mark.usefixtures("as_before")
def test_results_do_not_depend_on_the_number_of_threads(save_gpt2: Any) -> None:
    _, directory = save_gpt2(n_positions=600)
    model, _ = load(directory)
    ids = np.random.default_rng(1).integers(0, 211, 520)
    expected = model(ids)
    for count in (1, 3):
        use_threads(count)
        assert np.abs(model(ids) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.usefixtures("as_before")
def test_the_number_changes_while_others_compute() -> None:
    """Work in hand goes on, and does not bring the old number back."""
    use_threads(2)
    begun, finish = threading.Event(), threading.Event()

    def hold(piece: int) -> int:
        begun.set()
        assert finish.wait(10)
        return piece

    found: list[int] = []
    worker = threading.Thread(target=lambda: found.extend(divided(hold, [5, 6])))
    worker.start()
    assert begun.wait(10)
    threading.Timer(0.1, finish.set).start()
    use_threads(3)  # waits until the work is done
    assert finish.is_set()
    worker.join(10)
    assert found == [5, 6]
    assert set(blas_threads()) == {3}
    assert len(shares(10)) == 3


def test_numbers_that_are_none() -> None:
    for count in (0, -1):
        with pytest.raises(InputError, match="1 or more"):
            use_threads(count)
    for given in ("0", "-1", "two", "1.5"):
        with pytest.raises(SystemExit) as exit_:
            tinystar(["ask", f"--threads={given}", "hi"])
        assert exit_.value.code == 2


@pytest.mark.usefixtures("as_before")
def test_the_commands_take_the_number(talking_model: Path, capsys: Any) -> None:
    config = "hidden_size: 32\nnum_layers: 1\nnum_heads: 4\n"
    (talking_model / "one.yaml").write_text(config)
    assert tinystar(["ask", "-m", str(talking_model), "--threads", "1", "-n", "1", "hi"]) == 0
    assert set(blas_threads()) == {1}
    short = ["--tokens", "4", "--new", "2", "--rounds", "1"]
    assert tinystar(["experiments", str(talking_model / "one.yaml"), "--threads", "3", *short]) == 0
    assert set(blas_threads()) == {3}
    assert "3 threads" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("as_before")
def test_a_quota_is_kept_to_where_nobody_has_named_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "allowed_cores", lambda: 8)
    monkeypatch.setattr(usable, "allowed_cores", lambda: 8)
    use_threads(4)
    monkeypatch.setattr(threads, "_chosen", None)
    use_threads()
    assert set(blas_threads()) == {4}  # there is no quota
    monkeypatch.setattr(usable, "_cores", lambda group: 2.5)
    assert usable_cores() == 3
    with monkeypatch.context() as patch:
        patch.setenv("OPENBLAS_NUM_THREADS", "4")
        use_threads()
        assert set(blas_threads()) == {4}
    use_threads()
    assert set(blas_threads()) == {3}
    use_threads(1)
    use_threads()
    assert set(blas_threads()) == {1}
    monkeypatch.setattr(threads, "_chosen", None)
    use_threads()  # nobody gets more than BLAS was told otherwise
    assert set(blas_threads()) == {1}


def test_the_usual_start_does_not_look_for_blas(talking_model: Path) -> None:
    """threadpoolctl takes time to import, which an answer to a short prompt must not wait for."""
    program = (
        "import sys, tinystar_np as ts; ts.load(sys.argv[1]); import tinystar_np.fast.threads as t; "
        "t.usable_cores() < t.allowed_cores() or 'threadpoolctl' not in sys.modules or sys.exit('imported')"
    )
    environment = {name: value for name, value in os.environ.items() if name not in threads.NAMED_IN}
    subprocess.run([sys.executable, "-c", program, str(talking_model)], env=environment, check=True)


class Others:
    """Other processes that take as many cores as is said, of as many as this process may run on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cores: int = 2) -> None:
        self.taken = 0.0
        monkeypatch.setattr(threads, "_cores_taken", lambda: lambda: self.taken)
        for name in ("allowed_cores", "usable_cores"):
            monkeypatch.setattr(threads, name, lambda: cores)
        use_threads(cores)
        monkeypatch.setattr(threads, "_chosen", None)


def used(*_: Any) -> int:
    """Say how many threads there are: BLAS's, and as many of ours."""
    (number,) = set(blas_threads())
    assert len(shares(100)) == number
    assert divided(lambda piece: piece, range(3)) == [0, 1, 2]
    assert set(blas_threads()) == {number}
    return number


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize("cores", [2, 4])
def test_others_keep_their_cores(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    others = Others(monkeypatch, cores)
    call = beside_others(used)
    for taken, expected in [
        (0, 0),
        (0.1, 0),
        (0.39, 0),
        (0.5, 1),
        (1, 1),
        (1.3, 1),
        (1.6, 2),
        (40, 40),
        (0.2, 0),
    ]:
        others.taken = taken
        assert call() == max(1, cores - expected)
        assert used() == cores  # as before, between its calls


@pytest.mark.usefixtures("as_before")
def test_a_quota_and_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores' time on eight cores: others may take six."""
    others = Others(monkeypatch, 2)
    monkeypatch.setattr(threads, "allowed_cores", lambda: 8)
    call = beside_others(used)
    for taken, expected in [(0, 2), (6, 2), (7, 1), (8, 1)]:
        others.taken = taken
        assert call() == expected


@pytest.mark.usefixtures("as_before")
def test_all_threads_are_back_after_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    Others(monkeypatch).taken = 1

    def fail() -> None:
        assert used() == 1
        raise ValueError("in the model")

    with pytest.raises(ValueError, match="in the model"):
        beside_others(fail)()
    assert used() == 2


@pytest.mark.usefixtures("as_before")
def test_nobody_gets_more_threads_than_was_allowed_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    Others(monkeypatch, 4).taken = 1
    with threadpool_limits(2):
        assert beside_others(lambda: blas_threads()[0])() == 2
        assert set(blas_threads()) == {2}


@pytest.mark.usefixtures("as_before")
def test_a_number_that_somebody_counts_on_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was named, that of whoever listens, and where OpenBLAS would not obey."""
    Others(monkeypatch).taken = 1
    assert beside_others(used)() == 1
    for name in threads.NAMED_IN:
        with monkeypatch.context() as patch:
            patch.setenv(name, "2")
            assert beside_others(used) is used
    with record():
        assert beside_others(used) is used
    found: list[bool] = []
    other = threading.Thread(target=lambda: found.append(beside_others(used) is used))
    other.start()
    other.join(10)
    assert found == [True]
    use_threads(2)
    assert beside_others(used) is used
    monkeypatch.setattr(threads, "_chosen", None)
    monkeypatch.setattr(threads, "usable_cores", lambda: 1)
    assert beside_others(used) is used


def stream_ids(model: Any, prompt: list[int], **sampling: Any) -> Iterator[Piece]:
    return run(model, [prompt], None, SamplingOptions(**sampling))


class Counting:
    """A model that notes with how many threads it is called, and for how many tokens."""

    context_length = None
    end_ids = ()

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def new_cache(self, batch_size: int = 1, capacity: int = 0) -> Any:
        forget = alike = lambda tokens: tokens
        return SimpleNamespace(lengths=np.zeros(1, int), rewindable=True, truncate=forget, alike=alike)

    def __call__(self, ids: Any, cache: Any = None, last_only: bool = False) -> np.ndarray:
        self.calls.append((np.size(ids), used()))
        scores = np.eye(8, dtype=np.float32)[np.asarray(ids) % 8]
        return scores[:, -1:] if last_only else scores


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize("guesses", [0, 2])
def test_prompts_and_tokens_leave_cores_to_others(guesses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    others, model = Others(monkeypatch), Counting()
    others.taken = 1
    sampling: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": 9, "prompt_lookup_num_tokens": guesses}
    for index, piece in enumerate(stream_ids(model, [1, 2], **sampling)):
        assert piece.token_id == 2
        others.taken = 0 if 2 < index < 6 else 1
        assert set(blas_threads()) == {2}  # between two tokens they are the caller's
    assert model.calls[0] == (2, 1)  # the prompt
    assert {number for _, number in model.calls} == {1, 2}
    assert model.calls[-1][1] == 1


@pytest.mark.usefixtures("as_before")
def test_a_text_with_a_seed_keeps_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    others, model = Others(monkeypatch), Counting()
    others.taken = 1
    for temperature in (0.0, 1.0):
        generate_ids(model, [1, 2], temperature=temperature, max_new_tokens=5, seed=7)
    assert {number for _, number in model.calls} == {2}


@pytest.mark.usefixtures("as_before")
def test_a_conversation_leaves_cores_to_others(talking_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    (talking_model / "chat_template.jinja").write_text(template)
    model, tokenizer = load(talking_model)
    others = Others(monkeypatch)
    others.taken = 1
    found: list[int] = []
    plain = type(model).__call__

    def watched(self: Any, *given: Any, **named: Any) -> Any:
        found.append(used())
        return plain(self, *given, **named)

    monkeypatch.setattr(type(model), "__call__", watched)
    for seed, expected in ((None, 1), (3, 2)):
        found.clear()
        list(Conversation(model, tokenizer).say("hi", max_new_tokens=4, temperature=0.0, seed=seed))
        assert set(found) == {expected}


@pytest.mark.parametrize("given", [None, "4", "26", ""])
def test_how_long_blas_watches_for_work_is_the_users_choice(given: str | None) -> None:
    """OpenBLAS reads it when NumPy is imported, so it must be there before."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    environment |= {} if given is None else {"OPENBLAS_THREAD_TIMEOUT": given}
    program = (
        "import os, sys, tinystar_np; assert 'numpy' not in sys.modules; "
        "print(os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ("16" if given is None else given)
