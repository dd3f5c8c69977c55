"""Texts in one pool of a model that several ranks share are what they are in one process."""

import gc
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from in_one_pool import NEW, texts, together
from numpy.typing import NDArray
from parity import reference_model, save
from small_models import DENSE, EXPERTS, small_model
from thread_ranks import ThreadRanks, divided, shared

from tinystar_np.cache import Cache
from tinystar_np.cache.pool import BLOCK, Pool
from tinystar_np.cache.pooled_states import fits_a_pool
from tinystar_np.checkpoints.model_source import open_source
from tinystar_np.errors import InputError
from tinystar_np.generation import generate_ids
from tinystar_np.generation.memory import SharedPool
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.generation.request import Request
from tinystar_np.generation.row import Row
from tinystar_np.generation.scheduler import Scheduler
from tinystar_np.loading import load, model_config
from tinystar_np.models import Decoder

ALL = [*DENSE, *EXPERTS]
HYBRID = "mamba 2 and attention"
GREEDY = SamplingOptions(max_new_tokens=NEW, temperature=0.0)


@cache
def by_layers(name: str) -> Decoder:
    """Return the small model of that name, with a rank for each layer."""
    return shared(small_model(name))


class Heard:
    """A model, and the logits of each of its calls."""

    def __init__(self, model: Decoder):
        self._model, self.end_ids, self.new_cache = model, model.end_ids, model.new_cache
        self.logits: list[NDArray] = []

    def __call__(self, ids: NDArray, cache: Cache | None = None, last_only: bool = False) -> NDArray:
        self.logits.append(self._model(ids, cache=cache, last_only=last_only))
        return self.logits[-1]


@pytest.mark.parametrize("name", ALL)
def test_every_kind_of_memory(name: str) -> None:
    """Texts begin alike, come later, and lose their places: the same calls, with the same logits."""
    for blocks, prompt_tokens in ((60, 7), (8, 20)):
        whole, ranks = Heard(small_model(name)), Heard(by_layers(name))
        expected, one = together(whole, texts(), GREEDY, blocks, prompt_tokens)
        found, several = together(ranks, texts(), GREEDY, blocks, prompt_tokens)
        assert found == expected
        assert several.preempted == one.preempted
        for a, b in zip(whole.logits, ranks.logits, strict=True):
            np.testing.assert_array_equal(a, b)
        if blocks == 8 and name == "rope, groups":
            assert several.preempted


@pytest.mark.parametrize("name", ["rope, groups", HYBRID, "mamba 2"])
def test_lists_of_prompts(name: str) -> None:
    """Twice, so that the followers have let go of the first list's pool when the second begins."""
    model = by_layers(name)
    ask = partial(generate_ids, max_new_tokens=NEW, temperature=0.0)
    expected = ask(small_model(name), texts())
    assert ask(model, texts()) == expected
    assert ask(model, texts()[::-1]) == expected[::-1]
    assert model.part is not None
    assert isinstance(model.part.ranks, ThreadRanks)
    gc.collect()
    model.new_cache(1).nbytes  # noqa: B018 - an answer of each follower, which has then done all that waited
    assert [len(follower.states) for follower in model.part.ranks.rooms.followers] == [1] * (
        model.part.ranks.size - 1
    )


@pytest.mark.parametrize("name", ["rope, groups", HYBRID, "delta rule"])
def test_the_next_turn_reads_what_is_new(name: str) -> None:
    """Also after a recurrence, of which each rank kept its own layers' where the first turn ended."""
    cached = []
    for model in (small_model(name), by_layers(name)):
        pool = Pool(model, 60, 6, 2)
        scheduler = Scheduler(SharedPool(pool))
        prompt = texts()[1]
        for turn in range(3):
            request = Request(Row(0, prompt, None, GREEDY, model.end_ids, None), NEW)
            scheduler.add(request)
            ids = []
            while scheduler.is_busy:
                for _, pieces in scheduler.step(model):
                    ids += [piece.token_id for piece in pieces]
            assert ids == generate_ids(small_model(name), prompt, max_new_tokens=NEW, temperature=0.0)
            cached.append(request.cached)
            prompt = [*prompt, *ids, 5, 6, turn]
    assert cached[:3] == cached[3:]
    assert 0 < (cached[1] or 0) < (cached[2] or 0)


