"""The seven designs, trained with torch on a GPU: here they have the losses that were measured there."""

import json
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

import tinystar_np as ts
from tinystar_np.fast.threads import at_most
from tinystar_np.kernels.softmax import softmax

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "examples" / "seven_designs"
RESULTS: dict[str, Any] = json.loads((ROOT / "tinystar_np" / "shipped" / "seven_designs.json").read_text())
CONTEXT = RESULTS["settings"]["context"]
WHOLE_TEXT = "tinystories"

each_design = pytest.mark.parametrize("name", RESULTS["designs"])


@cache
def loaded(name: str) -> tuple[Any, Any]:
    if not (MODELS / name / "model.safetensors").exists():
        pytest.skip("the weights are in the repository only, in none of the packages")
    return ts.load(MODELS / name)


@each_design
def test_it_is_the_shipped_configuration_but_for_its_size(name: str) -> None:
    config, named = loaded(name)[0].config, ts.TinyStarConfig.named(name)
    assert config == ts.TinyStarConfig.from_dict(RESULTS["designs"][name]["config"])
    sizes = {
        key: getattr(config, key) for key in ("vocab_size", "hidden_size", "num_layers", "max_positions")
    }
    window = CONTEXT // 4 if named.window_size else None  # a quarter of the context, as in the shipped one
    assert config == replace(named, **sizes, tokens="tokenizer", window_size=window)
    assert config.max_positions == CONTEXT
    assert loaded(name)[0].parameters == RESULTS["designs"][name]["parameters"]


def windows(ids: NDArray) -> NDArray:
    """Cut a text as the training did: windows of the context's length, and the token after each."""
    starts = np.arange(0, len(ids) - CONTEXT, CONTEXT)
    return ids[starts[:, None] + np.arange(CONTEXT + 1)]


@at_most(1)  # beside other tests, threads of so small models wait for each other more than they compute
def nats(model: Any, rows: NDArray) -> float:
    """The loss of all tokens of these windows but the first of each, added up."""
    total = 0.0
    for row in rows:
        probabilities = softmax(model(row[:-1]).astype(np.float64))
        total -= np.log(probabilities[np.arange(CONTEXT), row[1:]]).sum()
    return total


@each_design
def test_its_loss_is_the_one_measured_when_it_was_trained(name: str, shared: Path) -> None:
    """Over the whole of a held-out text; both compute in float32, with the weights rounded to float16."""
    model, tokenizer = loaded(name)
    rows = windows(np.load(shared / "experiments" / "data" / f"held_out_{WHOLE_TEXT}.npy").astype(int))
    measured = RESULTS["designs"][name]["runs"]["0"]["final"][WHOLE_TEXT]
    assert rows[:, 1:].size == measured["tokens"]
    written = sum(len(tokenizer.decode(row[1:]).encode()) for row in rows)
    loss = nats(model, rows)
    assert loss / measured["tokens"] == pytest.approx(measured["nats_per_token"], rel=3e-6)
    assert loss / written == pytest.approx(measured["nats_per_byte"], rel=3e-6)


@each_design
def test_cached_pieces_are_the_whole(name: str) -> None:
    """A whole context, cut where a window is full, within it, and token by token at the end."""
    model, _ = loaded(name)
    ids = np.random.default_rng(0).integers(0, model.vocab_size, CONTEXT)
    whole = model(ids)
    assert np.isfinite(whole).all()
    cache = model.new_cache()
    cuts = [1, 127, 128, 129, 300, *range(CONTEXT - 4, CONTEXT)]
    pieces = np.concatenate([model(part, cache=cache) for part in np.split(ids, cuts)])
    assert np.abs(pieces - whole).max() < 2e-5 * np.abs(whole).max()


@each_design
def test_weights_are_those_of_the_run(name: str, shared: Path) -> None:
    ours = load_file(MODELS / name / "model.safetensors")
    theirs = load_file(shared / "experiments" / "results" / f"{name}.safetensors")
    assert set(ours) == set(theirs)
    for tensor in ours:
        assert ours[tensor].dtype == np.float16
        np.testing.assert_array_equal(ours[tensor], theirs[tensor])


def test_the_tokenizer_gives_the_text_back(shared: Path) -> None:
    """What was held out is the end of the file, and the same tokens come of it."""
    _, tokenizer = loaded("v0.2-modern")
    ids = np.load(shared / "experiments" / "data" / f"held_out_{WHOLE_TEXT}.npy").tolist()
    assert tokenizer.end_id == 0
    text = tokenizer.decode(ids)
    assert (
        (shared / "corpora" / f"{WHOLE_TEXT}.txt")
        .read_text(encoding="utf-8")
        .rstrip()
        .endswith(text.rstrip())
    )
    assert tokenizer.encode(tokenizer.decode(ids, skip_special_tokens=False)) == ids
    assert len(text.encode()) == RESULTS["texts"][WHOLE_TEXT]["bytes"]
    tokenizers = {(MODELS / name / "tokenizer.json").read_bytes() for name in RESULTS["designs"]}
    assert len(tokenizers) == 1


def test_the_shipped_results_are_those_of_the_run(shared: Path) -> None:
    tool = import_module("seven_designs")  # docs/tools
    found = json.loads((shared / "experiments" / "results" / "results.json").read_text())
    assert (found["skipped"], found["errors"]) == ([], [])
    assert tool.SHIPPED.read_text(encoding="utf-8") == tool.as_text(tool.short(found)) + "\n"


def test_the_card_names_every_model_and_what_it_learnt_from() -> None:
    card = (MODELS / "README.md").read_text(encoding="utf-8")
    for name, design in RESULTS["designs"].items():
        (row,) = (line for line in card.splitlines() if line.startswith(f"| {name} |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert float(cells[1]) == round(design["parameters"] / 1e6, 2)
        final = design["runs"]["0"]["final"]
        per_byte = [text["nats_per_byte"] for text in final.values()]
        assert cells[2:] == [f"{x:.3f}" for x in [sum(per_byte) / len(per_byte), *per_byte]]
    for licence in ("CC0 1.0", "CDLA-Sharing-1.0", "public domain", "CC BY-SA 4.0"):
        assert licence in card
