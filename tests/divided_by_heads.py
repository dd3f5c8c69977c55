"""Small random models in a file, whole and divided by heads, and whether both compute the same."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from parity_case import VOCABULARY
from parity_cases import CASES
from random_models import save_random_model
from thread_ranks import divided

from tinystar_np.cache import Cache, join_caches
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.loading import model_config
from tinystar_np.models import Decoder

IDS = np.random.default_rng(1).integers(1, VOCABULARY, (3, 30))
TOLERANCE = 1e-5
"""Sums in another order differ in the last bits, relative to the largest logit."""
OF_TYPES = {case.model_type: case for case in CASES}


def config_of(model_type: str, variant: str = "plain") -> dict[str, Any]:
    """Return the config.json of a small model."""
    return {"model_type": model_type, **OF_TYPES[model_type].config(variant)}


def from_random_file(
    raw: dict[str, Any], directory: Path, form: WeightTable | None = None
) -> Callable[..., Decoder]:
    """Write random weights for a config.json; returns what builds the model, or a part of it, from them."""
    source = save_random_model(raw, directory, form)
    architecture, config = model_config(source, source.config)
    checkpoint = source.checkpoint(source.config)
    return lambda part=None: architecture.from_checkpoint(config, checkpoint, part=part)


def check_divided(raw: dict[str, Any], directory: Path, *sizes: int) -> None:
    """Compare a model in one process with the same shared by so many ranks, in all ways by the first."""
    build = from_random_file(raw, directory)
    whole, (first, *others) = build(), sizes
    check(whole, divided(build, first), directory / "cache")
    for size in others:
        check_pieces(whole, divided(build, size))


def check(whole: Decoder, parts: Decoder, path: Path) -> None:
    """In all the ways in which a model is called: a text, its last token, in pieces, and rows of lengths."""
    expected = whole(IDS)
    assert np.isfinite(expected).all()
    alike(parts(IDS), expected)
    alike(parts(IDS[0], last_only=True), expected[0, -1:])
    check_pieces(whole, parts)
    rows: tuple[list[Cache], list[Cache]] = [], []
    for row, length in zip(IDS, (5, 1, 20), strict=True):
        for model, caches in zip((whole, parts), rows, strict=True):
            caches.append(model.new_cache())
            model(row[:length], cache=caches[-1], last_only=True)
    joined = [join_caches(caches) for caches in rows]
    alike(parts(IDS[:, -3:], cache=joined[1]), whole(IDS[:, -3:], cache=joined[0]))
    chosen = [cache.select([2, 0, 2]) for cache in joined]
    chosen[1].save(path)
    loaded = parts.load_cache(path)
    expected = whole(IDS[:, :2], cache=chosen[0])
    alike(parts(IDS[:, :2], cache=chosen[1]), expected)
    alike(parts(IDS[:, :2], cache=loaded), expected)
    if joined[0].truncates_to(4):
        for cache in joined:
            cache.truncate(4)
        alike(parts(IDS[:, 7:9], cache=joined[1]), whole(IDS[:, 7:9], cache=joined[0]))


def check_pieces(whole: Decoder, parts: Decoder) -> None:
    """A text that a cache is fed in pieces."""
    expected, cache = whole(IDS[:2]), parts.new_cache(2)
    for a, b in pairwise((0, 1, 2, 8, 9, 26)):
        alike(parts(IDS[:2, a:b], cache=cache), expected[:, a:b])
    alike(parts(IDS[:2, 26:], cache=cache, last_only=True), expected[:, -1:])


def alike(found: NDArray, expected: NDArray) -> None:
    """Compare logits."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < TOLERANCE * np.abs(expected).max()
