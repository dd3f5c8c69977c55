"""Rotations that depend on the length of a text, in a model that ranks share: all read the text again."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from both_ways import Same, Share, both_ways
from divided_by_heads import IDS, config_of, from_random_file

from tinystar_np.cache import Cache, join_caches
from tinystar_np.generation import generate_ids
from tinystar_np.models import Decoder

TRAINED = 12
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 100.0,
    "original_max_position_embeddings": TRAINED,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.0, 4.0, 7.0, 10.0],
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 3.0}
BY_DYNAMIC = {"rope_parameters": DYNAMIC, "max_position_embeddings": TRAINED}
MODELS: dict[str, dict[str, Any]] = {
    "longrope": config_of("phi3")
    | {"rope_parameters": LONGROPE, "original_max_position_embeddings": TRAINED, "sliding_window": None},
    "dynamic": config_of("llama") | BY_DYNAMIC,
    "dynamic, window": config_of("mistral") | BY_DYNAMIC | {"sliding_window": 5},
    "dynamic, recurrence": config_of("falcon_h1") | BY_DYNAMIC,
    "doublings": config_of("qwen") | {"seq_length": TRAINED // 2, "use_dynamic_ntk": True},
}


def held(model: Decoder, row: int, length: int) -> Cache:
    """A cache of one row that holds so many tokens."""
    cache = model.new_cache()
    model(IDS[row, :length], cache=cache, last_only=True)
    return cache


@both_ways
@pytest.mark.parametrize("kind", MODELS)
def test_texts_that_cross_the_trained_length(kind: str, share: Share, same: Same, tmp_path: Path) -> None:
    build = from_random_file(MODELS[kind], tmp_path)
    whole = build()
    assert whole.rules_by_length
    parts = share(build, len(whole.blocks))
    short, long = whole(IDS[0, :TRAINED]), whole(IDS[0])
    assert np.abs(long[:TRAINED] - short).max() > 1e-2  # lengths do matter
    same(parts(IDS[0]), long)
    both = whole, parts
    caches = [model.new_cache() for model in both]
    for a, b in pairwise((0, 3, TRAINED - 1, TRAINED, TRAINED + 1, TRAINED + 2, 20)):
        one, other = (m(IDS[0, a:b], cache=c) for m, c in zip(both, caches, strict=True))
        same(other, one)
    if caches[0].rewindable:
        for cache in caches:
            cache.truncate(TRAINED - 2)
        for at in range(TRAINED - 2, TRAINED + 2):
            one, other = (m(IDS[0, at : at + 1], cache=c) for m, c in zip(both, caches, strict=True))
            same(other, one)


@both_ways
@pytest.mark.parametrize("kind", MODELS)
def test_rows_that_cross_it_at_different_times(kind: str, share: Share, same: Same, tmp_path: Path) -> None:
    """Rows that are joined, saved and loaded, of which some are read again and others not."""
    build = from_random_file(MODELS[kind], tmp_path)
    whole = build()
    both = whole, share(build, len(whole.blocks))
    lengths = (TRAINED - 2, 2, TRAINED)
    joined = [join_caches([held(model, row, n) for row, n in enumerate(lengths)]) for model in both]
    joined[1].save(tmp_path / "cache")
    joined.append(both[1].load_cache(tmp_path / "cache"))
    for new in (1, 1, 2, 1):
        one, *others = (
            model(IDS[:, -new:], cache=cache) for model, cache in zip((*both, both[1]), joined, strict=True)
        )
        for other in others:
            same(other, one)
    chosen = [cache.select([2, 0]) for cache in joined[:2]]
    one, other = (m(IDS[:2, :3], cache=c) for m, c in zip(both, chosen, strict=True))
    same(other, one)
    prompts = [IDS[row, :n].tolist() for row, n in enumerate(lengths)]
    texts = [generate_ids(model, prompts, max_new_tokens=6, temperature=0.0) for model in both]
    assert texts[0] == texts[1]