def test_a_cancelled_text_leaves_no_trace() -> None:
    model = by_layers(HYBRID)
    pool = Pool(model, 40, 3, 3)
    scheduler = Scheduler(SharedPool(pool), prompt_tokens=16)
    requests = [Request(Row(i, p, None, GREEDY, model.end_ids, None), NEW) for i, p in enumerate(texts()[:5])]
    ids: list[list[int]] = [[] for _ in requests]
    for request in requests:
        scheduler.add(request)
    cancelled = {0: 4, 3: 1, 12: 0}  # one that waits, one that is read, one that is generated
    number = 0
    while scheduler.is_busy:
        if number in cancelled:
            scheduler.cancel(requests[cancelled[number]])
        number += 1
        for request, pieces in scheduler.step(model):
            ids[request.row.index] += [piece.token_id for piece in pieces]
    for i in (2, 3):
        assert ids[i] == generate_ids(small_model(HYBRID), texts()[i], max_new_tokens=NEW, temperature=0.0)
    assert len(ids[0]) < NEW
    assert not ids[4]
    assert pool.blocks.in_use == 0


def test_memory_is_that_of_each_rank() -> None:
    """The rank with two layers of attention decides how many blocks there are."""
    name, memory = "rope, groups", 400_000
    whole = Pool.within(small_model(name), memory, 4)
    even = Pool.within(shared(small_model(name)), memory, 4)
    assert even.bytes_per_block == whole.bytes_per_block
    assert even.blocks.count == memory // (whole.bytes_per_block // 2)
    assert even.tokens == even.blocks.count * BLOCK
    assert memory < even.nbytes <= 2 * memory
    half = whole.bytes_per_block // 2
    assert sum(part.keys.nbytes + part.values.nbytes for part in even.paged_layers()) == (
        even.blocks.count * half
    )
    with pytest.raises(InputError, match="too small for this model, which needs"):
        Pool.within(shared(small_model(name)), half - 1, 4)


def test_memory_of_recurrences_on_one_rank_and_keys_on_the_other() -> None:
    """Layers: a recurrence, attention, a recurrence. A rank that needs one of both has all memory for it."""
    model, memory = shared(small_model(HYBRID), [range(1), range(1, 3)]), 1_000_000
    pool = Pool.within(model, memory, 4)
    state, block = pool.bytes_per_state // 2, pool.bytes_per_block
    assert pool.blocks.count == memory // 2 // block
    assert pool.snapshots._most == memory // 2 // state - 4
    pool = Pool.within(shared(small_model(HYBRID), [range(2), range(2, 3)]), memory, 4)
    assert pool.blocks.count == memory // 2 // block


def test_which_caches_fit() -> None:
    assert fits_a_pool(by_layers(HYBRID).new_cache(1))


def test_a_cache_of_a_pool_says_what_it_holds() -> None:
    whole, ranks = (Pool(model, 12, 3, 2) for model in (small_model(HYBRID), by_layers(HYBRID)))
    ids, found = [5, 6, 7], []
    for pool, model in ((whole, small_model(HYBRID)), (ranks, by_layers(HYBRID))):
        text = pool.text(ids)
        cache = pool.begin(text, ids, 20, 2)
        assert cache is not None
        assert pool.make_room(text, 3)
        model(np.array([ids]), cache=cache)
        assert cache.nbytes == pool.bytes_per_block + pool.bytes_per_state
        found.append(repr(cache))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "name", ["learned positions", "rope, groups", "chunks and no positions, in turns", "experts"]
)
def test_layers_divided_by_heads(name: str, tmp_path: Path) -> None:
    """Each rank has its own heads' keys and values, in blocks of the same numbers."""
    model_type, config = (DENSE | EXPERTS)[name]
    source = open_source(save(reference_model(model_type, **config), tmp_path))
    architecture, own = model_config(source, source.config)
    files, whole = source.checkpoint(source.config), load(tmp_path, dtype="float32")[0]
    model: Decoder = divided(
        lambda part: architecture.from_checkpoint(own, files, whole.end_ids, "float32", part), 2
    )
    for blocks in (60, 8):
        expected, one = together(whole, texts(), GREEDY, blocks, 20)
        found, several = together(model, texts(), GREEDY, blocks, 20)
        assert found == expected
        assert several.preempted == one.preempted
    pools = [Pool.within(each, 400_000, 4) for each in (whole, model)]
    assert pools[1].bytes_per_block == pools[0].bytes_per_block
    assert pools[1].blocks.count == 400_000 // (pools[0].bytes_per_block // 2)
