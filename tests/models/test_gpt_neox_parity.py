"""GPT-NeoX against transformers: blocks in both wirings, rotations of parts of heads, both spellings."""

import json
from pathlib import Path
from typing import Any

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
from safetensors.torch import load_file, save_file

from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 64,
}


def rope(
    rope_type: str = "default", part: float = 0.25, theta: float = 10000.0, **more: Any
) -> dict[str, Any]:
    parameters = {"rope_type": rope_type, "rope_theta": theta, "partial_rotary_factor": part, **more}
    return {"rope_parameters": parameters}


VARIANTS: dict[str, dict[str, Any]] = {
    "pythia": {},
    "sequential": {"use_parallel_residual": False},
    "unbiased_attention": {"attention_bias": False},
    "tied": {"tie_word_embeddings": True},
    "epsilon": {"layer_norm_eps": 0.1, "hidden_act": "gelu_fast"},
    "whole_heads": rope(part=1.0, theta=25000.0),
    "one_number_too_many_for_pairs": rope(part=0.2),  # 3 of 16, rounded up to 4
    "linear": rope("linear", part=0.5, factor=4.0),
    "yarn": {**rope("yarn", part=0.5, factor=4.0, original_max_position_embeddings=16)},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("gpt_neox", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path))
    assert model.context_length is None
    assert model.trained_length == 64


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_of_the_hub(variant: str, tmp_path: Path) -> None:
    """Old names of keys, and buffers of the mask and the frequencies among the tensors."""
    reference = reference_model("gpt_neox", **{**SMALL, **VARIANTS[variant]})
    raw = json.loads((save(reference, tmp_path) / "config.json").read_text())
    changes = old_spelling(raw)
    changes["rotary_emb_base"] = changes.pop("rope_theta")
    changes["rotary_pct"] = changes.pop("partial_rotary_factor")
    edit_config(tmp_path, **changes)
    tensors = load_file(tmp_path / "model.safetensors")
    for i in range(2):
        tensors[f"gpt_neox.layers.{i}.attention.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.bool)
        tensors[f"gpt_neox.layers.{i}.attention.masked_bias"] = torch.tensor(-1e9)
        tensors[f"gpt_neox.layers.{i}.attention.rotary_emb.inv_freq"] = torch.ones(2)
    save_file(tensors, tmp_path / "model.safetensors")
    ids = random_ids(2, 70)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize("length", [33, 90])
def test_frequencies_that_depend_on_the_length(length: int, tmp_path: Path) -> None:
    reference = reference_model("gpt_neox", **SMALL, **rope("dynamic", part=0.5, factor=2.0))
    model, _ = load(save(reference, tmp_path))
    ids = random_ids(2, length)
    assert_close(model(ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 5}, "hidden_size = 48 cannot be divided among num_attention_heads = 5"),
        ({"hidden_act": "prelu"}, "hidden_act = 'prelu' is not known here. Known: .*gelu"),
        ({"layer_norm_eps": 0}, "layer_norm_eps = 0.0 must be above 0"),
        ({"use_parallel_residual": "yes"}, "use_parallel_residual = 'yes', but it must be bool"),
        ({"rope_parameters": None, "rotary_pct": 1.5}, "partial_rotary_factor = 1.5, but it must be"),
        ({"rope_parameters": {"rope_type": "spiral"}}, "rope_type = 'spiral' is not known here"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(reference_model("gpt_neox", **SMALL), tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_weights_of_another_variant(tmp_path: Path) -> None:
    save(reference_model("gpt_neox", **SMALL), tmp_path, attention_bias=False)
    with pytest.raises(CheckpointError, match=r"has 'layers.0.attention.dense.bias'"):
        load(tmp_path)
