"""Mistral 3 against transformers, with images of any size and shape."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import TOLERANCE, assert_close, edit_config, save
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as torch_tensors
from safetensors.torch import save_file as save_torch_tensors
from transformers import Mistral3Config, Mistral3ForConditionalGeneration, PixtralVisionConfig
from vision_parity import (
    IMAGE,
    TEXT,
    VISION,
    Row,
    check_images,
    images_of_any_size,
    logits_with_images,
    random_pixels,
    row_of,
    whole_model,
)

from tinystar_np.checkpoints.weight_table import expand
from tinystar_np.errors import ConfigError, InputError
from tinystar_np.loading import load
from tinystar_np.models.mistral3 import WEIGHTS
from tinystar_np.models.mistral3 import Mistral3Config as OurConfig
from tinystar_np.models.vision.pixels import ImageInput
from tinystar_np.models.vision.pixtral_vision import WEIGHTS as ENCODER_WEIGHTS

PATCH = VISION["patch_size"]
PUBLISHED = {
    "image_token_index": 10,
    "model_type": "mistral3",
    "multimodal_projector_bias": False,
    "projector_hidden_act": "gelu",
    "spatial_merge_size": 2,
    "text_config": {
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 5120,
        "intermediate_size": 32768,
        "max_position_embeddings": 131072,
        "model_type": "mistral",
        "num_attention_heads": 32,
        "num_hidden_layers": 1,  # of 40, which are alike
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000000.0,
        "sliding_window": None,
        "vocab_size": 131072,
    },
    "vision_config": {
        "attention_dropout": 0.0,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 1024,
        "image_size": 1540,
        "initializer_range": 0.02,
        "intermediate_size": 4096,
        "model_type": "pixtral",
        "num_attention_heads": 16,
        "num_channels": 3,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "rope_theta": 10000.0,
    },
    "vision_feature_layer": -1,
}
"""The config.json of Mistral Small 3.1."""
AXIAL = {"rope_type": "axial", "rope_theta": 30.0}


def small_config(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **settings: Any
) -> Mistral3Config:
    """The config of a small model, of whose patches 2 × 2 become one vector."""
    words = {**TEXT, "model_type": "mistral", "sliding_window": None, "rms_norm_eps": 1e-5, **(text or {})}
    encoder = {"num_attention_heads": 2, "rope_parameters": AXIAL, **(vision or {})}
    return Mistral3Config(
        text_config=words, vision_config={**VISION, **encoder}, image_token_index=IMAGE, **settings
    )


def small_rows(square: int = 2 * PATCH, channels: int = 3) -> list[Row]:
    """Rows with two images of different shapes, with one, and with none.

    square  the side in pixels of what becomes one vector
    """
    wide = random_pixels(1, channels, 2 * square, 3 * square)
    high = random_pixels(1, channels, 4 * square, square, seed=1)
    return [row_of(3, (wide, 6), 2, (high, 4), 5), row_of(16, (high, 4)), row_of(20)]


def test_images(tmp_path: Path) -> None:
    reference = whole_model(small_config())
    check_images(reference, save(reference, tmp_path), small_rows(), images_of_any_size)


def test_ministral_reads_the_text(tmp_path: Path) -> None:
    """Its queries grow with their position, images included."""
    grows = {"llama_4_scaling_beta": 0.7, "original_max_position_embeddings": 8, "factor": 4.0}
    text = {
        "model_type": "ministral3",
        "rope_parameters": {"rope_type": "yarn", "rope_theta": 100.0, **grows},
    }
    reference = whole_model(small_config(text=text))
    model = check_images(reference, save(reference, tmp_path), small_rows(), images_of_any_size)
    assert type(model).__module__ == "tinystar_np.models.ministral3"


def test_rows_of_an_image_with_tokens_between_them(tmp_path: Path) -> None:
    """As prompts have them: [IMG] [IMG] [IMG_BREAK] [IMG] [IMG] [IMG_END]."""
    reference = whole_model(small_config())
    pixels = random_pixels(1, 3, 6 * PATCH, 4 * PATCH)
    ids = [5, 7, *[IMAGE, IMAGE, 12] * 2, IMAGE, IMAGE, 13, 20, 21]
    places = np.flatnonzero(np.array(ids) == IMAGE)
    rows = [(ids, [ImageInput(pixels, places)])]
    check_images(reference, save(reference, tmp_path), rows, images_of_any_size)


@pytest.mark.parametrize(
    "vision",
    [
        {"hidden_act": "silu"},
        {"hidden_size": 32},
        {"intermediate_size": 20},
        {"num_hidden_layers": 1},
        {"num_attention_heads": 3},
        {"num_attention_heads": 4},  # an odd number of pairs: rows have one more than columns
        {"num_channels": 1},
        {"patch_size": 5},
        {"head_dim": 12},
        {"image_size": 7},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        {"rope_parameters": {**AXIAL, "partial_rotary_factor": 0.5}},  # without effect, as in transformers
        {"rope_parameters": None},
    ],
    ids=str,
)
def test_the_encoders_keys(vision: dict[str, Any], tmp_path: Path) -> None:
    reference = whole_model(small_config(vision))
    rows = small_rows(2 * vision.get("patch_size", PATCH), vision.get("num_channels", 3))[:1]
    check_images(reference, save(reference, tmp_path), rows, images_of_any_size)


@pytest.mark.parametrize(
    "settings",
    [
        {"projector_hidden_act": "relu"},
        {"multimodal_projector_bias": True},
        {"spatial_merge_size": 1},
        {"spatial_merge_size": 3},
        {"vision_feature_layer": [0]},
        {"vision_feature_layer": 1},
        {"vision_feature_layer": -2},
        {"vision_feature_layer": [-2]},
        {"tie_word_embeddings": False},
        {"text": {"rms_norm_eps": 0.1}},  # the projector's norm has it too
        {"text": {"sliding_window": 5}},
    ],
    ids=str,
)
def test_the_whole_models_keys(settings: dict[str, Any], tmp_path: Path) -> None:
    reference = whole_model(small_config(**settings))
    rows = small_rows(PATCH * settings.get("spatial_merge_size", 2))[:1]
    check_images(reference, save(reference, tmp_path), rows, images_of_any_size)


@pytest.mark.parametrize(("height", "width", "vectors"), [(33, 45, 6), (21, 28, 2), (28, 41, 4)])
def test_sizes_that_are_no_whole_squares(height: int, width: int, vectors: int, tmp_path: Path) -> None:
    """What is left of a square of patches takes part in attention, and is cut off when they are merged."""
    reference = whole_model(small_config())
    rows = [row_of(3, (random_pixels(1, 3, height, width), vectors), 4)]
    check_images(reference, save(reference, tmp_path), rows, images_of_any_size)


def test_names_below_model(tmp_path: Path) -> None:
    """Some versions of transformers write everything but the output layer below ``model.``."""
    reference = whole_model(small_config(tie_word_embeddings=False))
    path = save(reference, tmp_path) / "model.safetensors"
    tensors = load_file(path)
    assert {name.split(".")[0] for name in tensors} == {
        "language_model",
        "multi_modal_projector",
        "vision_tower",
    }
    below = {
        f"model.{name.replace('language_model.model.', 'language_model.')}": tensors[name] for name in tensors
    }
    head = below.pop("model.language_model.lm_head.weight")
    save_file({**below, "lm_head.weight": head}, path)
    (row,) = small_rows()[:1]
    expected = logits_with_images(reference, [row], images_of_any_size)[0]
    assert_close(load(tmp_path)[0](row[0], images=row[1]), expected, TOLERANCE, "other names")


def test_a_text_part_in_8_bits(tmp_path: Path) -> None:
    """As Ministral 3 is published: matrices of the decoder's blocks in FP8, the vision part as it is."""
    reference = whole_model(small_config(text={"model_type": "ministral3"}))
    path = save(reference, tmp_path) / "model.safetensors"
    packed = {}
    for name, tensor in torch_tensors(path).items():
        if name.startswith("language_model.model.layers.") and tensor.ndim == 2:
            scale = tensor.abs().max() / 448
            packed[name] = (tensor / scale).to(torch.float8_e4m3fn)
            packed[f"{name}_scale_inv"] = scale
            packed[name.replace("weight", "activation_scale")] = torch.tensor(0.5)
            parameter = reference.get_parameter(
                name.replace("language_model.model.", "model.language_model.")
            )
            parameter.data.copy_(packed[name].float() * scale)
        else:
            packed[name] = tensor
    save_torch_tensors(packed, path)
    kept = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
    said = {"quant_method": "fp8", "activation_scheme": "static", "modules_to_not_convert": kept}
    edit_config(tmp_path, quantization_config={**said, "weight_block_size": None})
    (row,) = small_rows()[:1]
    expected = logits_with_images(reference, [row], images_of_any_size)[0]
    with pytest.warns(UserWarning, match="scales for rounding activations are ignored"):
        model, _ = load(tmp_path)
    assert_close(model(row[0], images=row[1]), expected, TOLERANCE, "FP8")


