"""Llama 4 against transformers, with images in tiles."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from parity import TOLERANCE, assert_close, edit_config, save
from safetensors.numpy import load_file, save_file
from transformers import Llama4Config, Llama4VisionConfig, Llama4VisionModel
from transformers.modeling_outputs import MoeCausalLMOutputWithPast
from vision_parity import (
    IMAGE,
    TEXT,
    VISION,
    Row,
    check_images,
    images_in_turn,
    logits_with_images,
    random_pixels,
    row_of,
    whole_model,
)

from tinystar_np.checkpoints.weight_table import expand
from tinystar_np.errors import ConfigError, InputError
from tinystar_np.loading import load
from tinystar_np.models.llama4 import Llama4Config as OurConfig
from tinystar_np.models.vision.axial import axial_theta
from tinystar_np.models.vision.llama4_vision import WEIGHTS
from tinystar_np.models.vision.llama4_vision import Llama4VisionConfig as EncoderConfig

# Llama 4 of transformers 5.24 asks the output of its text part for this, which has none.
if not hasattr(MoeCausalLMOutputWithPast, "image_outputs"):
    MoeCausalLMOutputWithPast.image_outputs = None

SIDE = VISION["image_size"]
ROPE = {"rope_type": "default", "rope_theta": 30.0}
ENCODER = {
    **VISION,
    "intermediate_size": 4 * VISION["hidden_size"],
    "num_attention_heads": 2,
    **dict.fromkeys(("projector_input_dim", "projector_output_dim", "vision_output_dim"), 20),
}
PUBLISHED = {
    "hidden_size": 1408,
    "image_size": 336,
    "intermediate_size": 5632,
    "model_type": "llama4_vision_model",
    "num_attention_heads": 16,
    "num_hidden_layers": 34,
    "patch_size": 14,
    "pixel_shuffle_ratio": 0.5,
    "projector_input_dim": 4096,
    "projector_output_dim": 4096,
    "rope_theta": 10000,
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "default",
    "vision_output_dim": 4096,
}
"""The encoder's part of the config.json of Scout and Maverick."""


def small_config(vision: dict[str, Any] | None = None, **settings: Any) -> Llama4Config:
    """The config of a small model of 4 × 4 patches, of which 2 × 2 become one vector."""
    text = {**TEXT, "attention_chunk_size": 17, "num_local_experts": 3, "intermediate_size_mlp": 64}
    return Llama4Config(
        text_config={**text, "num_hidden_layers": 4},
        vision_config={**ENCODER, "rope_parameters": ROPE, **(vision or {})},
        image_token_index=IMAGE,
        **settings,
    )


def small_rows(channels: int = 3, side: int = SIDE, vectors: int = 4) -> list[Row]:
    """Rows with an image of one tile and one of three, with one, and with none."""
    one = random_pixels(1, channels, side, side)
    three = random_pixels(3, channels, side, side, seed=1)
    long = row_of(3, (one, vectors), 2, (three, 3 * vectors), 5)
    return [long, row_of(len(long[0]) - vectors, (one, vectors)), row_of(len(long[0]))]


def test_images(tmp_path: Path) -> None:
    reference = whole_model(small_config())
    check_images(reference, save(reference, tmp_path), small_rows(), images_in_turn)


@pytest.mark.parametrize(
    "vision",
    [
        {"num_hidden_layers": 1},
        {"num_attention_heads": 3},
        {"hidden_size": 32, "intermediate_size": 128},
        {"num_channels": 1},
        {"patch_size": 14, "image_size": 30},
        {"patch_size": 5, "image_size": 30, "pixel_shuffle_ratio": 1 / 3, "intermediate_size": 216},
        {"pixel_shuffle_ratio": 1.0, "intermediate_size": 24},
        dict.fromkeys(("projector_input_dim", "projector_output_dim", "vision_output_dim"), 12),
        {"rope_parameters": {**ROPE, "rope_theta": 500.0}},
        {"rope_parameters": None},
        # without effect, here as in transformers
        {"hidden_act": "relu"},
        {"norm_eps": 0.1},
        {"vision_feature_select_strategy": "full"},
        {"multi_modal_projector_bias": True},
    ],
    ids=str,
)
def test_the_encoders_keys(vision: dict[str, Any], tmp_path: Path) -> None:
    reference = whole_model(small_config(vision))
    c = reference.config.vision_config
    side = c.image_size // c.patch_size
    rows = small_rows(c.num_channels, c.image_size, round((side * c.pixel_shuffle_ratio) ** 2))[:1]
    check_images(reference, save(reference, tmp_path), rows, images_in_turn)


def test_a_tied_head(tmp_path: Path) -> None:
    config = small_config(tie_word_embeddings=True)
    config.text_config.tie_word_embeddings = True
    reference = whole_model(config)
    check_images(reference, save(reference, tmp_path), small_rows()[:1], images_in_turn)
    assert not any("lm_head" in name for name in load_file(tmp_path / "model.safetensors"))


