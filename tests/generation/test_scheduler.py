"""Texts that come and go, in one batch and one pool, are what they are alone."""

from typing import Any

import numpy as np
import pytest
from in_one_pool import NEW, texts, together
from small_models import DENSE, EXPERTS, small_model

from tinystar_np.cache.pool import Pool
from tinystar_np.errors import InputError
from tinystar_np.generation import generate_ids
from tinystar_np.generation.memory import SharedPool
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.generation.request import Request
from tinystar_np.generation.row import Row
from tinystar_np.generation.scheduler import Scheduler

ALL = [*DENSE, *EXPERTS]


@pytest.mark.parametrize("name", ALL)
def test_every_kind_of_memory(name: str) -> None:
    model = small_model(name)
    options = SamplingOptions(max_new_tokens=NEW, temperature=0.0)
    alone = [generate_ids(model, prompt, max_new_tokens=NEW, temperature=0.0) for prompt in texts()]
    for blocks, prompt_tokens in ((60, None), (60, 7), (8, 20)):
        ids, scheduler = together(model, texts(), options, blocks, prompt_tokens)
        assert ids == alone
        if blocks == 8 and name == "rope, groups":
            assert scheduler.preempted


def test_seeds_and_settings_are_each_texts_own() -> None:
    model = small_model("rope, groups")
    settings: list[dict[str, Any]] = [
        {"seed": 1, "temperature": 0.9},
        {"temperature": 0.0, "repetition_penalty": 1.5},
        {"seed": 2, "temperature": 1.5, "top_k": 9},
        {"seed": 1, "temperature": 0.9, "top_p": 0.5},
    ]
    pool = Pool(model, 40, 1, 8)
    scheduler = Scheduler(SharedPool(pool), prompt_tokens=16)
    found: list[list[int]] = [[] for _ in settings]
    prompt = texts()[0]
    for i, some in enumerate(settings):
        options = SamplingOptions(max_new_tokens=NEW, **some)
        scheduler.add(Request(Row(i, prompt, None, options, model.end_ids, None), NEW))
    while scheduler.is_busy:
        for request, pieces in scheduler.step(model):
            found[request.row.index] += [piece.token_id for piece in pieces]
    assert found == [generate_ids(model, prompt, max_new_tokens=NEW, **some) for some in settings]


def test_one_that_cannot_go_on_ends_alone() -> None:
    model = small_model("rope, groups")
    pool = Pool(model, 40, 1, 8)
    scheduler = Scheduler(SharedPool(pool))
    bad = SamplingOptions(max_new_tokens=400, temperature=0.0, no_repeat_ngram_size=1)
    good = SamplingOptions(max_new_tokens=NEW, temperature=0.0)
    first = Request(Row(0, texts()[0], None, bad, (), None), 400)
    second = Request(Row(1, texts()[3], None, good, model.end_ids, None), NEW)
    scheduler.add(first)
    scheduler.add(second)
    ids = []
    while scheduler.is_busy:
        for request, pieces in scheduler.step(model):
            ids += [piece.token_id for piece in pieces if request is second]
    assert isinstance(first.error, InputError)
    assert second.error is None
    assert ids == generate_ids(model, texts()[3], max_new_tokens=NEW, temperature=0.0)
    assert pool.blocks.in_use == 0


def test_a_cancelled_text_leaves_no_trace() -> None:
    model = small_model("rope, groups")
    pool = Pool(model, 40, 1, 3)
    scheduler = Scheduler(SharedPool(pool), prompt_tokens=16)
    options = SamplingOptions(max_new_tokens=NEW, temperature=0.0)
    requests = [
        Request(Row(i, p, None, options, model.end_ids, None), NEW) for i, p in enumerate(texts()[:5])
    ]
    ids: list[list[int]] = [[] for _ in requests]
    for request in requests:
        scheduler.add(request)
    for number in range(1000):
        if not scheduler.is_busy:
            break
        if number in (0, 3, 9):  # one that waits, one that is read, one that is generated
            scheduler.cancel(requests[(4, 1, 0)[(0, 3, 9).index(number)]])
        for request, pieces in scheduler.step(model):
            ids[request.row.index] += [piece.token_id for piece in pieces]
    for i in (2, 3):
        assert ids[i] == generate_ids(model, texts()[i], max_new_tokens=NEW, temperature=0.0)
    assert len(ids[0]) < NEW
    assert not ids[4]
    assert pool.blocks.in_use == 0


