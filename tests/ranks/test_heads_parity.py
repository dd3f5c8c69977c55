"""Every architecture divided by heads: the logits of one process, but for the order of its sums."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity_case import VOCABULARY
from parity_cases import CASES
from random_models import save_random_model
from thread_ranks import divided

from tinystar_np.cache import Cache, join_caches
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.errors import InputError
from tinystar_np.loading import model_config
from tinystar_np.models import ARCHITECTURES, Decoder, model_class

REFUSED = {"blt"}
"""Architectures that say why ranks cannot have shares of each of their layers."""
FEW_HEADS = {"diffllama": 2, "jetmoe": 2, "zamba": 2}
"""How many things that stay together the small models of these have: no more ranks can share them."""
TOLERANCE = 1e-5
IDS = np.random.default_rng(1).integers(1, VOCABULARY, (3, 30))
MODELS = [
    pytest.param({"model_type": case.model_type, **case.config("plain")}, id=case.model_type)
    for case in CASES
    if case.model_type not in REFUSED
]


def whole_and_divided(
    raw: dict[str, Any], directory: Path, size: int, form: WeightTable | None = None
) -> tuple[Decoder, Decoder]:
    """Save a model, and load it whole and divided."""
    source = save_random_model(raw, directory, form)
    architecture, config = model_config(source, source.config)
    checkpoint = source.checkpoint(source.config)
    whole = architecture.from_checkpoint(config, checkpoint)
    return whole, divided(lambda part: architecture.from_checkpoint(config, checkpoint, part=part), size)


@pytest.mark.parametrize("raw", MODELS)
def test_same_logits(raw: dict[str, Any], tmp_path: Path) -> None:
    """Of a whole text, in pieces, with rows that are chosen, joined and cut; by two ranks and by three."""
    whole, parts = whole_and_divided(raw, tmp_path, 2)
    check(whole, parts)
    most = FEW_HEADS.get(raw["model_type"], 3)
    if most < 3:
        with pytest.raises(InputError, match="Start fewer"):
            whole_and_divided(raw, tmp_path, 3)
    else:
        check_pieces(*whole_and_divided(raw, tmp_path, 3))


def check(whole: Decoder, parts: Decoder) -> None:
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
    alike(parts(IDS[:, :2], cache=chosen[1]), whole(IDS[:, :2], cache=chosen[0]))
    if joined[0].truncates_to(4):
        for cache in joined:
            cache.truncate(4)
        alike(parts(IDS[:, 7:9], cache=joined[1]), whole(IDS[:, 7:9], cache=joined[0]))


def check_pieces(whole: Decoder, parts: Decoder) -> None:
    expected, cache = whole(IDS[:2]), parts.new_cache(2)
    for a, b in pairwise((0, 1, 2, 8, 9, 26)):
        alike(parts(IDS[:2, a:b], cache=cache), expected[:, a:b])
    alike(parts(IDS[:2, 26:], cache=cache, last_only=True), expected[:, -1:])


def alike(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize(
    ("model_type", "variant"),
    [
        ("baichuan", "2_7b"),  # rows of the output layer are scaled to length 1
        ("codegen", "six_heads"),  # heads that lie in two quarters
        ("falcon", "grouped_alibi_biases"),
        ("gemma3n_text", "sparse"),  # a cutoff from all features
        ("gpt_bigcode", "multi_head"),
        ("stablelm", "all_of_it"),  # a norm of each head, in a tensor of its own
        ("zamba2", "adapters"),
    ],
)
def test_variants(model_type: str, variant: str, tmp_path: Path) -> None:
    """Of architectures whose layers are put together in several ways."""
    (case,) = (case for case in CASES if case.model_type == model_type)
    whole, parts = whole_and_divided({"model_type": model_type, **case.config(variant)}, tmp_path, 2)
    check_pieces(whole, parts)


FORMS = [
    pytest.param({"model_type": case.model_type, **case.config("plain")}, form, id=f"{case.model_type}-{n}")
    for case in CASES
    for n, form in enumerate(model_class(case.model_type).OTHER_FORMS)
    if case.model_type not in REFUSED
]


@pytest.mark.parametrize(("raw", "form"), FORMS)
def test_other_forms(raw: dict[str, Any], form: WeightTable, tmp_path: Path) -> None:
    """Files that hold the same weights in other tensors."""
    whole, parts = whole_and_divided(raw, tmp_path, 2, form)
    alike(parts(IDS[0]), whole(IDS[0]))


def test_refused(tmp_path: Path) -> None:
    """What cannot be divided says why, and what to do; all others are tried above."""
    assert {name for name in ARCHITECTURES if model_class(name).WHY_NOT_BY_HEADS} == REFUSED
    assert {case.model_type for case in CASES} | {"tinystar"} == set(ARCHITECTURES)
    (raw,) = ({"model_type": "blt", **case.config("plain")} for case in CASES if case.model_type == "blt")
    with pytest.raises(InputError, match=r"Blt cannot be divided by heads: its .+ Use --parallel layers"):
        whole_and_divided(raw, tmp_path, 2)
