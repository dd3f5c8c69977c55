"""Texts that are generated together, in one pool."""

from collections.abc import Sequence

import numpy as np

from tinystar_np.cache.pool import Pool
from tinystar_np.generation.language_model import LanguageModel
from tinystar_np.generation.memory import SharedPool
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.generation.request import Request
from tinystar_np.generation.row import Row
from tinystar_np.generation.scheduler import Scheduler

NEW = 24
VOCABULARY = 128


def texts() -> list[list[int]]:
    """Eight prompts, some of which begin alike: within a block, at its end, and after several."""
    rng = np.random.default_rng(0)
    base = rng.integers(3, VOCABULARY, 70).tolist()
    lengths = [(40, 3), (40, 20), (70, 1), (0, 5), (32, 1), (64, 9), (70, 30), (0, 50)]
    return [base[:same] + rng.integers(3, VOCABULARY, own).tolist() for same, own in lengths]


def together(
    model: LanguageModel,
    prompts: Sequence[list[int]],
    options: SamplingOptions,
    blocks: int,
    prompt_tokens: int | None,
    states: int = 12,
) -> tuple[list[list[int]], Scheduler]:
    """Generate them all in one pool, half of them arriving later."""
    pool = Pool(model, blocks, states, 8)
    scheduler = Scheduler(SharedPool(pool), prompt_tokens=prompt_tokens)
    requests = [
        Request(Row(i, prompt, None, options, model.end_ids, None), options.max_new_tokens)
        for i, prompt in enumerate(prompts)
    ]
    ids: list[list[int]] = [[] for _ in prompts]
    for request in requests[:4]:
        scheduler.add(request)
    later, steps = requests[4:], 0
    while scheduler.is_busy or later:
        steps += 1
        if later and steps % 5 == 0:
            scheduler.add(later.pop(0))
        for request, pieces in scheduler.step(model):
            assert request.error is None
            ids[request.row.index] += [piece.token_id for piece in pieces]
    held = {snapshot.block for snapshot in pool.snapshots} - {None}
    assert pool.blocks.in_use == len(held)  # nothing else is left behind
    return ids, scheduler