def test_a_config_as_on_the_hub(tmp_path: Path) -> None:
    """Mistral Small 3.1's, with the base of the rotations beside the other keys of the encoder."""
    reference = whole_model(small_config())
    save(reference, tmp_path)
    encoder = reference.config.vision_config.to_dict()
    del encoder["rope_parameters"], encoder["num_channels"]
    edit_config(tmp_path, vision_config={**encoder, "rope_theta": 30.0, "is_composition": True})
    (row,) = small_rows()[:1]
    expected = logits_with_images(reference, [row], images_of_any_size)[0]
    assert_close(load(tmp_path)[0](row[0], images=row[1]), expected, TOLERANCE, "old spelling")


def test_the_published_config() -> None:
    """The tensors of what reads images in Mistral Small 3.1, by their names and shapes."""
    config = OurConfig.from_dict({**PUBLISHED, "text_width": 5120})
    with torch.device("meta"):
        reference = Mistral3ForConditionalGeneration(Mistral3Config(**PUBLISHED))
    expected = {name: tuple(tensor.shape) for name, tensor in reference.model.state_dict().items()}
    encoder = expand(ENCODER_WEIGHTS, config.vision).values()
    found = {f"vision_tower.{row.theirs}": row.stored for row in encoder}
    found |= {row.theirs: row.stored for row in expand(WEIGHTS, config).values()}
    assert found == {name: its for name, its in expected.items() if not name.startswith("language_model.")}


