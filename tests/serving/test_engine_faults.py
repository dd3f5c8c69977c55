"""Faults around an engine, at the worst moment: nobody waits for ever, and the others are served."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_models import small_model

import tinystar_np as ts
from tinystar_np.errors import EngineClosedError, RequestTimeoutError
from tinystar_np.models import Decoder
from tinystar_np.serving.engine import work
from tinystar_np.serving.handle import Handle
from tinystar_np.serving.statistics import Turn

LONG = 60  # seconds, which nothing here takes


@pytest.fixture(scope="module")
def model() -> Decoder:
    return small_model("rope, groups")


class Between(deque):
    """A queue; something happens just before it is looked at for the first time."""

    def __init__(self, happens: Callable[[], Any]) -> None:
        super().__init__()
        self._happens: Callable[[], Any] | None = happens

    def __len__(self) -> int:
        happens, self._happens = self._happens, None
        if happens:
            happens()
        return super().__len__()


def turns(engine: ts.Engine) -> int:
    """Let an engine work until nothing is left; returns how many calls that took."""
    count = 0
    while engine.turn():
        count += 1
    return count


def test_cancelled_before_it_was_seen(model: Decoder) -> None:
    """Both come while the engine is about to look for cancellations."""
    engine = ts.Engine(model, own_thread=False)
    handles: list[Handle] = []

    def ask_and_cancel() -> None:
        handles.append(engine.submit([5, 6], max_new_tokens=50, temperature=0))
        handles[0].cancel()

    engine._cancelled = Between(ask_and_cancel)
    assert turns(engine) < 3
    assert handles[0].ended
    assert engine.statistics().finished == {"cancelled": 1}


def test_a_time_limit_that_is_over_at_once(model: Decoder) -> None:
    engine = ts.Engine(model, own_thread=False)
    handle = engine.submit([5, 6], max_new_tokens=50, timeout=0)
    assert turns(engine) == 0
    with pytest.raises(RequestTimeoutError):
        handle.result(0)
    assert not engine._deadlines


def test_closed_while_somebody_submits(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was let in is served, or told that he is not."""
    engine = ts.Engine(model)
    check, closing = engine._check_open, threading.Thread(target=engine.close)

    def check_and_close() -> None:
        check()
        if engine._lock.locked() and not closing.is_alive():
            closing.start()
            closing.join(0.3)  # as long as close has to wait for whoever submits

    monkeypatch.setattr(engine, "_check_open", check_and_close)
    handle = engine.submit([5, 6], max_new_tokens=5, temperature=0)
    closing.join(LONG)
    assert handle.ended
    monkeypatch.undo()
    with pytest.raises(EngineClosedError):
        engine.submit([5, 6])


