"""Models of text and images: their text part against the whole, which is given no image."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import check, edit_config, logits_of, random_ids, randomise, save
from safetensors.numpy import load_file, save_file
from transformers import (
    AutoModelForImageTextToText,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Llama4Config,
    Mistral3Config,
    PreTrainedModel,
)
from transformers.modeling_outputs import MoeCausalLMOutputWithPast

from tinystar_np.cli.main import tinystar
from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.loading import load
from tinystar_np.models.text_part import TEXT_PARTS, text_config

KINDS = ("gemma3", "llama4", "mistral3")

# Llama 4 of transformers 5.24 asks the output of its text part for this, which has none.
if not hasattr(MoeCausalLMOutputWithPast, "image_outputs"):
    MoeCausalLMOutputWithPast.image_outputs = None

TEXT = {
    "vocab_size": 211,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
EYE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
OF_LLAMA4 = {"attention_chunk_size": 17, "num_local_experts": 3, "intermediate_size_mlp": 64}
EYE_OF_LLAMA4 = {"vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16}


def whole_model(kind: str, **settings: Any) -> PreTrainedModel:
    """Make a small random model that sees and reads."""
    eye = {"vision_config": EYE, "image_token_index": 210}
    configs = {
        "gemma3": lambda: Gemma3Config(
            text_config={**TEXT, "sliding_window": 17, "query_pre_attn_scalar": 8},
            **{**eye, "mm_tokens_per_image": 4, "boi_token_index": 208, "eoi_token_index": 209},
            **settings,
        ),
        "llama4": lambda: Llama4Config(
            text_config={**TEXT, **OF_LLAMA4},
            **{**eye, "vision_config": {**EYE, **EYE_OF_LLAMA4, "intermediate_size": 64}},
            **settings,
        ),
        "mistral3": lambda: Mistral3Config(
            text_config={**TEXT, "model_type": "mistral"},
            **{**eye, "vision_config": {**EYE, "model_type": "pixtral", "head_dim": 8}},
            **settings,
        ),
    }
    model = AutoModelForImageTextToText.from_config(configs[kind](), attn_implementation="eager")
    randomise(model)
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_text_part(kind: str, tmp_path: Path) -> None:
    reference = whole_model(kind)
    model = check(reference, save(reference, tmp_path), length=40)
    assert type(model).__module__ == f"tinystar_np.models.{TEXT_PARTS[kind][0]}"


def test_an_output_layer_of_its_own(tmp_path: Path) -> None:
    reference = whole_model("mistral3", tie_word_embeddings=False)
    assert "language_model.lm_head.weight" in load_file(save(reference, tmp_path) / "model.safetensors")
    model = check(reference, tmp_path, length=40)
    assert not model.config.tie_word_embeddings


@pytest.mark.parametrize("kind", KINDS)
def test_names_as_of_2025(kind: str, tmp_path: Path) -> None:
    """Files of some versions of transformers have everything below ``model.``."""
    reference = whole_model(kind)
    path = save(reference, tmp_path) / "model.safetensors"
    tensors = load_file(path)
    head = tensors.pop("language_model.lm_head.weight", None)
    renamed = {
        "model." + name.replace("language_model.model.", "language_model."): tensors[name] for name in tensors
    }
    save_file(renamed | ({} if head is None else {"lm_head.weight": head}), path)
    ids = random_ids(2, 20)
    np.testing.assert_allclose(load(tmp_path)[0](ids), logits_of(reference, ids), rtol=0, atol=2e-5)


def test_a_published_config() -> None:
    """gemma-3-4b-it's says little: all else is the defaults of transformers' class for the text part."""
    part = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    raw = {
        "model_type": "gemma3",
        "eos_token_id": [1, 106],
        "mm_tokens_per_image": 256,
        "text_config": part,
        "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
    }
    found = text_config(raw)
    assert found["eos_token_id"] == [1, 106]
    with torch.device("meta"):
        reference = Gemma3ForCausalLM(Gemma3TextConfig(**part))
    assert hollow_model(raw).parameters == sum(p.numel() for p in reference.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_config": None}, "text_config = None, but in gemma3 it must be an object"),
        ({"text_config": [1]}, r"text_config = \[1\], but in gemma3 it must be an object"),
        ({"text_config": {"model_type": "gemma2"}}, "text_config.model_type = 'gemma2', but gemma3 has"),
        ({"quantization_config": {"bits": 4}}, "quantization_config = .* is not implemented"),
        ({"text_config": {"hidden_size": 0}}, "hidden_size = 0"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    edit_config(save(whole_model("gemma3"), tmp_path), **changes)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_a_tensor_of_neither_part(tmp_path: Path) -> None:
    path = save(whole_model("gemma3"), tmp_path) / "model.safetensors"
    save_file({**load_file(path), "audio_tower.weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(CheckpointError, match=r"it has 'audio_tower\.weight', which this architecture"):
        load(tmp_path)


def test_two_names_for_one_tensor(tmp_path: Path) -> None:
    path = save(whole_model("gemma3"), tmp_path) / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "model.norm.weight": tensors["language_model.model.norm.weight"]}, path)
    with pytest.raises(
        CheckpointError, match=r"'model\.norm\.weight' is there twice, as .*\n.*download it again"
    ):
        load(tmp_path)


def test_of_an_unknown_type_the_nearest_is_said() -> None:
    with pytest.raises(ConfigError, match=r"The nearest that runs is qwen2_5_vl\."):
        hollow_model({"model_type": "qwen2_6_vl"})


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(whole_model("gemma3"), tmp_path)
    assert tinystar(["inspect", str(tmp_path)]) == 0
    assert "gemma3_text, the text part of gemma3" in capsys.readouterr().out
    assert tinystar(["inspect", str(tmp_path), "--json", "--check"]) == 0
    assert json.loads(capsys.readouterr().out)["model_type"] == "gemma3_text"
