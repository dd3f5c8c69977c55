"""Small random models in a file, whole and divided by heads, and whether both compute the same."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from thread_ranks import divided

from tinystar_np.cache import join_caches
from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.safetensors_writer import write_arrays
from tinystar_np.checkpoints.weight_table import Row, expand
from tinystar_np.models import Decoder, model_class

IDS = np.random.default_rng(1).integers(1, 60, (3, 24))


def whole_and_divided(raw: dict[str, Any], directory: Path, *sizes: int) -> Iterator[tuple[Decoder, Decoder]]:
    """Yield the model of a config.json with random weights: in one process, and shared by so many ranks."""
    build = from_random_file(raw, directory)
    whole = build()
    for size in sizes:
        yield whole, divided(build, size)


def from_random_file(raw: dict[str, Any], directory: Path) -> Callable[..., Decoder]:
    """Write random weights for a config.json; returns what builds the model, or a part of it, from them."""
    architecture = model_class(raw["model_type"])
    config = architecture.Config.from_dict(raw)
    random = np.random.default_rng(0)
    found: dict[str, NDArray[np.float32]] = {}
    for row in expand(architecture.WEIGHTS, config).values():
        if row.theirs not in found:
            found[row.theirs] = _tensor(random, row)
    path = directory / "model.safetensors"
    with path.open("wb") as file:
        write_arrays(file, found, {})
    checkpoint = Checkpoint([path], {})
    return lambda part=None: architecture.from_checkpoint(config, checkpoint, part=part)


def _tensor(random: np.random.Generator, row: Row) -> NDArray[np.float32]:
    noise = random.standard_normal(row.stored, dtype=np.float32)
    if row.ours.endswith("A_log"):
        return random.random(row.stored, dtype=np.float32) * 4 - 3
    return 1 + np.float32(0.3) * noise if row.ours.endswith("gain") else np.float32(0.2) * noise


def check(whole: Decoder, parts: Decoder, path: Path) -> None:
    """In all the ways in which a model is called: without a cache, in pieces, in rows, from a file."""
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
    cache = parts.new_cache(3)
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
