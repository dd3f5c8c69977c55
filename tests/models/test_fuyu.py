"""Fuyu without an image is Persimmon: its text part against the whole."""

from pathlib import Path
from typing import Any

import pytest
from parity import check, edit_config, logits_of, random_ids, randomise, save
from safetensors.numpy import load_file, save_file
from transformers import FuyuConfig, FuyuForCausalLM

from tinystar_np.loading import load
from tinystar_np.models.persimmon import Persimmon

TEXT = {
    "vocab_size": 211,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 128,
    "layer_norm_eps": 1e-3,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
ROPE = {"rope_type": "default", "rope_theta": 25000.0, "partial_rotary_factor": 0.5}
# adept/fuyu-8b, whose keys all stand beside each other
FLAT = {
    "architectures": ["FuyuForCausalLM"],
    "hidden_act": "relu2",
    "hidden_dropout": 0.0,
    "image_size": 300,
    "initializer_range": 0.02,
    "model_type": "fuyu",
    "num_channels": 3,
    "partial_rotary_factor": 0.5,
    "patch_size": 2,
    "qk_layernorm": True,
    "rope_scaling": None,
    "rope_theta": 25000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "use_cache": True,
}


def whole_model(**text: Any) -> FuyuForCausalLM:
    part = {**TEXT, "rope_parameters": ROPE, "model_type": "persimmon", **text}
    model = FuyuForCausalLM._from_config(
        FuyuConfig(text_config=part, patch_size=2), attn_implementation="eager"
    )
    randomise(model)
    return model.eval()


@pytest.mark.parametrize("text", [{}, {"qk_layernorm": False, "num_attention_heads": 3}])
def test_text_part(text: dict[str, Any], tmp_path: Path) -> None:
    reference = whole_model(**text)
    directory = save(reference, tmp_path)
    assert "vision_embed_tokens.weight" in load_file(directory / "model.safetensors")
    assert isinstance(check(reference, directory, length=40), Persimmon)


def test_a_flat_config(tmp_path: Path) -> None:
    """As in the first files; and names as some versions of transformers write them."""
    reference, ids = whole_model(), random_ids(2, 40)
    directory = save(reference, tmp_path)
    edit_config(directory, text_config=None, **FLAT, **TEXT)
    expected = logits_of(reference, ids)
    assert abs(load(directory)[0](ids) - expected).max() < 1e-5 * abs(expected).max()
    theirs = FuyuForCausalLM.from_pretrained(directory, attn_implementation="eager").eval()
    assert abs(logits_of(theirs, ids) - expected).max() < 1e-5 * abs(expected).max()
    path = directory / "model.safetensors"
    today = {
        "lm_head.weight" if "lm_head" in name else f"model.{name.replace('model.model.', 'model.')}": tensor
        for name, tensor in load_file(path).items()
    }
    assert "model.language_model.layers.0.input_layernorm.weight" in today
    save_file(today, path)
    assert abs(load(directory)[0](ids) - expected).max() < 1e-5 * abs(expected).max()
