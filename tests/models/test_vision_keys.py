"""Every key that transformers has for what reads images is read here, refused, or known to do nothing.

A new version of transformers that adds one fails here until somebody has looked at what it does.
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, PreTrainedConfig

from tinystar_np.models import (
    EMBEDDING_ARCHITECTURES,
    VISION_ARCHITECTURES,
    embedding_class,
    vision,
    vision_class,
)
from tinystar_np.models.config import Config
from tinystar_np.models.vision.clip_vision import ClipVisionConfig
from tinystar_np.models.vision.idefics3_vision import Idefics3VisionConfig
from tinystar_np.models.vision.llama4_vision import Llama4VisionConfig
from tinystar_np.models.vision.pixtral_vision import PixtralVisionConfig
from tinystar_np.models.vision.qwen2_5_vl_vision import Qwen25VLVisionConfig
from tinystar_np.models.vision.qwen2_vl_vision import Qwen2VLVisionConfig
from tinystar_np.models.vision.qwen3_vl_vision import Qwen3VLVisionConfig
from tinystar_np.models.vision.siglip_vision import SiglipVisionConfig

ENCODERS: dict[str, type[Config]] = {
    "clip_vision_model": ClipVisionConfig,
    "idefics3_vision": Idefics3VisionConfig,
    "llama4_vision_model": Llama4VisionConfig,
    "pixtral": PixtralVisionConfig,
    "qwen2_5_vl_vision": Qwen25VLVisionConfig,
    "qwen2_vl_vision": Qwen2VLVisionConfig,
    "qwen3_vl_moe_vision": Qwen3VLVisionConfig,
    "qwen3_vl_vision": Qwen3VLVisionConfig,
    "siglip_vision_model": SiglipVisionConfig,
    "smolvlm_vision": Idefics3VisionConfig,
}
"""The config class here of each ``model_type`` of an encoder."""
TRAINING = {"attention_dropout", "initializer_factor", "initializer_range", "projector_dropout"}
OF_TEXT = {"text_config", "tie_word_embeddings", "use_cache", "vocab_size", "hidden_size", "_pad_token_id"}
OF_PROMPTS = {
    *("boi_token_index", "eoi_token_index", "image_seq_length", "image_grid_pinpoints"),  # the processor's
    *("video_token_id", "vision_start_token_id", "vision_end_token_id"),
}
IDLE: dict[str, set[str]] = {
    "clip": {"logit_scale_init_value"},  # the value of a weight before training
    "clip_vision_model": {"projection_dim"},  # of a head that the encoder within other models does not have
    # The class vector is dropped, activations are GELU and epsilons 1e-5, whatever these say.
    "llama4_vision_model": {
        "hidden_act",
        "multi_modal_projector_bias",
        "norm_eps",
        "vision_feature_select_strategy",
    },
    "pixtral": {"image_size"},  # the largest that it has learned from: a table of rotations
    "qwen2_5_vl_vision": {"tokens_per_second"},  # of films
    "siglip_vision_model": {"vision_use_head"},  # the head's result is not used within other models
}
"""What transformers' forward pass does not read."""
SAME = {"image_token_index": "image_token_id"}
"""Two names of one key, which a class of transformers has one of."""


def keys_of(config: type[Config]) -> set[str]:
    """The keys that a config class here reads or refuses, under all of their names."""
    names = {name for each in fields(config) for name in (each.name, *each.metadata.get("aliases", ()))}
    return names | {*config.REFUSED}


def all_configs() -> Iterator[tuple[str, type[Config]]]:
    yield from ENCODERS.items()
    for model_type in VISION_ARCHITECTURES:
        part = vision_class(model_type)
        assert part is not None
        yield model_type, part.Config
    for model_type in EMBEDDING_ARCHITECTURES:
        kind = embedding_class(model_type)
        assert kind is not None
        yield model_type, kind.Config


def their_keys(model_type: str) -> set[str]:
    """The keys of transformers' config class beyond those that all its config classes have."""
    config: Any = AutoConfig.for_model(model_type)
    return {*config.to_dict()} - {*PreTrainedConfig().to_dict()}


@pytest.mark.parametrize(("model_type", "config"), all_configs())
def test_every_key_is_known(model_type: str, config: type[Config]) -> None:
    found = their_keys(model_type)
    idle = IDLE.get(model_type, set())
    assert idle <= found, "a key that transformers no longer has"
    elsewhere = set() if model_type in ENCODERS else OF_TEXT | OF_PROMPTS
    ours = {SAME.get(key, key) for key in keys_of(config)}
    assert {SAME.get(key, key) for key in found - TRAINING - elsewhere - idle} <= ours


def test_every_encoder_is_among_them() -> None:
    (folder,) = vision.__path__
    files = {path.stem for path in Path(folder).glob("*_vision.py")}
    assert files == {config.__module__.rpartition(".")[2] for config in ENCODERS.values()}
