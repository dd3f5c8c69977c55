"""Kinds of heads: sums by plain loops, TransformerLens' own scores, attention made by hand, a real model."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from parity import random_ids
from small_models import build, small_model
from smollm2 import smollm2_file

import tinystar_np as ts
from tinystar_np.errors import ContextFullError, InputError
from tinystar_np.inspection.describe import mixers_of
from tinystar_np.models import Decoder
from tinystar_np.seeing import record
from tinystar_np.seeing.head_kinds import KINDS, LayerHeads, head_kinds, induction_scores, targets

# Full attention, windows, chunks, sinks, ALiBi, latent attention, hybrids: how far a query sees differs.
SMALL = (
    *("rope, groups", "window", "caps, windows in turns", "chunks and no positions, in turns", "alibi"),
    *("one key for all heads, parallel", "latent attention", "mamba 2 and attention"),
    *("experts, sinks, window", "experts, delta rule"),
)
LENGTH = 40
TEXT = np.concatenate([random_ids(15), random_ids(15), random_ids(LENGTH - 30, seed=2)])  # 15 tokens twice


def recorded(model: Decoder, ids: np.ndarray = TEXT) -> Any:
    with record("blocks.*.attention.probabilities") as recording:
        model(ids)
    return recording


@pytest.mark.parametrize("name", SMALL)
def test_scores_are_the_sums_by_plain_loops(name: str) -> None:
    model = small_model(name)
    recording = recorded(model)
    measured = head_kinds(model, recording, TEXT)
    attending = [i for i in range(len(model.blocks)) if f"blocks.{i}.attention.probabilities" in recording]
    assert [layer.layer for layer in measured] == attending
    assert attending
    for layer in measured:
        probabilities = recording[f"blocks.{layer.layer}.attention.probabilities"][0]
        window, chunk, _ = mixers_of(model.blocks[layer.layer])[0].limits()  # type: ignore[attr-defined]
        totals: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
        evenly: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for t in range(1, LENGTH):
            lowest = 0 if window is None else max(0, t - window + 1)
            lowest = lowest if chunk is None else max(lowest, t - t % chunk)
            seen = range(lowest, t + 1)
            wanted = {
                "first token": [0],
                "self": [t],
                "previous token": [t - 1],
                "duplicate token": [s for s in range(t) if TEXT[s] == TEXT[t]],
                "induction": [s + 1 for s in range(t - 1) if TEXT[s] == TEXT[t]],
            }
            for kind, keys in wanted.items():
                keys = [key for key in keys if key in seen]
                if keys:
                    totals[kind].append(probabilities[:, t, keys].sum(axis=-1))
                    evenly[kind].append(len(keys) / len(seen))
        for kind in KINDS:
            assert layer.queries[kind] == len(totals[kind])
            if totals[kind]:
                np.testing.assert_allclose(layer.scores[kind], np.mean(totals[kind], axis=0), rtol=1e-5)
                assert layer.chance[kind] == pytest.approx(np.mean(evenly[kind]))
            else:
                assert np.isnan(layer.scores[kind]).all()
        rest = 1 - probabilities.sum(axis=-1).mean(axis=-1)
        np.testing.assert_allclose(layer.unattended, np.maximum(rest, 0), atol=1e-6)
    assert any(np.isfinite(layer.scores["induction"]).all() for layer in measured)
    unattended = np.concatenate([layer.unattended for layer in measured])
    assert (unattended > 0.01).all() if "sinks" in name else (unattended < 1e-5).all()


def test_both_sides_of_a_token_that_sees_them() -> None:
    """Bidirectional: even attention reaches all tokens, and what counts is earlier all the same."""
    config = ts.TinyStarConfig(
        hidden_size=32, num_layers=1, num_heads=4, mask="bidirectional", positions="learned"
    )
    model = ts.TinyStar(config)
    (layer,) = head_kinds(model, recorded(model), TEXT)
    assert layer.chance["previous token"] == pytest.approx(1 / LENGTH)
    assert layer.chance["self"] == pytest.approx(1 / LENGTH)


def test_transformer_lens_has_the_same_sums() -> None:
    """Its score divides by all queries' attention, ours by that of queries that have such a token."""
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("transformer_lens.head_detector", reason="pip install transformer-lens")
    model = small_model("rope, groups")
    recording = recorded(model)
    tokens = torch.tensor(TEXT)[None]
    patterns = {
        "previous token": theirs.get_previous_token_head_detection_pattern(tokens),
        "duplicate token": theirs.get_duplicate_token_head_detection_pattern(tokens),
        "induction": theirs.get_induction_head_detection_pattern(tokens),
    }
    for layer in head_kinds(model, recording, TEXT):
        probabilities = torch.tensor(recording[f"blocks.{layer.layer}.attention.probabilities"][0])
        for kind, pattern in patterns.items():
            np.testing.assert_array_equal(targets(TEXT)[kind], pattern.numpy().astype(bool))
            for head, weights in enumerate(probabilities):
                score = theirs.compute_head_attention_similarity_score(
                    weights, pattern, exclude_bos=False, exclude_current_token=False, error_measure="mul"
                )
                ours = float(layer.scores[kind][head]) * layer.queries[kind] / LENGTH
                assert ours == pytest.approx(score, rel=1e-4)


