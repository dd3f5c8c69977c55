"""Small random models in a file, whole and divided by heads, and whether both compute the same."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from random_models import save_random_model
from thread_ranks import divided

from tinystar_np.cache import join_caches
from tinystar_np.loading import model_config
from tinystar_np.models import Decoder

IDS = np.random.default_rng(1).integers(1, 60, (3, 24))


def whole_and_divided(raw: dict[str, Any], directory: Path, *sizes: int) -> Iterator[tuple[Decoder, Decoder]]:
    """Yield the model of a config.json with random weights: in one process, and shared by so many ranks."""
    build = from_random_file(raw, directory)
    whole = build()
    for size in sizes:
        yield whole, divided(build, size)


def from_random_file(raw: dict[str, Any], directory: Path) -> Callable[..., Decoder]:
    """Write random weights for a config.json; returns what builds the model, or a part of it, from them."""
    source = save_random_model(raw, directory)
    architecture, config = model_config(source, source.config)
    checkpoint = source.checkpoint(source.config)
    return lambda part=None: architecture.from_checkpoint(config, checkpoint, part=part)


def check(whole: Decoder, parts: Decoder) -> None:
    """In all the ways in which a model is called: without a cache, in pieces, with rows of other lengths."""
    expected = whole(IDS)
    assert np.isfinite(expected).all()
    check_same(parts(IDS), expected)
    check_same(parts(IDS[0], last_only=True), expected[0, -1:])
    check_same(in_pieces(parts, 1, 2, 9, 10, 22, 23), expected)
    check_same(in_pieces(parts, *range(1, 24)), expected)
    rows = [parts.new_cache() for _ in IDS]
    for cache, ids, length in zip(rows, IDS, (5, 1, 20), strict=True):
        parts(ids[:length], cache=cache, last_only=True)
    joined = join_caches(rows).select([2, 1, 0])
    more = parts(IDS[:, :3], cache=joined)
    for n, (row, length) in enumerate(((2, 20), (1, 1), (0, 5))):
        check_same(more[n], whole(np.concatenate((IDS[row, :length], IDS[n, :3])))[-3:])


def check_saved(whole: Decoder, parts: Decoder, path: Path) -> None:
    """A cache in a file, and one that is cut back."""
    expected, cache = whole(IDS), parts.new_cache(3)
    parts(IDS[:, :9], cache=cache)
    cache.save(path)
    loaded = parts.load_cache(path)
    check_same(parts(IDS[:, 9:], cache=loaded), expected[:, 9:])
    if cache.truncates_to(4):
        cache.truncate(4)
        check_same(parts(IDS[:, 4:], cache=cache), expected[:, 4:])


def in_pieces(model: Decoder, *borders: int) -> NDArray:
    """Return the logits of a text that a cache is fed in pieces."""
    cache = model.new_cache(len(IDS))
    return np.concatenate(
        [model(IDS[:, a:b], cache=cache) for a, b in pairwise((0, *borders, IDS.shape[1]))], axis=1
    )


def check_same(found: NDArray, expected: NDArray) -> None:
    """Sums in another order differ in the last bits, relative to the largest logit."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