@pytest.mark.parametrize("name", ALL)
def test_the_next_turn_reads_what_is_new(name: str) -> None:
    """Also after a recurrence: its state was kept where the first turn ended."""
    model = small_model(name)
    pool = Pool(model, 60, 6, 2)
    scheduler = Scheduler(SharedPool(pool))
    options = SamplingOptions(max_new_tokens=NEW, temperature=0.0)

    def said(prompt: list[int]) -> tuple[list[int], Request]:
        request = Request(Row(0, prompt, None, options, model.end_ids, None), NEW)
        scheduler.add(request)
        ids = []
        while scheduler.is_busy:
            for _, pieces in scheduler.step(model):
                ids += [piece.token_id for piece in pieces]
        return ids, request

    prompt = texts()[1]
    answer, first = said(prompt)
    assert first.cached == 0
    longer = prompt + answer + [5, 6, 7]
    second, request = said(longer)
    assert second == generate_ids(model, longer, max_new_tokens=NEW, temperature=0.0)
    held = len(prompt) + len(answer) - 1
    assert request.cached in (held // pool.size * pool.size, held)
    if pool.bytes_per_state:
        assert request.cached == held


def test_a_beginning_that_is_being_read_is_waited_for() -> None:
    model = small_model("rope, groups")
    options = SamplingOptions(max_new_tokens=4, temperature=0.0)
    pool = Pool(model, 60, 1, 8)
    scheduler = Scheduler(SharedPool(pool), prompt_tokens=16)
    base = texts()[6]
    requests = [Request(Row(i, [*base, i + 3], None, options, model.end_ids, None), 4) for i in range(4)]
    for request in requests:
        scheduler.add(request)
    while scheduler.is_busy:
        scheduler.step(model)
    assert [request.cached for request in requests] == [0, 96, 96, 96]


@pytest.mark.parametrize("name", ["rope, groups", "window", "mamba 2"])
def test_scores_of_a_prompt(name: str) -> None:
    model = small_model(name)
    prompt = texts()[6]
    logits = np.asarray(model(prompt), dtype=np.float64)
    logprobs = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
    logprobs -= logits.max(-1, keepdims=True)
    options = SamplingOptions(max_new_tokens=0)
    for start in (0, 1, 17, len(prompt) - 1, len(prompt)):
        pool = Pool(model, 60, 6, 4)
        scheduler = Scheduler(SharedPool(pool), prompt_tokens=16)
        for again in range(2):  # the second time what comes before is in the pool
            request = Request(Row(0, prompt, None, options, model.end_ids, None), 0, score_from=start, top=2)
            scheduler.add(request)
            while scheduler.is_busy:
                assert all(not pieces for _, pieces in scheduler.step(model))
            assert [score.token_id for score in request.scores] == prompt[start:]
            for place, score in enumerate(request.scores, start):
                if place == 0:
                    assert score == (prompt[0], None, ())
                    continue
                assert score.logprob is not None
                assert abs(score.logprob - logprobs[place - 1, prompt[place]]) < 1e-5
                assert score.top[0][0] == logprobs[place - 1].argmax()
                assert len(score.top) == 2
            assert (request.cached or 0) <= max(start - 1, 0)
            if again and start > 20 and not pool.bytes_per_state:
                assert (request.cached or 0) >= (start - 1) // 16 * 16
