"""Phi-3's own: texts on both sides of the length that it was first trained on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import (
    assert_close,
    edit_config,
    logits_of,
    old_spelling,
    random_ids,
    reference_model,
    save,
)

from tinystar_np.generation import generate_ids
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "original_max_position_embeddings": 64,
}


def rope(rope_type: str = "default", **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 10000.0, **more}}


def longrope(pairs: int = 4, **more: Any) -> dict[str, Any]:
    short = [1.0 + 0.1 * j for j in range(pairs)]
    return rope("longrope", short_factor=short, long_factor=[1.0 + j for j in range(pairs)], **more)


@pytest.mark.parametrize("called", ["longrope", "su", "yarn"])
@pytest.mark.parametrize("length", [64, 65, 90])
def test_on_both_sides_of_the_original_length(length: int, called: str, tmp_path: Path) -> None:
    """Under each of the rule's names, in both spellings; the original length as a key of its own."""
    reference = reference_model("phi3", **{**SMALL, **longrope()})
    raw = json.loads((save(reference, tmp_path) / "config.json").read_text())
    ids = random_ids(2, length)
    expected = logits_of(reference, ids)
    del raw["rope_parameters"]["original_max_position_embeddings"]
    raw["rope_parameters"]["rope_type"] = called
    for changes in ({"rope_parameters": raw["rope_parameters"]}, old_spelling(raw)):
        edit_config(tmp_path, **changes)
        assert_close(load(tmp_path)[0](ids), expected)
    edit_config(tmp_path, original_max_position_embeddings=128)  # it does decide
    found = load(tmp_path)[0](ids)
    assert np.abs(found - expected).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("length", [30, 60, 63, 64, 65, 80])
def test_generation_across_the_original_length(length: int, tmp_path: Path) -> None:
    """As transformers' generate, which gives up its cache where the text grows past it."""
    reference = reference_model("phi3", **{**SMALL, **longrope()})
    model, _ = load(save(reference, tmp_path))
    prompt = random_ids(length)
    new = 70 - length if length < 60 else 12
    expected = reference.generate(
        torch.from_numpy(prompt[None]), max_new_tokens=new, do_sample=False, eos_token_id=None
    )[0, length:].tolist()
    model.end_ids = ()
    assert generate_ids(model, prompt, max_new_tokens=new, temperature=0.0) == expected
