"""GPT-J against transformers: parts of heads that rotate by neighbours, and an output layer with a bias."""

from pathlib import Path
from typing import Any

import pytest
import torch
from parity import assert_close, check, edit_config, logits_of, random_ids, reference_model, save
from safetensors.torch import load_file, save_file

from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.loading import load

SMALL = {"n_embd": 48, "n_layer": 2, "n_head": 3, "rotary_dim": 8, "n_positions": 128}
VARIANTS: dict[str, dict[str, Any]] = {
    "as_published": {},
    "whole_heads": {"rotary_dim": 16},
    "one_pair": {"rotary_dim": 2},
    "tied": {"tie_word_embeddings": True},
    "inner_width": {"n_inner": 80, "activation_function": "relu", "layer_norm_epsilon": 0.1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("gptj", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path))
    assert model.context_length is None
    assert model.trained_length == 128


def test_a_file_of_the_hub(tmp_path: Path) -> None:
    """Keys that mean nothing, sizes under general names, and the mask's buffers among the tensors."""
    reference = reference_model("gptj", **SMALL)
    save(reference, tmp_path, n_embd=None, n_layer=None, hidden_size=48, num_hidden_layers=2)
    edit_config(tmp_path, rotary=True, scale_attn_weights=True, gradient_checkpointing=False, n_inner=None)
    tensors = load_file(tmp_path / "model.safetensors")
    for i in range(2):
        tensors[f"transformer.h.{i}.attn.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.bool)
        tensors[f"transformer.h.{i}.attn.masked_bias"] = torch.tensor(-1e9)
    save_file(tensors, tmp_path / "model.safetensors")
    ids = random_ids(2, 70)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_head": 5}, "hidden_size = 48 cannot be divided among num_attention_heads = 5"),
        ({"rotary_dim": 18}, "rotary_dim = 18, but it must be even, from 2 to the width of a head, 16"),
        ({"rotary_dim": 7}, "rotary_dim = 7, but"),
        ({"rotary_dim": 0}, "rotary_dim = 0, but"),
        ({"rotary_dim": "8"}, "rotary_dim = '8', but it must be int"),
        ({"activation_function": "prelu"}, "activation_function = 'prelu' is not known here"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(reference_model("gptj", **SMALL), tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_an_output_layer_without_its_bias(tmp_path: Path) -> None:
    save(reference_model("gptj", **SMALL), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["lm_head.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks 'lm_head.bias'"):
        load(tmp_path)