def made(*rows: np.ndarray) -> tuple[Decoder, dict[str, np.ndarray]]:
    """A model with 4 heads, and a recording in which they attend as these say."""
    config = {
        "hidden_size": 32,
        "intermediate_size": 20,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }
    return build("llama", config), {"blocks.0.attention.probabilities": np.stack(rows)[None]}


def test_perfect_heads_of_each_kind() -> None:
    ids = np.array([3, 4, 5, 6, 7, 3, 4, 5, 6, 7])
    T = len(ids)
    first, previous, same, induction = (np.zeros((T, T), np.float32) for _ in range(4))
    first[:, 0] = 1
    previous[np.arange(1, T), np.arange(T - 1)] = previous[0, 0] = 1
    same[np.arange(5), 0] = same[np.arange(5, T), np.arange(5)] = 1
    induction[np.arange(5), 0] = induction[np.arange(5, T), np.arange(1, 6)] = 1
    model, recording = made(first, previous, same, induction)
    (layer,) = head_kinds(model, recording, ids)
    assert layer.kinds(0) == ["first token"]
    assert layer.kinds(1) == ["previous token"]
    assert layer.kinds(2)[0] == "duplicate token"
    assert layer.kinds(3)[0] == "induction"
    for head, kind in enumerate(("first token", "previous token", "duplicate token", "induction")):
        assert layer.scores[kind][head] == 1
    # A head that attends evenly is of no kind, in any text.
    even = (np.tri(T) / np.arange(1, T + 1)[:, None]).astype(np.float32)
    model, recording = made(*[even] * 4)
    for length in range(1, T + 1):
        part = {"blocks.0.attention.probabilities": even[None, None, :length, :length].repeat(4, axis=1)}
        (layer,) = head_kinds(model, part, ids[:length])
        assert layer.kinds(0) == []


@cache
def smollm2() -> Decoder:
    return ts.load(smollm2_file(), dtype="float32")[0]


def test_a_real_model_has_induction_heads() -> None:
    """SmolLM2-135M. Where its heads look on a repeated text is checked at the tokens, too."""
    model = smollm2()
    measured = induction_scores(model, length=30, seed=1)
    best = max(
        ((float(s), layer.layer, h) for layer in measured for h, s in enumerate(layer.scores["induction"]))
    )
    assert best[0] > 0.8
    assert "induction" in measured[best[1]].kinds(best[2])
    of_kind = {kind: sum(kind in m.kinds(h) for m in measured for h in range(9)) for kind in KINDS}
    assert of_kind["induction"] >= 5
    assert of_kind["previous token"] >= 5
    assert of_kind["first token"] >= 50
    # Another text, by hand: most queries of the second half look hardest at what followed their like.
    ids = np.tile(np.random.default_rng(5).choice(20_000, 25, replace=False) + 100, 2)
    with record(f"blocks.{best[1]}.attention.probabilities") as recording:
        model(ids)
    (probabilities,) = recording.values()
    hardest = probabilities[0, best[2], 25:].argmax(axis=-1)
    assert (hardest == np.arange(25) + 1).mean() > 0.8


def test_the_shipped_model_on_its_own_text() -> None:
    model, tokenizer = ts.load("stories")
    ids = tokenizer.encode("Once upon a time there was a girl named Lily. She liked to play.")
    measured = head_kinds(model, recorded(model, np.array(ids)), ids)
    assert len(measured) == len(model.blocks)
    assert all(((s >= 0) & (s <= 1.00001)).all() for m in measured for s in m.scores.values())


def test_random_texts_are_averaged_and_repeatable() -> None:
    model = small_model("rope, groups")
    once = [induction_scores(model, length=10, seed=seed)[0] for seed in (3, 3, 4)]
    assert np.array_equal(once[0].scores["induction"], once[1].scores["induction"])
    assert not np.array_equal(once[0].scores["induction"], once[2].scores["induction"])
    several = induction_scores(model, length=10, texts=5, beginning=[1], among=range(50, 70))
    assert isinstance(several[0], LayerHeads)
    assert several[0].queries == {
        "first token": 20,
        "self": 20,
        "previous token": 20,
        "duplicate token": 10,
        "induction": 10,
    }
    few = induction_scores(model, length=30, among=[5, 6, 7])  # with repetition among themselves
    assert np.isfinite(few[0].scores["induction"]).all()


def test_errors() -> None:
    model = small_model("rope, groups")
    with pytest.raises(InputError, match=r"no blocks\.0\.attention\.probabilities"):
        head_kinds(model, {}, TEXT)
    with pytest.raises(InputError, match=r"has the shape \(1, 6, 40, 40\), but must be \(1, H, 39, 39\)"):
        head_kinds(model, recorded(model), TEXT[1:])
    with pytest.raises(InputError, match="length = 1, repeats = 2"):
        induction_scores(model, length=1)
    with pytest.raises(ContextFullError):
        induction_scores(small_model("learned positions"), length=600)
    assert head_kinds(small_model("mamba 2"), {}, TEXT) == []