@pytest.mark.parametrize("name", ["image_token_id", "image_token_index"])
def test_both_names_of_the_image_token(name: str) -> None:
    given = {"vision_config": {}, name: 7}
    assert OurConfig.from_dict(given).image_token_id == 7


def test_defaults() -> None:
    ours, whole = OurConfig.from_dict({"text_config": {}}), Mistral3Config()
    assert (ours.image_token_id, ours.spatial_merge_size) == (whole.image_token_id, whole.spatial_merge_size)
    assert ours.feature_layer == whole.vision_feature_layer
    assert ours.projector_hidden_act == whole.projector_hidden_act
    assert ours.multimodal_projector_bias == whole.multimodal_projector_bias
    for kind in ("mistral", "ministral3"):
        text = Mistral3Config(text_config={"model_type": kind}).text_config
        assert OurConfig.from_dict({"text_config": {"model_type": kind}}).norm_eps == text.rms_norm_eps
    encoders = [
        (ours.vision, whole.vision_config),
        (OurConfig.from_dict({"vision_config": {}}).vision, PixtralVisionConfig()),
    ]
    for found, expected in encoders:
        for each in dataclasses.fields(found):
            if not each.name.startswith(("rope", "head_dim")):
                assert getattr(found, each.name) == getattr(expected, each.name), each.name
        assert found.theta == expected.rope_parameters["rope_theta"]
        assert found.sizes["K"] == expected.head_dim


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_dim": 8}, "vision_config: head_dim = 8, but hidden_size = 24 .* make heads of 12"),
        ({"num_attention_heads": 8}, "vision_config: .*num_attention_heads = 8 make heads of 3 numbers"),
        ({"num_attention_heads": 5}, "hidden_size = 24 cannot be divided among num_attention_heads = 5"),
        ({"patch_size": [7, 7]}, r"vision_config: patch_size = \[7, 7\], but it must be int"),
        ({"hidden_act": "gelu_9"}, "hidden_act = 'gelu_9'"),
        ({"rope_parameters": {**AXIAL, "rope_type": "yarn"}}, "rope_parameters.rope_type = 'yarn', but"),
        ({"rope_parameters": {**AXIAL, "rope_theta": 0}}, "rope_theta = 0, but it must be"),
        ({"model_type": "clip_vision_model"}, "vision_config.model_type = 'clip_vision_model', but"),
    ],
    ids=str,
)
def test_refused_of_the_encoder(changes: dict[str, Any], message: str) -> None:
    encoder = small_config().vision_config.to_dict()
    with pytest.raises(ConfigError, match=message):
        OurConfig.from_dict({"vision_config": {**encoder, **changes}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_feature_layer": [-2, -1]}, r"vision_feature_layer = \[-2, -1\], but it must be one number"),
        ({"vision_feature_layer": []}, r"vision_feature_layer = \[\]"),
        ({"vision_feature_layer": 25}, "vision_feature_layer = 25, but it must be one number from -25 to 24"),
        ({"vision_feature_layer": -26}, "vision_feature_layer = -26"),
        ({"spatial_merge_size": 0}, "spatial_merge_size = 0 must be at least 1"),
        ({"projector_hidden_act": "swish_9"}, "projector_hidden_act = 'swish_9'"),
        ({"image_token_index": -1}, "image_token_id = -1 must be at least 0. .*image_token_index"),
    ],
    ids=str,
)
def test_refused_of_the_whole(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OurConfig.from_dict(changes)


def test_an_image_of_another_number_of_vectors(tmp_path: Path) -> None:
    model, _ = load(save(whole_model(small_config()), tmp_path))
    ids, images = row_of(3, (random_pixels(1, 3, 28, 42), 5), 2)
    with pytest.raises(InputError, match="An image has 5 places in the prompt, but 6 vectors"):
        model(ids, images=images)
