"""Configs of the sizes of published models that see: each part has as many parameters as in transformers.

Nothing is allocated: transformers builds on its meta device, and ours is counted by its weight tables.
"""

from math import prod
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

from tinystar_np.checkpoints.weight_table import WeightTable, expand
from tinystar_np.inspection.hollow import hollow_embedding_model
from tinystar_np.models import vision_class

L_14_336 = {
    "hidden_size": 1024,
    "image_size": 336,
    "intermediate_size": 4096,
    "model_type": "clip_vision_model",
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "patch_size": 14,
    "projection_dim": 768,
    "vocab_size": 32000,
}
SO400M = {
    "hidden_size": 1152,
    "image_size": 384,
    "intermediate_size": 4304,
    "model_type": "siglip_vision_model",
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "patch_size": 14,
}
ONE = {"num_hidden_layers": 1}  # the decoder's layers are tested elsewhere
WITH_DECODER: dict[str, dict[str, Any]] = {
    "llava-1.5-7b-hf": {
        "model_type": "llava",
        "image_token_index": 32000,
        "projector_hidden_act": "gelu",
        "text_config": {"model_type": "llama", "max_position_embeddings": 4096, "vocab_size": 32064, **ONE},
        "vision_config": L_14_336,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    },
    "llava-interleave-qwen-0.5b-hf": {
        "model_type": "llava",
        "image_token_index": 151646,
        "text_config": {
            "model_type": "qwen2",
            "hidden_size": 1024,
            "intermediate_size": 2816,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "vocab_size": 152000,
            **ONE,
        },
        "vision_config": {**SO400M, "num_hidden_layers": 26, "vision_use_head": False},
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    },
    "llava-v1.6-mistral-7b-hf": {
        "model_type": "llava_next",
        "image_token_index": 32000,
        "text_config": {
            "model_type": "mistral",
            "intermediate_size": 14336,
            "num_key_value_heads": 8,
            "vocab_size": 32064,
            **ONE,
        },
        "use_image_newline_parameter": True,
        "vision_config": L_14_336,
    },
    "granite-vision-3.2-2b": {
        "model_type": "llava_next",
        "image_token_index": 49155,
        "text_config": {
            "model_type": "granite",
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 49156,
            "embedding_multiplier": 12.0,
            "logits_scaling": 8.0,
            **ONE,
        },
        "tie_word_embeddings": True,
        "vision_config": {**SO400M, "vision_use_head": False},
        "vision_feature_layer": [-24, -20, -12, -1],
        "vision_feature_select_strategy": "full",
    },
    "vip-llava-7b-hf": {
        "model_type": "vipllava",
        "image_token_index": 32000,
        "text_config": {"model_type": "llama", "vocab_size": 32064, **ONE},
        "vision_config": L_14_336,
        "vision_feature_layers": [-2, -5, -8, -11, 6],
    },
}
ALONE: dict[str, dict[str, Any]] = {
    "clip-vit-base-patch32": {"model_type": "clip"},
    "clip-vit-large-patch14-336": {
        "model_type": "clip",
        "projection_dim": 768,
        "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        "vision_config": L_14_336,
    },
    "siglip-base-patch16-224": {
        "model_type": "siglip",
        "text_config": {"model_type": "siglip_text_model"},
        "vision_config": {"model_type": "siglip_vision_model"},
    },
    "siglip-so400m-patch14-384": {
        "model_type": "siglip",
        "text_config": {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_attention_heads": 16,
            "num_hidden_layers": 27,
        },
        "vision_config": SO400M,
    },
    "siglip2-so400m-patch14-384": {
        "model_type": "siglip",
        "text_config": {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_attention_heads": 16,
            "num_hidden_layers": 27,
            "projection_size": 1152,
            "vocab_size": 256000,
        },
        "vision_config": SO400M,
    },
}


def counted(table: WeightTable, config: Any) -> int:
    return sum(prod(row.shape) for row in expand(table, config).values())


def theirs_of(raw: dict[str, Any]) -> Any:
    return AutoConfig.for_model(**raw)


@pytest.mark.parametrize("name", WITH_DECODER)
def test_with_a_decoder(name: str) -> None:
    raw = WITH_DECODER[name]
    with torch.device("meta"):
        reference = AutoModelForImageTextToText.from_config(theirs_of(raw)).model
    part = vision_class(raw["model_type"])
    assert part is not None
    width = reference.config.text_config.hidden_size
    config = part.Config.from_dict({**raw, "text_width": width})
    encoder, vision = part.encoder_of(config)
    expected = sum(p.numel() for p in reference.vision_tower.parameters())
    assert counted(encoder.WEIGHTS, vision) == expected
    between = sum(p.numel() for p in reference.multi_modal_projector.parameters())
    between += width if raw["model_type"] == "llava_next" else 0
    assert counted(part.WEIGHTS, config) == between


@pytest.mark.parametrize("name", ALONE)
def test_alone(name: str) -> None:
    with torch.device("meta"):
        reference = AutoModel.from_config(theirs_of(ALONE[name]))
    model = hollow_embedding_model(ALONE[name])
    assert model.parameters == sum(p.numel() for p in reference.parameters())
    assert repr(model).startswith(type(model).__name__)
