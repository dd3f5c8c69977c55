"""Many requests of every kind in small caches, cancelled and preempted: each is what it is alone."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import reference_model, save
from small_models import ATTENTION, small_model
from small_seeing import picture, small_seeing_model
from thread_ranks import shared

import tinystar_np as ts
from tinystar_np.cache.pool import Pool
from tinystar_np.generation.loop import run
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.kernels.softmax import log_softmax
from tinystar_np.loading import load
from tinystar_np.models import Decoder
from tinystar_np.serving.engine import Engine

ROUNDING = 5e-5
"""Of log-probabilities. Read alone in other pieces, these random models' own differ by up to 3.3e-5."""


class Asked:
    """A request with its handle, and what is to become of it."""

    def __init__(self, engine: Engine, rng: random.Random, base: list[int], most: int) -> None:
        same = rng.choice([0, 16, 32, 33, 47, rng.randint(0, len(base))])
        own = [rng.randint(3, 99) for _ in range(rng.choice([1, 2, 16, rng.randint(1, 40)]))]
        self.ids = (base[:same] + own)[:most]
        if rng.random() < 0.1:
            self.ids = (base * 3)[: most - rng.randint(0, 1)]  # as much as there is room for
        new = rng.choice([0, 1, 20, 40])
        self.score_from = rng.choice([None, 0, 1, len(self.ids) - 1, len(self.ids), len(self.ids) // 2])
        self.settings: dict[str, Any] = {"max_new_tokens": new, "temperature": 0.0}
        if rng.random() < 0.5:
            self.settings |= {"temperature": 0.9, "seed": rng.randint(0, 3)}
        self.handle = engine.submit(
            self.ids, score_from=self.score_from, marks=[len(self.ids) // 2], **self.settings
        )
        self.cancels = rng.random() < 0.15

    def check(self, model: Decoder, room: int) -> None:
        """Compare it with what it is alone."""
        if self.cancels and self.handle.finish_reason is None:
            return
        assert self.handle.result(0) is not None
        options = SamplingOptions(**self.settings)
        alone = list(run(model, [self.ids], None, options))[: room - len(self.ids) + 1]
        assert self.handle.token_ids == [piece.token_id for piece in alone]
        for piece, expected in zip(self.handle.pieces, alone, strict=True):
            assert abs(piece.logprob - expected.logprob) < ROUNDING
        first = len(self.ids) if self.score_from is None else self.score_from
        assert [score.token_id for score in self.handle.scores] == self.ids[first:]
        if first < len(self.ids):
            logprobs = log_softmax(np.asarray(model(self.ids), dtype=np.float64))
            for place, score in enumerate(self.handle.scores, first):
                wanted = None if place == 0 else logprobs[place - 1, self.ids[place]]
                assert score.logprob == (wanted if wanted is None else pytest.approx(wanted, abs=ROUNDING))


def soak(model: Decoder, pool: Pool, seed: int, count: int, most: int) -> Engine:
    """Ask for ``count`` texts, a few at a time; returns the engine.

    most  tokens of a prompt
    """
    rng = random.Random(seed)
    base = [rng.randint(3, 99) for _ in range(60)]
    engine = Engine(model, cache_memory=pool.nbytes, max_batch=pool.rows, own_thread=False)
    for part in engine.pool.paged_layers():  # what was there before counts for nothing
        part.keys[:], part.values[:] = np.nan, np.nan
    room, asked = engine.pool.tokens, 0
    waiting: list[Asked] = []
    for turn in range(100_000):
        if asked < count and (turn % 7 == 0 or not waiting):
            new = [Asked(engine, rng, base, min(most, room)) for _ in range(rng.choice([1, 4]))]
            waiting, asked = waiting + new, asked + len(new)
        for each in waiting:
            if each.cancels and rng.random() < 0.05:
                each.handle.cancel()
        worked = engine.turn()
        for each in [each for each in waiting if each.handle.ended]:
            waiting.remove(each)
            each.check(model, room)
        if not waiting and not worked and asked >= count:
            break
    assert not waiting
    held = {snapshot.block for snapshot in engine.pool.snapshots} - {None}
    assert engine.pool.blocks.in_use == len(held)  # nothing is left behind
    assert not engine.pool._owed
    assert (engine.pool.blocks._promised == -1).all()
    return engine


@pytest.mark.parametrize(
    ("name", "blocks", "states"),
    [
        ("rope, groups", 12, 6),
        ("window", 12, 6),
        ("chunks and no positions, in turns", 12, 6),
        ("latent attention", 12, 6),
        ("mamba 2", 1, 9),
        ("delta rule", 24, 16),
        ("mamba 2 and attention", 24, 9),
    ],
)
def test_small_caches(name: str, blocks: int, states: int) -> None:
    model = small_model(name)
    pool = Pool(model, blocks, states, 6)
    if pool.bytes_per_block and pool.bytes_per_state:  # half of an engine's memory is for either
        pool = Pool(model, 2 * max(blocks, states * pool.bytes_per_state // pool.bytes_per_block), 0, 6)
    statistics = soak(model, pool, len(name), 24, 100).statistics()
    assert statistics.finished["length"]
    if name == "rope, groups":
        assert statistics.preempted
        assert statistics.cached_tokens


@pytest.mark.parametrize("name", ["rope, groups", "mamba 2 and attention", "delta rule"])
def test_small_caches_of_ranks(name: str) -> None:
    """Each layer, with its part of the pool, is on a rank of its own."""
    model = shared(small_model(name))
    blocks = 12 if name == "rope, groups" else 24
    statistics = soak(model, Pool(model, blocks, 9, 6), len(name), 48, 100).statistics()
    assert statistics.finished["length"]
    assert statistics.finished["cancelled"]
    assert statistics.cached_tokens


def test_rotations_that_depend_on_the_length(tmp_path: Path) -> None:
    """Prompts on either side of the border, which texts cross while they are generated."""
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    config = {**ATTENTION, "max_position_embeddings": 20, "rope_parameters": rope}
    model = load(save(reference_model("llama", **config), tmp_path))[0]
    for each in (model, shared(model)):
        soak(each, Pool(each, 8, 4, 4), 3, 8, 24)


def test_images_and_texts(tmp_path: Path) -> None:
    """Image tokens are alike in all prompts, their keys are not; a preempted text sees its image again."""
    small_seeing_model(tmp_path)
    model, tokenizer = load(tmp_path, dtype="float32")
    assert tokenizer is not None
    asked: list[tuple[str, list[np.ndarray]]] = [
        ("<image>What is this?", [picture(28, 28, seed)]) for seed in range(4)
    ]
    asked.append(("<image>What is this? It has no end and no beginning.", asked[0][1]))
    asked.append(("What is this? It has no end and no beginning.", []))
    settings: dict[str, Any] = {"max_new_tokens": 30, "temperature": 0.0}
    alone = [ts.generate(model, tokenizer, text, images=images, **settings) for text, images in asked]
    assert len(set(alone)) > 3
    memory = Pool(model, 12, 5, 5).nbytes
    engine = Engine(model, tokenizer, cache_memory=memory, max_batch=6, own_thread=False)
    handles = [engine.submit(text, images=images, **settings) for text, images in asked]
    while engine.turn():
        pass
    assert [handle.result(0) for handle in handles] == alone
    assert engine.statistics().preempted
    assert engine.statistics().blocks_in_use == 0
