"""Every architecture divided by its layers: the same logits as in one process, to the last bit."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity_case import VOCABULARY
from parity_cases import CASES
from random_models import deeper, random_weights
from thread_ranks import divided

from tinystar_np.cache import Cache, join_caches
from tinystar_np.errors import InputError
from tinystar_np.models import Decoder, model_class
from tinystar_np.models.part_weights import hollow
from tinystar_np.ranks import Part

pytestmark = pytest.mark.usefixtures("one_blas_thread")

SHARING = {  # variants in which a layer reads what a much earlier one gave, or runs with its weights
    "gemma3n_text": ("shared",),
    "gemma4_text": ("shared", "wide_shared", "keys_as_values"),
    "blt": ("three_queries", "patches_before_the_first"),
    "glm_moe_dsa": ("shared", "shared_last"),
    "hrm_text": ("published_cycles", "cycles_dynamic"),
    "zamba": ("many_uses", "usual_kinds"),
    "zamba2": ("one_of_many_uses", "adapters_of_two_blocks"),
}
MODELS = [
    *(
        pytest.param(deeper({"model_type": case.model_type, **case.config("plain")}), id=case.model_type)
        for case in CASES
    ),
    *(
        pytest.param(
            {"model_type": case.model_type, **case.config(variant)}, id=f"{case.model_type}-{variant}"
        )
        for case in CASES
        for variant in SHARING.get(case.model_type, ())
    ),
]
IDS = np.random.default_rng(1).integers(1, VOCABULARY, (3, 30))


def runs(*ends: int) -> list[range]:
    return [range(a, b) for a, b in pairwise((0, *ends))]


def whole_and_divided(raw: dict[str, Any]) -> Iterator[tuple[Decoder, Decoder]]:
    """Yield the model whole, and divided: a layer on each rank, then two and three ranks."""
    architecture = model_class(raw["model_type"])
    config = architecture.Config.from_dict(raw)
    weights = random_weights(architecture, config)
    whole = architecture(config, weights)
    L, random = len(whole.blocks), np.random.default_rng(0)

    def of_part(part: Part) -> Decoder:
        own = {
            name: array if part.has(name, config.home) else hollow(array.shape)
            for name, array in weights.items()
        }
        return architecture(config, own, part=part)

    divisions = [[*range(1, L + 1)], [int(random.integers(1, L)), L]]
    if L > 3:
        divisions.append([*sorted(random.choice(np.arange(1, L), 2, replace=False).tolist()), L])
    for ends in divisions:
        yield whole, divided(of_part, len(ends), runs(*ends))


@pytest.mark.parametrize("raw", MODELS)
def test_same_logits(raw: dict[str, Any], tmp_path: Path) -> None:
    """In all the ways in which a model is called, a layer on each rank; then with two and three ranks."""
    for number, (whole, parts) in enumerate(whole_and_divided(raw)):
        assert np.isfinite(whole(IDS)).all()
        check_calls(whole, parts)
        if number == 0:
            check_caches(whole, parts, tmp_path / "cache")


def check_calls(whole: Decoder, parts: Decoder) -> None:
    """Without a cache, in pieces, and for the last token."""
    assert np.array_equal(parts(IDS), whole(IDS))
    assert np.array_equal(parts(IDS[0], last_only=True), whole(IDS[0], last_only=True))
    caches = whole.new_cache(3), parts.new_cache(3)
    for a, b in pairwise((0, 1, 2, 8, 9, 26, 27)):
        one, other = (m(IDS[:, a:b], cache=c) for m, c in zip((whole, parts), caches, strict=True))
        assert np.array_equal(other, one), (a, b)
    one, other = (
        m(IDS[:, 27:], cache=c, last_only=True) for m, c in zip((whole, parts), caches, strict=True)
    )
    assert np.array_equal(other, one)


def check_caches(whole: Decoder, parts: Decoder, path: Path) -> None:
    """Rows of different lengths, chosen, joined, cut, saved and loaded."""
    both = [_made_of_rows(model) for model in (whole, parts)]
    for (name, one), (_, other) in zip(*both, strict=True):
        assert np.array_equal(other, one), name
    cache = parts.new_cache(2)
    parts(IDS[:2, :9], cache=cache)
    cache.save(path)
    loaded = parts.load_cache(path)
    assert np.array_equal(parts(IDS[:2, 9:12], cache=loaded), parts(IDS[:2, 9:12], cache=cache))
    assert loaded.nbytes > 0
    assert "2 rows, 12 tokens" in repr(loaded)


def _made_of_rows(model: Decoder) -> Iterator[tuple[str, np.ndarray]]:
    rows: list[Cache] = []
    for row, length in zip(IDS, (5, 1, 20), strict=True):
        rows.append(model.new_cache())
        model(row[:length], cache=rows[-1], last_only=True)
    joined = join_caches(rows)
    yield "joined", model(IDS[:, -3:], cache=joined)
    yield "alone, after it was joined", model(IDS[2, -3:], cache=rows[2])
    chosen = joined.select([2, 0, 2])
    yield "chosen", model(IDS[:, :2], cache=chosen)
    yield "as it was", model(IDS[:, :1], cache=joined)
    copy = joined.copy()
    if copy.truncates_to(4):
        copy.truncate(4)
        yield "cut", model(IDS[:, 7:9], cache=copy)
    else:
        with pytest.raises(InputError, match="cannot be cut back"):
            copy.truncate(4)
    del rows, chosen, copy
    yield "after others were dropped", model(IDS[:, :1], cache=joined)