def test_an_event_loop_that_is_gone(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited in it went away with it; the engine serves the others."""
    with ts.Engine(model) as engine:
        handle = engine.submit([5, 6], max_new_tokens=400, seed=0)
        loop = asyncio.new_event_loop()
        pieces = aiter(handle)
        loop.run_until_complete(anext(pieces))
        loop.close()
        monkeypatch.setattr(loop, "is_closed", lambda: False)  # as it looks just before
        assert handle.result(LONG) is not None
        assert engine.submit([5, 6], max_new_tokens=3, temperature=0).result(LONG) is not None


def test_ctrl_c_in_the_thread_that_works(model: Decoder) -> None:
    def fail(turn: Turn) -> None:
        raise KeyboardInterrupt

    engine = ts.Engine(model, own_thread=False, on_turn=fail)
    handle = engine.submit([5, 6], max_new_tokens=5)
    with pytest.raises(KeyboardInterrupt):
        work([engine])
    with pytest.raises(EngineClosedError, match="ended by an error"):
        handle.result(0)
    with pytest.raises(EngineClosedError):
        engine.submit([5, 6])


def test_an_error_of_the_model_ends_the_texts_of_its_call(
    model: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are generated already, and those that wait, go on."""
    engine = ts.Engine(model, own_thread=False, max_batch=2)
    settings: dict[str, Any] = {"max_new_tokens": 9, "temperature": 0.0}
    first = engine.submit([5, 6], **settings)
    engine.turn()
    bad, last = engine.submit([7, 77, 8], **settings), engine.submit([5, 7], **settings)
    call = type(model).__call__

    def broken(self: Decoder, ids: np.ndarray, *given: Any, **named: Any) -> Any:
        if 77 in ids:
            raise MemoryError("no room")
        return call(self, ids, *given, **named)

    monkeypatch.setattr(type(model), "__call__", broken)
    turns(engine)
    with pytest.raises(MemoryError):
        bad.result(0)
    monkeypatch.undo()
    for handle in (first, last):
        assert handle.token_ids == ts.generate_ids(model, handle.ids, **settings)
    assert engine.statistics().blocks_in_use == 0


def test_an_error_of_one_text_ends_it_alone(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is."""
    engine = ts.Engine(model, own_thread=False)
    handles = [engine.submit([5, n], max_new_tokens=9, temperature=0) for n in range(3)]
    engine._take_in()

    def broken(*given: Any) -> Any:
        raise ValueError("nothing can be drawn")

    monkeypatch.setattr(engine._requests[handles[1]].row, "step", broken)
    turns(engine)
    with pytest.raises(ValueError, match="nothing can be drawn"):
        handles[1].result(0)
    for handle in handles[::2]:
        assert handle.token_ids == ts.generate_ids(model, handle.ids, max_new_tokens=9, temperature=0)


def test_a_prompt_that_fills_the_cache(model: Decoder) -> None:
    memory = model.new_cache(1, 16).nbytes * 3
    with ts.Engine(model, cache_memory=memory) as engine:
        for length in (46, 47, 48):
            handle = engine.submit([5] * length, max_new_tokens=9, temperature=0)
            handle.result(LONG)
            assert len(handle.pieces) == 49 - length
            assert handle.finish_reason == "context"


def test_scores_are_of_the_prompt_alone(model: Decoder) -> None:
    """A text that loses its place is read again, with the tokens that it has got."""
    engine = ts.Engine(model, cache_memory=model.new_cache(1, 16).nbytes * 5, own_thread=False)
    settings: dict[str, Any] = {"max_new_tokens": 60, "temperature": 0.0}
    handles = [engine.submit([n, 6, 7], score_from=1, **settings) for n in range(5)]
    while engine.turn():
        numbers = [request.number for request in engine._scheduler.waiting]
        assert numbers == sorted(numbers)  # whoever lost its place waits before all that came after it
    assert engine.statistics().preempted
    for handle in handles:
        assert [score.token_id for score in handle.scores] == [6, 7]
        assert handle.token_ids == ts.generate_ids(model, handle.ids, **settings)


def test_statistics_stay_as_they_were(model: Decoder) -> None:
    engine = ts.Engine(model, own_thread=False)
    before = engine.statistics()
    engine.submit([5, 6], max_new_tokens=2, temperature=0)
    turns(engine)
    after = engine.statistics()
    assert (before.generated_tokens, before.steps, before.finished) == (0, 0, {})
    assert (after.generated_tokens, after.steps, after.finished) == (2, 2, {"length": 1})


def test_closing_at_once_after_closing_slowly(model: Decoder) -> None:
    engine = ts.Engine(model, own_thread=False)
    handle = engine.submit([5, 6], max_new_tokens=50, seed=0)
    engine.close(drain=True)
    assert engine.turn()
    assert not handle.ended
    engine.close()
    engine.close(drain=True)  # too late
    assert not engine.turn()
    assert handle.ended
    assert engine.is_done


def test_who_begins_later_keeps_his_place(model: Decoder) -> None:
    """Others that came after it do not overtake it while it waits for what another text reads."""
    engine = ts.Engine(model, own_thread=False, max_batch=2)
    base, order = [n % 90 + 3 for n in range(300)], []
    handles = [
        engine.submit(ids, max_new_tokens=1, temperature=0) for ids in (base, [*base, 5], [7, 8], [7, 9])
    ]
    while engine.turn():
        order += [handle for handle in handles if handle.ended and handle not in order]
    assert order == handles
    assert handles[1].usage.cached == 288
