"""The map of restored answers: each cell as a whole run with one patch, by hand, and where it is drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpt2_by_hand import forward
from parity import random_ids
from small_models import small_model

import tinystar_np as ts
from tinystar_np.errors import InputError
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig
from tinystar_np.seeing import patching as module
from tinystar_np.seeing.maps import LINE

CLEAN = random_ids(9, seed=1)
CORRUPTED = CLEAN.copy()
CORRUPTED[[2, 5]] = [7, 11]
RIGHT, WRONG = 3, 100


def test_each_cell_by_hand() -> None:
    model = small_model("learned positions")
    names = {"residual": "residual", "attention": "out", "feed_forward": "down", "attention.v": "v"}
    clean: dict[str, np.ndarray] = {}

    def difference(logits: np.ndarray) -> float:
        return float(logits[-1, RIGHT] - logits[-1, WRONG])

    best = difference(forward(model, CLEAN, 4, lambda name, x: clean.setdefault(name, x)))
    worst = difference(forward(model, CORRUPTED, 4))
    found = ts.patching(model, CLEAN, CORRUPTED, answer=(RIGHT, WRONG), taps=list(names))
    assert found.taps == tuple(names)
    assert (found.clean, found.corrupted) == pytest.approx((best, worst), rel=1e-4)
    for n, name in enumerate(names.values()):
        for layer in range(2):
            for position in range(9):

                def patched(path: str, x: np.ndarray, target: Any = (layer, name, position)) -> np.ndarray:
                    if path != f"blocks.{target[0]}.{target[1]}":
                        return x
                    where = (slice(None), target[2]) if target[1] == "v" else target[2]
                    y = x.copy()
                    y[where] = clean[path][where]
                    return y

                expected = (difference(forward(model, CORRUPTED, 4, patched)) - worst) / (best - worst)
                assert found.values[n, layer, position] == pytest.approx(expected, rel=2e-5, abs=2e-5)
    residual = found.values[0]
    assert (residual[:, :2] == 0).all()  # nothing differs there yet
    assert residual[-1, -1] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(residual[-1, :-1], 0, atol=1e-5)
    assert np.abs(found.values).max() > 0.05


KINDS = ["rope, groups", "window", "latent attention", "one key for all heads, parallel", "experts"]
RECURRENT = ["mamba 1", "mamba 2", "mamba 2 and attention", "experts, delta rule"]


@pytest.mark.parametrize("name", [*KINDS, *RECURRENT])
def test_each_cell_is_a_whole_run_with_one_patch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with few positions at a time."""
    model = small_model(name)
    monkeypatch.setattr(module, "POSITIONS_AT_ONCE", 3)
    found = ts.patching(model, CLEAN, CORRUPTED, answer=RIGHT)
    with ts.record() as clean:
        best = model(CLEAN)[-1, RIGHT]
    worst = model(CORRUPTED)[-1, RIGHT]
    assert found.taps[0] == "residual"
    assert {"mixer", "attention"} & set(found.taps)
    for n, kind in enumerate(found.taps):
        for layer, row in enumerate(found.values[n]):
            taps = [f"blocks.{layer}.{tap}" for tap in module.OUTPUTS.get(kind, (kind,))]
            there = [tap for tap in taps if tap in clean]
            if not there:
                assert np.isnan(row).all()
                continue
            for position, value in enumerate(row):
                with ts.patch(clean, there[0], positions=position):
                    logits = model(CORRUPTED)
                assert value == pytest.approx((logits[-1, RIGHT] - worst) / (best - worst), abs=1e-4)


def test_every_key_of_a_query_and_a_model_that_looks_ahead() -> None:
    """Whose runs begin with the text's first token."""
    windowed = small_model("window")
    looking = TinyStar(
        TinyStarConfig(hidden_size=32, num_layers=2, num_heads=4, mask="bidirectional", init_std=0.3), seed=3
    )
    clean, corrupted = (np.tile(ids, 3) for ids in (CLEAN, CORRUPTED))  # longer than the window
    for model, tap in ((windowed, "attention.probabilities"), (looking, "attention.out")):
        found = ts.patching(model, clean, corrupted, answer=RIGHT, taps=[tap])
        with ts.record() as recording:
            best = model(clean)[-1, RIGHT]
        worst = model(corrupted)[-1, RIGHT]
        for layer in range(2):
            for position in range(27):
                with ts.patch(recording, f"blocks.{layer}.{tap}", positions=position):
                    logits = model(corrupted)
                expected = (logits[-1, RIGHT] - worst) / (best - worst)
                assert found.values[0, layer, position] == pytest.approx(expected, abs=1e-4)
        assert np.abs(found.values).max() > 0.01


