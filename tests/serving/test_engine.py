"""An engine: requests from many threads, each as if it were alone."""

import asyncio
import threading
import time
from typing import Any

import pytest
from engine_company import LONG, PROMPTS, check_company

import tinystar_np as ts
from tinystar_np.errors import (
    ContextFullError,
    EngineClosedError,
    InputError,
    QueueFullError,
    RequestTimeoutError,
)
from tinystar_np.models import Decoder
from tinystar_np.serving.engine import work
from tinystar_np.serving.handle import Handle
from tinystar_np.serving.statistics import Turn
from tinystar_np.text import Tokenizer


@pytest.fixture(scope="module")
def model() -> Decoder:
    return ts.load("stories")[0]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = ts.load("stories")[1]
    assert tokenizer is not None
    return tokenizer


def test_streams_texts_and_ids(model: Decoder, tokenizer: Tokenizer) -> None:
    wanted = ts.generate(model, tokenizer, PROMPTS[0], max_new_tokens=30, temperature=0)
    pieces = list(ts.stream(model, tokenizer, PROMPTS[0], max_new_tokens=30, temperature=0))
    with ts.Engine(model, tokenizer) as engine:
        handle = engine.submit(PROMPTS[0], max_new_tokens=30, temperature=0)
        found = list(handle)
        assert handle.result(LONG) == handle.text == wanted
        assert [piece.token_id for piece in found] == handle.token_ids == [p.token_id for p in pieces]
        assert [piece.text for piece in found] == [piece.text for piece in pieces]
        assert max(abs(a.logprob - b.logprob) for a, b in zip(found, pieces, strict=True)) < 1e-5
        assert handle.finish_reason == pieces[-1].finish_reason == "length"
        assert list(handle) == found  # from the beginning once more
        assert (handle.usage.prompt, handle.usage.cached, handle.usage.generated) == (len(handle.ids), 0, 30)
        assert engine.submit(handle.ids, max_new_tokens=30, temperature=0).result(LONG) == wanted


def test_texts_do_not_depend_on_company(model: Decoder, tokenizer: Tokenizer) -> None:
    with ts.Engine(model, tokenizer, cache_memory=model.new_cache(1, 16).nbytes * 12, max_batch=6) as engine:
        check_company(engine, model, tokenizer, requests=40, most_tokens=60)


def test_logprobs_in_company(model: Decoder, tokenizer: Tokenizer) -> None:
    """Within 1e-5 of those alone, whoever else is in the batch, and where the prefix was cached."""
    settings: dict[str, Any] = {"max_new_tokens": 40, "temperature": 0.0}
    alone = [list(ts.stream(model, tokenizer, prompt, **settings)) for prompt in PROMPTS]
    engine = ts.Engine(model, tokenizer, own_thread=False)
    handles = []
    for number in range(3 * len(PROMPTS)):  # they begin at different steps
        handles.append(engine.submit(PROMPTS[number % len(PROMPTS)], **settings))
        engine.turn()
    while engine.turn():
        pass
    assert engine.statistics().cached_tokens
    for number, handle in enumerate(handles):
        wanted = alone[number % len(PROMPTS)]
        assert handle.token_ids == [piece.token_id for piece in wanted]
        assert [piece.logprob for piece in handle.pieces] == pytest.approx(
            [piece.logprob for piece in wanted], abs=1e-5
        )


def test_asyncio(model: Decoder, tokenizer: Tokenizer) -> None:
    wanted = [ts.generate(model, tokenizer, prompt, max_new_tokens=20, temperature=0) for prompt in PROMPTS]

    async def ask(engine: ts.Engine) -> None:
        texts = await asyncio.gather(
            *(engine.generate(prompt, max_new_tokens=20, temperature=0) for prompt in PROMPTS)
        )
        assert texts == wanted
        handle = engine.submit(PROMPTS[0], max_new_tokens=20, temperature=0)
        assert "".join([piece.text async for piece in handle]) == wanted[0]
        assert "".join([piece.text async for piece in handle]) == wanted[0]
        task = asyncio.create_task(engine.generate(PROMPTS[0], max_new_tokens=400, seed=1))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(200):
            if engine.statistics().generating == 0:
                break
            await asyncio.sleep(0.01)
        assert engine.statistics().finished["cancelled"] == 1

    with ts.Engine(model, tokenizer) as engine:
        asyncio.run(asyncio.wait_for(ask(engine), LONG))


def test_a_cancelled_text_ends_where_it_is(model: Decoder, tokenizer: Tokenizer) -> None:
    with ts.Engine(model, tokenizer) as engine:
        handle = engine.submit(PROMPTS[0], max_new_tokens=400, seed=0, no_repeat_ngram_size=5)
        pieces = []
        for piece in handle:
            pieces.append(piece)
            if len(pieces) == 3:
                handle.cancel()
        assert 3 <= len(pieces) < 400
        assert handle.ended
        assert handle.finish_reason is None
        handle.cancel()  # once more changes nothing
        assert engine.submit(PROMPTS[1], max_new_tokens=3).result(LONG)
        assert engine.statistics().finished["cancelled"] == 1


