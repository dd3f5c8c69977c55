"""Pixtral 12B, which is published as a LLaVA with an encoder of its own, against transformers."""

from pathlib import Path
from typing import Any

import pytest
from parity import TOLERANCE, assert_close, edit_config, save
from safetensors.numpy import load_file, save_file
from transformers import LlavaConfig
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

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load
from tinystar_np.models.llava import LlavaConfig as OurConfig

PATCH = VISION["patch_size"]


def small_config(vision: dict[str, Any] | None = None, **settings: Any) -> LlavaConfig:
    """The config of a small model, with a vector for each patch."""
    rope = {"rope_type": "axial", "rope_theta": 30.0}
    encoder = {**VISION, "model_type": "pixtral", "num_attention_heads": 2, "rope_parameters": rope}
    usual = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"}
    return LlavaConfig(
        text_config={**TEXT, "model_type": "mistral", "sliding_window": None, "rms_norm_eps": 1e-5},
        vision_config={**encoder, **(vision or {})},
        image_token_index=IMAGE,
        **{**usual, **settings},
    )


def small_rows() -> list[Row]:
    """Rows with two images of different shapes, with one, and with none."""
    wide, high = random_pixels(1, 3, 2 * PATCH, 3 * PATCH), random_pixels(1, 3, 5 * PATCH, PATCH, seed=1)
    return [row_of(3, (wide, 6), 2, (high, 5), 5), row_of(16, (high, 5)), row_of(21)]


def test_images(tmp_path: Path) -> None:
    reference = whole_model(small_config())
    check_images(reference, save(reference, tmp_path), small_rows(), images_of_any_size)


@pytest.mark.parametrize(
    "settings",
    [
        {"vision_feature_layer": -2},
        {"vision_feature_layer": [0, -1]},
        {"projector_hidden_act": "relu"},
        {"multimodal_projector_bias": False},
        {"vision": {"hidden_act": "silu"}},
        {"vision": {"num_attention_heads": 4}},
    ],
    ids=str,
)
def test_keys(settings: dict[str, Any], tmp_path: Path) -> None:
    reference = whole_model(small_config(**settings))
    check_images(reference, save(reference, tmp_path), small_rows()[:1], images_of_any_size)


@pytest.mark.parametrize("nested", [True, False])
def test_names_and_keys_as_on_the_hub(nested: bool, tmp_path: Path) -> None:
    reference = whole_model(small_config())
    path = save(reference, tmp_path) / "model.safetensors"
    found = {
        name.removeprefix("model.").replace("language_model.model.", "language_model."): tensor
        for name, tensor in load_file(path).items()
    }
    head = found.pop("lm_head.weight", None)
    if head is None:
        head = found.pop("language_model.lm_head.weight")
    if nested:
        named = {f"model.{name}": tensor for name, tensor in found.items()} | {"lm_head.weight": head}
    else:
        named = {name.replace("language_model.", "language_model.model."): t for name, t in found.items()}
        named["language_model.lm_head.weight"] = head
    save_file(named, path)
    encoder = reference.config.vision_config.to_dict()
    del encoder["rope_parameters"], encoder["num_channels"]
    edit_config(
        tmp_path,
        vision_config={**encoder, "rope_theta": 30.0, "is_composition": True},
        image_seq_length=1,
        ignore_index=-100,
    )
    (row,) = small_rows()[:1]
    expected = logits_with_images(reference, [row], images_of_any_size)[0]
    assert_close(load(tmp_path)[0](row[0], images=row[1]), expected, TOLERANCE, "as on the hub")


def test_there_is_no_class_to_leave_out() -> None:
    encoder = small_config().vision_config.to_dict()
    with pytest.raises(
        ConfigError, match="vision_feature_select_strategy = 'default', but it must be 'full'"
    ):
        OurConfig.from_dict({"vision_config": encoder, "vision_feature_layer": -1})
