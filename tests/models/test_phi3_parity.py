"""Phi-3 against transformers: windows, parts of heads, and rotations in two lists of factors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import (
    assert_close,
    check,
    edit_config,
    logits_of,
    old_spelling,
    random_ids,
    reference_model,
    save,
)

from tinystar_np.errors import ConfigError
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
LENGTH, CUTS = 50, [[1, 2, 46, 1], [16, 34], [17, 33], [20, 1, 1, 28]]


def rope(rope_type: str = "default", **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 10000.0, **more}}


def longrope(pairs: int = 4, **more: Any) -> dict[str, Any]:
    short = [1.0 + 0.1 * j for j in range(pairs)]
    return rope("longrope", short_factor=short, long_factor=[1.0 + j for j in range(pairs)], **more)


VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "multi_head": {"num_key_value_heads": None},
    "window": {"sliding_window": 16},
    "window_of_one_less": {"sliding_window": 49},
    "tied": {"tie_word_embeddings": True},
    "epsilon": {"rms_norm_eps": 0.1, "hidden_act": "gelu"},
    "half_heads": rope(partial_rotary_factor=0.5, rope_theta=250000.0),
    "longrope": longrope(),  # LENGTH is below the original length
    "longrope_given_factors": longrope(factor=8.0, attention_factor=1.3),
    "phi_4_mini": {**longrope(3, partial_rotary_factor=0.75), "tie_word_embeddings": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("phi3", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path), length=LENGTH, cuts=CUTS)
    assert model.trained_length == 256
    edit_config(tmp_path, **old_spelling(json.loads((tmp_path / "config.json").read_text())))
    ids = random_ids(2, 60)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (rope("linear", factor=2.0), "rope_type = 'linear', but Phi-3 knows default and longrope"),
        (longrope(5), r"short_factor = .* but it must be a list of 4 numbers"),
        (rope("yarn", factor=2.0), "rope_parameters.short_factor = None"),
        (rope("su"), "rope_parameters.short_factor = None"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor = 1.5, but it must be"),
        ({"sliding_window": 0}, "sliding_window = 0, but a token sees at least itself"),
        ({"num_key_value_heads": 4}, "num_attention_heads = 6 cannot be divided among .* = 4"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "phi3", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