def test_what_cannot_be_asked(model: Decoder, tokenizer: Tokenizer) -> None:
    with ts.Engine(model, tokenizer, cache_memory="1MB", max_batch=2) as engine:
        with pytest.raises(InputError, match="temperature"):
            engine.submit("Once", temperature=-1)
        with pytest.raises(InputError, match="empty"):
            engine.submit([])
        with pytest.raises(InputError, match="one prompt at a time"):
            engine.submit("Once", temperature=0, prompt_lookup_num_tokens=3)
        with pytest.raises(InputError, match="score_from is 9"):
            engine.submit([1, 2], score_from=9)
        with pytest.raises(ContextFullError):
            engine.submit([1] * 10_000)
        with pytest.raises(InputError, match="logit_bias names token 9999"):
            engine.submit("Once", logit_bias={9999: 1.0})
        with pytest.raises(InputError, match="outside the vocabulary"):
            engine.submit([1, 10**6])
    with pytest.raises(InputError, match="too small"):
        ts.Engine(model, tokenizer, cache_memory=100)
    with pytest.raises(InputError, match="no size"):
        ts.Engine(model, tokenizer, cache_memory="much")
    with pytest.raises(EngineClosedError):
        engine.submit("Once")


def test_a_text_ends_where_the_cache_does(model: Decoder) -> None:
    per_token = model.new_cache(1, 16).nbytes // 16
    with ts.Engine(model, cache_memory=per_token * 48) as engine:
        handle = engine.submit([5] * 40, max_new_tokens=100, temperature=0)
        assert len(list(handle)) == 9  # 48 tokens are read, and one more is only chosen
        assert handle.finish_reason == "context"
        with pytest.raises(ContextFullError, match="engine's cache"):
            engine.submit([5] * 49)


def test_the_queue_is_bounded_and_time_is(model: Decoder, tokenizer: Tokenizer) -> None:
    with ts.Engine(model, tokenizer, max_batch=1, max_waiting=1) as engine:
        first = engine.submit(PROMPTS[0], max_new_tokens=450, seed=0, no_repeat_ngram_size=5)
        next(iter(first))
        second = engine.submit(PROMPTS[1], max_new_tokens=5, timeout=LONG)
        with pytest.raises(QueueFullError, match=r"as may wait \(1\)"):
            engine.submit(PROMPTS[2])
        second.cancel()
        with pytest.raises(RequestTimeoutError):
            _once_there_is_room(engine, PROMPTS[2], timeout=0.001).result(LONG)
        first.cancel()
        assert engine.submit(PROMPTS[2], max_new_tokens=2).result(LONG) is not None
        assert engine.statistics().finished["timeout"] == 1


def _once_there_is_room(engine: ts.Engine, prompt: str, **settings: Any) -> Handle:
    """Submit a prompt as soon as the queue has room: a cancelled request leaves it at the next turn."""
    for _ in range(1000):
        try:
            return engine.submit(prompt, **settings)
        except QueueFullError:
            time.sleep(0.01)
    raise AssertionError("the queue stayed full")


def test_closing(model: Decoder, tokenizer: Tokenizer) -> None:
    engine = ts.Engine(model, tokenizer)
    handle = engine.submit(PROMPTS[0], max_new_tokens=30, temperature=0)
    engine.close(drain=True)
    assert handle.text == ts.generate(model, tokenizer, PROMPTS[0], max_new_tokens=30, temperature=0)
    engine = ts.Engine(model, tokenizer)
    handle = engine.submit(PROMPTS[0], max_new_tokens=450, seed=0, no_repeat_ngram_size=5)
    next(iter(handle))
    engine.close()
    with pytest.raises(EngineClosedError, match="before the text was complete"):
        handle.result(LONG)


def test_two_engines_in_the_calling_thread(model: Decoder, tokenizer: Tokenizer) -> None:
    turns: list[Turn] = []
    engines = [
        ts.Engine(model, tokenizer, own_thread=False, on_turn=turns.append),
        ts.Engine(model, tokenizer, own_thread=False),
    ]
    found = []

    def ask() -> None:
        handles = [engine.submit(p, max_new_tokens=20, temperature=0) for p in PROMPTS for engine in engines]
        found.extend(handle.result(LONG) for handle in handles)
        for engine in engines:
            engine.close()

    thread = threading.Thread(target=ask)
    thread.start()
    work(engines)
    thread.join(LONG)
    wanted = [ts.generate(model, tokenizer, prompt, max_new_tokens=20, temperature=0) for prompt in PROMPTS]
    assert found == [text for text in wanted for _ in engines]
    assert sum(len(turn.generated) for turn in turns) == 20 * len(PROMPTS)
    assert all(turn.begun <= turn.ended for turn in turns)


def test_one_error_of_the_model_does_not_end_the_engine(
    model: Decoder, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ts.Engine(model, tokenizer) as engine:
        with monkeypatch.context() as patched:

            def broken(*given: Any, **named: Any) -> Any:
                raise MemoryError("no room")

            patched.setattr(type(model), "__call__", broken)
            with pytest.raises(MemoryError):
                engine.submit([5, 6]).result(LONG)
        assert engine.submit([5, 6], max_new_tokens=3, temperature=0).result(LONG) is not None


def test_likeliest_tokens_and_scores(model: Decoder, tokenizer: Tokenizer) -> None:
    with ts.Engine(model, tokenizer) as engine:
        handle = engine.submit(PROMPTS[0], max_new_tokens=4, temperature=0, top_logprobs=3, score_from=0)
        for piece in handle:
            assert len(piece.top) == 3
            assert piece.top[0] == (piece.token_id, piece.logprob)
        assert [score.token_id for score in handle.scores] == handle.ids
        assert handle.scores[0].logprob is None
        alone = engine.submit(handle.ids, max_new_tokens=0, score_from=1)
        assert alone.result(LONG) == ""
        assert alone.finish_reason is None
        for a, b in zip(alone.scores, handle.scores[1:], strict=True):
            assert a.logprob is not None
            assert b.logprob is not None
            assert abs(a.logprob - b.logprob) < 1e-5
