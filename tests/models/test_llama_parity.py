"""Llama against transformers: every switch and every rule of its rotations, in both spellings."""

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
from transformers import AutoModelForCausalLM

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
PAIRS = 4  # of each head


def rope(rope_type: str, **numbers: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 10000.0, **numbers}}


VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "multi_head": {"num_key_value_heads": 6},
    "multi_query": {"num_key_value_heads": 1},
    "wide_heads": {"head_dim": 12},
    "attention_bias": {"attention_bias": True},
    "mlp_bias": {"mlp_bias": True},
    "tied": {"tie_word_embeddings": True},
    "epsilon": {"rms_norm_eps": 0.1},
    "gelu": {"hidden_act": "gelu_pytorch_tanh"},
    "base": rope("default", rope_theta=500000.0),
    "linear": rope("linear", factor=4.0),
    "llama3": rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
    ),
    "yarn": rope("yarn", factor=4.0, original_max_position_embeddings=16),
    "yarn_mscale": rope(
        "yarn",
        factor=4.0,
        original_max_position_embeddings=16,
        mscale=0.7,
        mscale_all_dim=0.5,
        truncate=False,
    ),
}
# Frequencies that depend on the length of the text so far: reading in pieces is another computation than
# reading at once, in transformers too.
BY_LENGTH: dict[str, dict[str, Any]] = {
    "dynamic": rope("dynamic", factor=2.0),
    "longrope": rope(
        "longrope",
        factor=4.0,
        original_max_position_embeddings=32,
        short_factor=[1.0, 1.1, 1.2, 1.3],
        long_factor=[1.0, 2.0, 3.0, 4.0],
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("llama", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path))
    assert model.context_length is None
    assert model.trained_length == 64


@pytest.mark.parametrize("variant", ["grouped", "base", "linear", "llama3", "yarn", "yarn_mscale"])
def test_old_spelling(variant: str, tmp_path: Path) -> None:
    reference = reference_model("llama", **{**SMALL, **VARIANTS[variant]})
    save(reference, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    save(reference, tmp_path, **old_spelling(raw))
    assert "rope_parameters" not in (tmp_path / "config.json").read_text()
    model, _ = load(tmp_path)
    ids = random_ids(2, 90)
    assert_close(model(ids), logits_of(reference, ids))


@pytest.mark.parametrize("length", [20, 33, 90])
@pytest.mark.parametrize("variant", BY_LENGTH)
def test_rules_that_depend_on_the_length(variant: str, length: int, tmp_path: Path) -> None:
    """Whole prompts on either side of the lengths at which the rules change."""
    reference = reference_model("llama", **{**SMALL, **BY_LENGTH[variant]})
    save(reference, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    for changes in ({}, old_spelling(raw)):
        save(reference, tmp_path, **changes)
        model, _ = load(tmp_path)
        ids = random_ids(2, length)
        expected = logits_of(reference, ids)
        assert_close(model(ids), expected)


def test_a_file_of_the_first_llama(tmp_path: Path) -> None:
    """float16, saved frequencies, no word of groups, rotations or ties; an output layer that is not tied."""
    reference = reference_model("llama", **{**SMALL, "num_key_value_heads": 6})
    for parameter in reference.parameters():
        parameter.data = parameter.data.half().float()
    reference.save_pretrained(tmp_path)
    tensors = {name: tensor.half() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    for i in range(3):
        tensors[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = torch.ones(PAIRS)
    save_file(tensors, tmp_path / "model.safetensors")
    config = {
        "architectures": ["LLaMAForCausalLM"],
        "bos_token_id": 0,
        "eos_token_id": 1,
        "hidden_act": "silu",
        "hidden_size": 48,
        "initializer_range": 0.02,
        "intermediate_size": 80,
        "max_sequence_length": 64,
        "model_type": "llama",
        "num_attention_heads": 6,
        "num_hidden_layers": 3,
        "pad_token_id": -1,
        "rms_norm_eps": 1e-06,
        "torch_dtype": "float16",
        "transformers_version": "4.27.0.dev0",
        "use_cache": True,
        "vocab_size": 211,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, _ = load(tmp_path)
    ids = random_ids(2, 90)
    assert_close(model(ids), logits_of(reference, ids))
    assert model.trained_length == 2048


@pytest.mark.parametrize("tied", [True, False])
def test_a_file_without_the_prefix(tied: bool, tmp_path: Path) -> None:
    """A tied output layer may be in the file too, as a copy."""
    reference = reference_model("llama", **SMALL, tie_word_embeddings=tied)
    save(reference, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert ("lm_head.weight" in tensors) is not tied
    tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"].clone())
    save_file({n.removeprefix("model."): t for n, t in tensors.items()}, tmp_path / "model.safetensors")
    model, _ = load(tmp_path)
    ids = random_ids(2, 20)
    assert_close(model(ids), logits_of(reference, ids))


def test_a_tied_model_whose_file_has_another_output_layer(tmp_path: Path) -> None:
    """transformers believes the file."""
    reference = reference_model("llama", **SMALL, tie_word_embeddings=False)
    save(reference, tmp_path, tie_word_embeddings=True)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    model, _ = load(tmp_path)
    ids = random_ids(2, 20)
    assert_close(logits_of(again, ids), logits_of(reference, ids))
    assert_close(model(ids), logits_of(reference, ids))
    assert not model.config.tie_word_embeddings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_attention_heads": 5, "head_dim": None},
            "hidden_size = 48 cannot be divided among num_attention_heads = 5",
        ),
        (
            {"num_key_value_heads": 4},
            "= 6 cannot be divided among num_key_value_heads = 4",
        ),
        ({"num_key_value_heads": 0}, "G = 0"),
        ({"head_dim": 7}, "7"),
        ({"head_dim": 0}, "K = 0"),
        ({"hidden_act": "xielu"}, "hidden_act = 'xielu' is not known here"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps = 0.0 must be above 0"),
        ({"rope_scaling": {"type": "spiral", "factor": 2.0}}, "rope_scaling.type = 'spiral' is not known"),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "rope_scaling.factor = 0.5"),
        ({"rope_scaling": "linear"}, "rope_scaling = 'linear'"),
        ({"attention_bias": 1}, "attention_bias = 1"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    reference_model("llama", **SMALL).config.save_pretrained(tmp_path)
    edit_config(tmp_path, **changes)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
