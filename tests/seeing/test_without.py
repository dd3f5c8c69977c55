"""Logits without a part: those of a model whose weights of that part are zero, in every architecture."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import random_ids, reference_model, save
from parity_case import Case
from parity_cases import CASES

import tinystar_np as ts
from tinystar_np.errors import InputError
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig

IDS = random_ids(17)
DOWN = r"feed_forward((\.experts\.\d+|\.shared)?\.down\.(weight|bias)|\.bias)"
"""The last matrices of every kind of feed-forward layer, by our names."""


def zeroed(model: Any, pattern: str, rows: slice | None = None) -> Any:
    """The same model with the weights of this pattern zero, or some rows of them."""
    weights = dict(model.weights)
    names = [name for name in weights if re.fullmatch(pattern, name)]
    assert names, pattern
    for name in names:
        weights[name] = weights[name].copy()
        weights[name][slice(None) if rows is None else rows] = 0
    return type(model)(model.config, weights)


def parts_of_block(model: Any, i: int) -> dict[str, Any]:
    """Every part of a block that can be taken out, and the model that has zeros there."""
    scope, names = f"blocks.{i}", "\n".join(model.weights)
    found: dict[str, Any] = {}
    with ts.record() as recording:
        model(IDS)
    heads = {} if model.WHY_NO_SUM else ts.attribute(model, recording, -1, 5).heads()
    for branch in ("attention", "mixer"):
        path = f"{scope}.{branch}"
        if f"{path}.out.weight" not in model.weights:
            continue
        found[path] = zeroed(model, rf"{path}\.out\.(weight|bias)")
        if path in heads:
            H = len(heads[path])
            width = len(model.weights[f"{path}.out.weight"]) // H
            rows = slice((H - 1) * width, H * width)
            found[f"{path} head {H - 1}"] = zeroed(model, rf"{path}\.out\.weight", rows)
    path = f"{scope}.feed_forward"
    if f"{path}." in names:
        found[path] = zeroed(model, rf"{scope}\.{DOWN}")
    if f"{path}.experts.1." in names:
        e = int(np.bincount(recording[f"{path}.chosen"].ravel()).argmax())  # that most tokens have chosen
        found[f"{path} expert {e}"] = zeroed(model, rf"{path}\.experts\.{e}\.down\.(weight|bias)")
        if f"{path}.down." in names or f"{path}.shared." in names:
            found[f"{path} shared"] = zeroed(model, rf"{path}(\.shared)?\.down\.(weight|bias)")
    return found


@pytest.mark.parametrize("case", [pytest.param(case, id=case.model_type) for case in CASES])
def test_logits_are_those_of_zero_weights(case: Case, tmp_path: Path) -> None:
    """Each layer, a head, an expert, the shared one; in the last block and in one before it."""
    reference = reference_model(case.model_type, **copy.deepcopy(case.config("plain")))
    model = ts.load(save(reference, tmp_path), dtype="float32")[0]
    whole = model(IDS)
    for i in (0, len(model.blocks) - 1):
        for name, expected in parts_of_block(model, i).items():
            found = ts.without(model, IDS, name)
            np.testing.assert_allclose(found, expected(IDS), rtol=1e-4, atol=1e-5, err_msg=name)
            assert np.abs(found - whole).max() > 1e-4, name
    np.testing.assert_array_equal(model(IDS), whole)  # nothing stays changed


@pytest.fixture
def tiny() -> Any:
    model = TinyStar(TinyStarConfig(hidden_size=32, num_layers=3, num_heads=4, attention_bias=True))
    for name, array in model.weights.items():
        array += np.random.default_rng(len(name)).standard_normal(array.shape, dtype=np.float32) * 0.2
    return model


def test_several_and_batches(tiny: Any) -> None:
    """Parts of an attribution or by name; rows of a batch as if alone."""
    with ts.record() as recording:
        tiny(IDS)
    head = next(
        p for p in ts.attribute(tiny, recording, -1, 5).parts if p.name == "blocks.1.attention head 2"
    )
    expected = zeroed(
        zeroed(tiny, r"blocks\.1\.attention\.out\.weight", slice(16, 24)), rf"blocks\.0\.{DOWN}"
    )
    found = ts.without(tiny, np.stack([IDS, IDS[::-1]]), [head, "blocks.0.feed_forward"])
    np.testing.assert_allclose(found[0], expected(IDS), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], expected(IDS[::-1]), rtol=1e-4, atol=1e-5)


def test_at_some_positions(tiny: Any) -> None:
    """Earlier tokens are as they were, and a part that is missing at the end is missing for the end only."""
    whole = tiny(IDS)
    found = ts.without(tiny, IDS, "blocks.0.attention head 1", positions=[9])
    np.testing.assert_allclose(found[:9], whole[:9], rtol=1e-5, atol=1e-6)
    assert (np.abs(found[9:] - whole[9:]).max(axis=-1) > 1e-5).all()
    at_the_end = ts.without(tiny, IDS, "blocks.0.attention head 1", positions=[16])
    assert np.abs(at_the_end[16] - found[16]).max() > 1e-4


def test_what_it_refuses(tiny: Any) -> None:
    for part, message in (
        ("blocks.0.attention bias", "is no part that can be taken out"),
        ("embedding.tokens", "is no part that can be taken out"),
        ("<script>\x1b[2J", r"'<script>\\x1b\[2J' is no part"),
        ("blocks.3.attention", "the model has 3 blocks, 0 to 2"),
        ("blocks.1.mixer", "block 1 has no mixer layer"),
        ("blocks.1.feed_forward head 0", r"blocks\.1\.feed_forward has no heads"),
        ("blocks.1.feed_forward expert 0", "has no experts"),
        ("blocks.1.attention expert 0", "has no experts"),
        ("blocks.1.feed_forward shared", "has no shared experts"),
        ("blocks.1.attention head 4", "heads = 4"),
        ([], r"a list of parts, is to be taken out; found \[\]"),
        (None, "found None"),
        ([3], "3 is no part that can be taken out"),
    ):
        with pytest.raises(InputError, match=message):
            ts.without(tiny, IDS, part)
