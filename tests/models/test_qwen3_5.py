"""Qwen3.5: the text part within models of text and images, and files of the text part alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, check, logits_of, random_ids, randomise, save
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from tinystar_np.errors import InputError
from tinystar_np.generation.image_prompt import no_images
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.loading import load

KINDS = ("qwen3_5", "qwen3_5_moe")
TEXT = {
    "vocab_size": 211,
    "hidden_size": 48,
    "intermediate_size": 40,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "max_position_embeddings": 128,
    "rms_norm_eps": 0.1,  # see parity_rows/qwen3_next.py
    "rope_parameters": {
        "mrope_interleaved": True,
        "mrope_section": [1, 1, 0],
        "rope_type": "default",
        "rope_theta": 100.0,
        "partial_rotary_factor": 0.25,
    },
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
EYE = {"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 48}
EYE |= {"patch_size": 4, "num_position_embeddings": 16}


def whole_model(kind: str, **text: Any) -> PreTrainedModel:
    """Make a small random model that sees and reads."""
    tied = text.pop("tie_word_embeddings", False)
    config = AutoConfig.for_model(
        kind, text_config={**TEXT, **text}, vision_config=EYE, tie_word_embeddings=tied
    )
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="eager", dtype=torch.float32)
    randomise(model)
    return model.eval()


def rewrite(directory: Path, change: Any) -> None:
    """Change the tensors of a file."""
    path = directory / "model.safetensors"
    save_file(change(load_file(path)), path)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_text_part(kind: str, tied: bool, tmp_path: Path) -> None:
    reference = whole_model(kind, tie_word_embeddings=tied)
    model = check(reference, save(reference, tmp_path), length=40)
    assert type(model).__module__ == f"tinystar_np.models.{kind}_text"
    assert "the text part is implemented here" in str(no_images(model))


@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_predict_further_tokens(kind: str, tmp_path: Path) -> None:
    """Published files have them as mtp.*, beside the model.language_model.* and the model.visual.*."""
    reference = whole_model(kind)
    save(reference, tmp_path)
    further = {name: np.ones(3, np.float32) for name in ("mtp.fc.weight", "mtp.layers.0.mlp.gate.weight")}
    rewrite(tmp_path, lambda tensors: tensors | further)
    names = load_file(tmp_path / "model.safetensors")
    assert any(name.startswith("model.language_model.layers.0.linear_attn.in_proj_qkv") for name in names)
    assert any(name.startswith("model.visual.") for name in names)
    ids = random_ids(2, 20)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_part_alone_under_the_names_of_the_whole(kind: str, tmp_path: Path) -> None:
    """Fine-tuned files say model_type qwen3_5_text, and keep the names, the encoder and mtp.*."""
    reference = whole_model(kind)
    raw = json.loads((save(reference, tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw["text_config"] | {"tie_word_embeddings": False}))
    rewrite(tmp_path, lambda tensors: tensors | {"mtp.norm.weight": np.ones(3, np.float32)})
    model, _ = load(tmp_path)
    ids = random_ids(2, 20)
    assert_close(model(ids), logits_of(reference, ids))
    with pytest.raises(InputError, match="reads text alone"):
        raise no_images(model)


LAYERS = [*["linear_attention"] * 3, "full_attention"] * 8
# Qwen/Qwen3.5-27B and Qwen/Qwen3.5-35B-A3B, with fewer layers
PUBLISHED: dict[str, dict[str, Any]] = {
    "qwen3_5": {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_output_gate": True,
        "dtype": "bfloat16",
        "eos_token_id": 248044,
        "full_attention_interval": 4,
        "head_dim": 256,
        "hidden_act": "silu",
        "hidden_size": 5120,
        "initializer_range": 0.02,
        "intermediate_size": 17408,
        "layer_types": LAYERS[:8],
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 48,
        "linear_value_head_dim": 128,
        "max_position_embeddings": 262144,
        "mlp_only_layers": [],
        "model_type": "qwen3_5_text",
        "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": False,
        "num_attention_heads": 24,
        "num_hidden_layers": 8,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06,
        "use_cache": True,
        "vocab_size": 248320,
        "mamba_ssm_dtype": "float32",
        "rope_parameters": {
            "mrope_interleaved": True,
            "mrope_section": [11, 11, 10],
            "rope_type": "default",
            "rope_theta": 10000000,
            "partial_rotary_factor": 0.25,
        },
    },
    "qwen3_5_moe": {
        "attention_bias": False,
        "attn_output_gate": True,
        "full_attention_interval": 4,
        "head_dim": 256,
        "hidden_size": 2048,
        "layer_types": LAYERS[:8],
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "max_position_embeddings": 262144,
        "mlp_only_layers": [],
        "model_type": "qwen3_5_moe_text",
        "moe_intermediate_size": 512,
        "mtp_num_hidden_layers": 1,
        "num_attention_heads": 16,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 8,
        "num_key_value_heads": 2,
        "output_router_logits": False,
        "shared_expert_intermediate_size": 512,
        "vocab_size": 248320,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25},
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_published_sizes(kind: str) -> None:
    """As many weights as transformers' text part has, and as published for 64 and 40 layers."""
    text = PUBLISHED[kind]
    raw = {"model_type": kind, "text_config": text, "vision_config": EYE, "tie_word_embeddings": False}
    settings = {key: value for key, value in text.items() if key != "model_type"}
    with torch.device("meta"):
        config = AutoConfig.for_model(f"{kind}_text", **settings)
        reference = AutoModelForCausalLM.from_config(config)
    model = hollow_model(raw)
    assert model.parameters == sum(p.numel() for p in reference.parameters())
    layers = {"qwen3_5": 64, "qwen3_5_moe": 40}[kind]
    whole = {**raw, "text_config": {**text, "num_hidden_layers": layers, "layer_types": None}}
    billions = hollow_model(whole).parameters / 1e9
    assert round(billions, 1) == {"qwen3_5": 26.9, "qwen3_5_moe": 34.7}[kind]