def test_blocks_without_such_a_layer_have_no_number() -> None:
    found = ts.patching(small_model("mamba 2 and attention"), CLEAN, CORRUPTED, answer=RIGHT)
    assert found.taps == ("residual", "attention", "mixer", "feed_forward")
    assert np.isnan(found.values[1]).all(axis=-1).tolist() == [True, False, True]
    assert np.isnan(found.values[2]).all(axis=-1).tolist() == [False, True, False]
    assert "–" in str(found)


def test_within_an_intervention() -> None:
    """Both runs and all patched ones are computed under it."""
    model = small_model("rope, groups")

    def opened() -> Any:
        return ts.ablate("blocks.1.attention.mixed", heads=[0, 3], rows=[0], positions=slice(4, None))

    with opened():
        found = ts.patching(model, CLEAN, CORRUPTED, answer=RIGHT)
    with opened(), ts.record() as clean:
        best = model(CLEAN)[-1, RIGHT]
    with opened():
        worst = model(CORRUPTED)[-1, RIGHT]
    for layer in range(2):
        for position in range(9):
            with opened(), ts.patch(clean, f"blocks.{layer}.attention.out", positions=position):
                logits = model(CORRUPTED)
            expected = (logits[-1, RIGHT] - worst) / (best - worst)
            assert found.values[1, layer, position] == pytest.approx(expected, abs=1e-4)


def test_a_name_is_copied_from_where_it_stands() -> None:
    """The shipped model says the hero's name again: late attention takes it from its place."""
    model, tokenizer = ts.load("stories")
    text = "Once upon a time there was a boy named {}. He had a dog named Max. One day,"
    clean, corrupted = (tokenizer.encode(text.format(name)) for name in ("Tim", "Tom"))
    answer = tuple(tokenizer.encode(name)[0] for name in (" Tim", " Tom"))
    found = ts.patching(model, clean, corrupted, answer=answer)
    assert found.clean > 3
    assert found.corrupted < -3
    residual, attention, feed_forward = found.values
    hero = next(i for i, (a, b) in enumerate(zip(clean, corrupted, strict=True)) if a != b)
    assert (residual[:4, hero] > 0.95).all()
    assert (residual[:4, -1] < 0.05).all()
    assert attention[4:, -1].sum() > 0.9
    assert feed_forward[0, hero] > 0.9


def test_as_text() -> None:
    model = small_model("learned positions")
    labels = ["a\x1b[31m", "$x$", "<b>", *"efghij"]
    found = ts.patching(model, CLEAN, CORRUPTED, answer=(RIGHT, WRONG), tokens=labels)
    text = str(found)
    assert "\x1b" not in text
    assert text.splitlines()[0].startswith("Restored logit difference: corrupted ")
    block = text.split("\n\n")[1].splitlines()
    assert block[0] == "residual"
    assert block[1].split()[1:3] == ["$x$", "<b>"]
    assert [line.split()[1] for line in block[2:]] == ["1", "0"]
    numbers = [float(number) for number in block[2].split()[2:]]
    np.testing.assert_allclose(numbers, found.values[0, 1], atol=0.0051)
    long = ts.patching(model, np.tile(CLEAN, 5), np.tile(CORRUPTED, 5), answer=RIGHT)
    assert max(len(line) for line in str(long).splitlines()) <= LINE
    assert long.tokens[2] == f"{CLEAN[2]} → 7"


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_drawn(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    labels = ["a\x1b[31m", "$x$ $", "日本", "<b>", *"fghij"]
    found = ts.patching(small_model("mamba 2 and attention"), CLEAN, CORRUPTED, answer=RIGHT, tokens=labels)
    path = tmp_path / f"map{ending}"
    found.plot(path)
    assert path.stat().st_size > 5000
    if ending == ".png":
        assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"ends with \.png or \.svg"):
        found.plot(tmp_path / "map.txt")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"corrupted_ids": CLEAN[:5]}, "two texts of one length"),
        ({"clean_ids": CLEAN[None], "corrupted_ids": CORRUPTED[None]}, "two texts of one length"),
        ({"corrupted_ids": CLEAN}, "no difference to restore"),
        ({"answer": 211}, "token id 211 is outside the vocabulary"),
        ({"answer": (3, 3)}, "two different ones"),
        ({"answer": (1, 2, 3)}, "two different ones"),
        ({"answer": "yes"}, "two different ones|token ids are integers"),
        ({"taps": ["residul"]}, "No block of this model has 'residul'. Near it: blocks.0.residual"),
        ({"taps": []}, "taps"),
        ({"tokens": ["a"]}, "1 labels, but the text has 9 tokens"),
        ({"answer": None}, "answer is one token id, .* found None"),
        ({"answer": 1.5}, "answer is one token id, .* found 1.5"),
    ],
)
def test_mistakes(changes: dict[str, Any], words: str) -> None:
    given = {"clean_ids": CLEAN, "corrupted_ids": CORRUPTED, "answer": RIGHT, **changes}
    with pytest.raises(InputError, match=words):
        ts.patching(small_model("learned positions"), **given)
