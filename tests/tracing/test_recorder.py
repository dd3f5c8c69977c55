"""Taps: the names that docs/taps.md promises, their shapes, and that recording changes no result."""

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinystar_np.loading import load
from tinystar_np.tap import listening
from tinystar_np.tracing import record

DOCUMENT = Path(__file__).parents[2] / "docs" / "taps.md"
IDS = np.arange(2 * 80).reshape(2, 80) % 211
LETTERS = {"B": 2, "T": 80, "S": 80, "D": 48, "H": 4, "K": 12, "F": 192, "V": 211, "3HK": 144}


@pytest.fixture
def model(save_gpt2: Any) -> Any:
    return load(save_gpt2()[1])[0]


def test_names_and_shapes_are_the_documented_ones(model: Any) -> None:
    rows = re.findall(r"^\| `(.+?)` \| \((.+?)\) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert len(rows) > 15
    expected = {
        name.replace("{i}", str(i)): tuple(LETTERS[letter] for letter in shape.split(", "))
        for name, shape in rows
        for i in range(3)
    }
    with record() as caught:
        model(IDS)
    assert {name: array.shape for name, array in caught.items()} == expected
    assert all(array.dtype == np.float32 for array in caught.values())
    assert list(caught)[:2] == ["embedding.tokens", "embedding.positions"]
    assert list(caught)[-2:] == ["final_norm", "logits"]


def test_recording_changes_no_result_and_ends(model: Any) -> None:
    silent = model(IDS)
    with record() as caught:
        assert listening()
        recorded = model(IDS)
    assert not listening()
    assert np.abs(recorded - silent).max() < 1e-5 * np.abs(silent).max()
    np.testing.assert_array_equal(caught["logits"], recorded)
    count = len(caught)
    model(IDS)
    assert len(caught) == count


def test_patterns(model: Any) -> None:
    with record("blocks.*.residual", "logits") as caught:
        model(IDS)
    assert list(caught) == ["blocks.0.residual", "blocks.1.residual", "blocks.2.residual", "logits"]


def test_what_is_caught_is_what_was_there_then(model: Any) -> None:
    """Layers work in place; a recording must not see later states."""
    with record() as c:
        model(IDS)
    for i in range(3):
        b = f"blocks.{i}."
        before = c["embedding"] if i == 0 else c[f"blocks.{i - 1}.residual"]
        np.testing.assert_array_equal(c[b + "residual_middle"], c[b + "attention.out"] + before)
        np.testing.assert_array_equal(
            c[b + "residual"], c[b + "feed_forward.down"] + c[b + "residual_middle"]
        )
        p = c[b + "attention.probabilities"]
        np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
        assert (p[..., ~np.tri(80, dtype=bool)] == 0).all()
        assert (c[b + "feed_forward.up"] < c[b + "feed_forward.activation"]).any()
        np.testing.assert_allclose(c[b + "attention.mixed"], p @ c[b + "attention.v"], rtol=1e-4, atol=1e-5)


def test_a_recording_hears_its_own_thread_only(model: Any) -> None:
    with record() as caught:
        other = threading.Thread(target=model, args=(IDS,))
        other.start()
        other.join()
    assert len(caught) == 0