def test_a_config_as_on_the_hub(tmp_path: Path) -> None:
    reference = whole_model(small_config())
    save(reference, tmp_path)
    encoder = reference.config.vision_config.to_dict()
    del encoder["rope_parameters"], encoder["num_channels"]
    edit_config(tmp_path, vision_config={**encoder, "rope_theta": 30.0}, boi_token_index=7)
    (row,) = small_rows()[:1]
    expected = logits_with_images(reference, [row], images_in_turn)[0]
    assert_close(load(tmp_path)[0](row[0], images=row[1]), expected, TOLERANCE, "old spelling")


def test_names_below_model(tmp_path: Path) -> None:
    """As other models of transformers 5 have them."""
    reference = whole_model(small_config())
    path = save(reference, tmp_path) / "model.safetensors"
    below = {
        f"model.{name.replace('language_model.model.', 'language_model.')}": tensor
        for name, tensor in load_file(path).items()
    }
    head = below.pop("model.language_model.lm_head.weight")
    save_file({**below, "lm_head.weight": head}, path)
    (row,) = small_rows()[:1]
    expected = logits_with_images(reference, [row], images_in_turn)[0]
    assert_close(load(tmp_path)[0](row[0], images=row[1]), expected, TOLERANCE, "other names")


def test_the_published_config() -> None:
    """The tensors of the encoder of Scout, by their names and shapes."""
    config = OurConfig.from_dict({"vision_config": PUBLISHED})
    with torch.device("meta"):
        reference = Llama4VisionModel(Llama4VisionConfig(**PUBLISHED))
    expected = {name: tuple(tensor.shape) for name, tensor in reference.state_dict().items()}
    found = {row.theirs: row.stored for row in expand(WEIGHTS, config.vision).values()}
    assert found == expected
    assert config.image_token_id == Llama4Config().image_token_index


@pytest.mark.parametrize("name", ["image_token_id", "image_token_index"])
def test_both_names_of_the_image_token(name: str) -> None:
    given = {"vision_config": PUBLISHED, name: 7}
    assert OurConfig.from_dict(given).image_token_id == 7


def test_defaults() -> None:
    """Sizes of transformers' defaults contradict each other, and are refused as a whole."""
    usual = Llama4VisionConfig()
    for each in dataclasses.fields(EncoderConfig):
        if not each.name.startswith("rope"):
            assert each.default == getattr(usual, each.name), each.name
    assert axial_theta({}) == usual.rope_parameters["rope_theta"]
    with pytest.raises(ConfigError, match="vision_config: intermediate_size = 5632, but 2 × 2 patches of"):
        OurConfig.from_dict({})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_shuffle_ratio": 0.4}, "pixel_shuffle_ratio = 0.4, but it must be 1, 1/2, 1/3"),
        ({"pixel_shuffle_ratio": 2}, "pixel_shuffle_ratio = 2.0, but it must be 1, 1/2, 1/3"),
        ({"pixel_shuffle_ratio": 0}, "pixel_shuffle_ratio = 0.0 must be above 0"),
        ({"pixel_shuffle_ratio": 1 / 5}, "makes squares of 5 × 5 patches, which do not divide the 24 of a"),
        ({"intermediate_size": 1408}, "intermediate_size = 1408, but 2 × 2 patches of hidden_size = 1408"),
        ({"projector_input_dim": 8}, "projector_input_dim = 8, but it must be projector_output_dim = 4096"),
        ({"vision_output_dim": 7680}, "vision_output_dim = 7680, but it must be projector_output_dim = 4096"),
        (
            {"num_attention_heads": 32 * 22},
            "make heads of 2 numbers, which are no pairs for rows and as many",
        ),
        ({"image_size": 13}, "patch_size = 14 must be at least 1 and at most image_size = 13"),
        ({"patch_size": 0}, "patch_size = 0 must be at least 1"),
        ({"image_size": [336, 336]}, r"image_size = \[336, 336\], but it must be int"),
        ({"patch_size": [14, 14]}, r"patch_size = \[14, 14\], but it must be int"),
        ({"rope_parameters": {**ROPE, "rope_type": "linear", "factor": 2}}, "rope_type = 'linear', but"),
        (
            {"model_type": "mllama"},
            "vision_config.model_type = 'mllama', but it must be 'llama4_vision_model'",
        ),
    ],
    ids=str,
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OurConfig.from_dict({"vision_config": {**PUBLISHED, **changes}})


def test_a_tile_of_another_size(tmp_path: Path) -> None:
    model, _ = load(save(whole_model(small_config()), tmp_path))
    ids, images = row_of(3, (random_pixels(1, 3, SIDE, 2 * SIDE), 8), 2)
    with pytest.raises(InputError, match="A tile has 28 × 56 pixels, but this encoder reads 28 × 28"):
        model(ids, images=images)
