"""An engine whose model several ranks share: requests from many threads, each as if it were alone."""

import threading
from typing import Any

import pytest
from engine_company import LONG, PROMPTS, check_company
from in_one_pool import texts
from small_models import small_model
from thread_ranks import shared

import tinystar_np as ts
from tinystar_np.errors import EngineClosedError, InputError
from tinystar_np.models import Decoder
from tinystar_np.serving.api_errors import ApiError
from tinystar_np.serving.look import LookRequest, look_at
from tinystar_np.serving.served import Served
from tinystar_np.text import Tokenizer


@pytest.fixture(scope="module")
def whole() -> Decoder:
    return ts.load("stories")[0]


@pytest.fixture(scope="module")
def model(whole: Decoder) -> Decoder:
    last = len(whole.blocks)
    return shared(whole, [range(2), range(2, last - 1), range(last - 1, last)])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = ts.load("stories")[1]
    assert tokenizer is not None
    return tokenizer


def test_texts_do_not_depend_on_company(whole: Decoder, model: Decoder, tokenizer: Tokenizer) -> None:
    with ts.Engine(model, tokenizer, cache_memory=whole.new_cache(1, 16).nbytes * 3, max_batch=6) as engine:
        check_company(engine, whole, tokenizer, requests=20, most_tokens=40)
    with pytest.raises(EngineClosedError):
        engine.submit(PROMPTS[0])


def test_what_goes_wrong_leaves_the_others_running() -> None:
    """A text that has no token left to choose, ids that are none, and a text that is cancelled."""
    small, prompts = small_model("rope, groups"), texts()[:5]
    whole = type(small)(small.config, small.weights)  # no token ends a text
    settings: dict[str, Any] = {"max_new_tokens": 40, "temperature": 0.0}
    alone = [ts.generate_ids(whole, prompt, **settings) for prompt in prompts]
    with ts.Engine(shared(whole)) as engine:
        handles = [engine.submit(prompt, **settings) for prompt in prompts]
        stuck = engine.submit(prompts[0], max_new_tokens=400, temperature=0.0, no_repeat_ngram_size=1)
        cancelled = engine.submit(prompts[1], max_new_tokens=10_000, seed=0)
        with pytest.raises(InputError, match="outside the vocabulary"):
            engine.submit([5, 10**6])
        next(iter(cancelled))
        cancelled.cancel()
        for handle in handles:
            handle.result(LONG)
        assert [handle.token_ids for handle in handles] == alone
        with pytest.raises(InputError, match="forbids every token"):
            stuck.result(LONG)
        assert engine.submit(prompts[2], **settings).result(LONG) is not None
        assert engine.statistics().finished == {"length": len(prompts) + 1, "error": 1, "cancelled": 1}


def test_the_model_is_used_in_other_threads_too(whole: Decoder, model: Decoder, tokenizer: Tokenizer) -> None:
    """Each call has the ranks to itself; so have questions about memory, and caches that are dropped."""
    settings: dict[str, Any] = {"max_new_tokens": 40, "temperature": 0.0}
    alone = [ts.generate(whole, tokenizer, prompt, **settings) for prompt in PROMPTS]
    found: dict[int, str] = {}

    def use(number: int) -> None:
        for _ in range(3):
            cache = model.new_cache(1, capacity=16)
            ids = tokenizer.encode(PROMPTS[number])
            model(ids[:3], cache=cache)
            assert cache.copy().nbytes >= whole.new_cache(1, capacity=16).nbytes
            found[number] = ts.generate(model, tokenizer, PROMPTS[number], **settings)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(len(PROMPTS))]
    with ts.Engine(model, tokenizer) as engine:
        for thread in threads:
            thread.start()
        handles = [engine.submit(prompt, **settings) for prompt in PROMPTS]
        assert [handle.result(LONG) for handle in handles] == alone
        for thread in threads:
            thread.join(LONG)
    assert [found[number] for number in range(len(PROMPTS))] == alone


def test_closing_in_the_middle(model: Decoder, tokenizer: Tokenizer, whole: Decoder) -> None:
    """The ranks are in step afterwards: another engine answers."""
    engine = ts.Engine(model, tokenizer)
    handle = engine.submit(PROMPTS[0], max_new_tokens=400, seed=0)
    next(iter(handle))
    engine.close()
    with pytest.raises(EngineClosedError):
        handle.result(LONG)
    settings: dict[str, Any] = {"max_new_tokens": 20, "temperature": 0.0}
    with ts.Engine(model, tokenizer) as engine:
        wanted = ts.generate(whole, tokenizer, PROMPTS[1], **settings)
        assert engine.submit(PROMPTS[1], **settings).result(LONG) == wanted


def test_an_answer_cannot_be_looked_into(model: Decoder, tokenizer: Tokenizer) -> None:
    engine = ts.Engine(model, tokenizer, own_thread=False)
    served = Served("stories", model, tokenizer, engine, most_texts=1)
    with pytest.raises(ApiError, match="3 processes share this model"):
        look_at(served, LookRequest(prompt=PROMPTS[0], answer=" there"), "stories")
