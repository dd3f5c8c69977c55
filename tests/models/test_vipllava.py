"""ViP-LLaVA against transformers, with images."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from parity import assert_close, edit_config, save
from safetensors.numpy import load_file, save_file
from transformers import VipLlavaConfig
from vision_parity import (
    IMAGE,
    TEXT,
    VISION,
    check_images,
    images_in_turn,
    random_pixels,
    row_of,
    two_one_none,
    whole_model,
)

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load
from tinystar_np.models.text_part import TEXT_PARTS
from tinystar_np.models.vipllava import CLIP_L_14_336
from tinystar_np.models.vipllava import VipLlavaConfig as OurConfig


def small_config(
    text: str = "llama", vision: dict[str, Any] | None = None, **settings: Any
) -> VipLlavaConfig:
    """The config of a small model of 4 × 4 patches."""
    return VipLlavaConfig(
        text_config={**TEXT, "model_type": text},
        vision_config={"model_type": "clip_vision_model", **VISION, **(vision or {})},
        **{"image_token_index": IMAGE, "vision_feature_layer": [-1, 0, -2], **settings},
    )


@pytest.mark.parametrize("text", TEXT_PARTS["vipllava"])
def test_every_text_part(text: str, tmp_path: Path) -> None:
    reference = whole_model(small_config(text))
    model = check_images(reference, save(reference, tmp_path), two_one_none(), images_in_turn)
    assert type(model).__module__ == f"tinystar_np.models.{text}"


@pytest.mark.parametrize(
    "settings",
    [
        {"vision_feature_layer": -2},
        {"vision_feature_layer": [1]},
        {"projector_hidden_act": "relu"},
        {"projector_layernorm_eps": 0.1},
        {"vision": {"layer_norm_eps": 0.1, "hidden_act": "gelu"}},
        {"tie_word_embeddings": True},
        {"vision": {"num_hidden_layers": 12}, "vision_feature_layer": (-2, -5, -8, -11, 6)},
    ],
    ids=str,
)
def test_every_switch(settings: dict[str, Any], tmp_path: Path) -> None:
    reference = whole_model(small_config(**settings))
    rows = [row_of(3, (random_pixels(1, 3, 28, 28, seed=2), 16), 4), row_of(23)]
    check_images(reference, save(reference, tmp_path), rows, images_in_turn)


def test_names_of_the_hubs_files(tmp_path: Path) -> None:
    """Of 2023: no ``model.`` before the parts, and a list under today's name or the old one."""
    reference = whole_model(
        small_config(vision={"num_hidden_layers": 12}, vision_feature_layer=[-2, -5, -8, -11, 6])
    )
    path = save(reference, tmp_path) / "model.safetensors"
    tensors = load_file(path)
    if "lm_head.weight" in tensors:
        tensors["language_model.lm_head.weight"] = tensors.pop("lm_head.weight")
    names = (name.removeprefix("model.") for name in tensors)
    old = dict(zip(names, tensors.values(), strict=True))
    save_file(old, path)
    ids, images = two_one_none()[0]
    with torch.no_grad():
        expected = reference(torch.tensor([ids]), **images_in_turn([(ids, images)])).logits[0].numpy()
    edit_config(tmp_path, vision_feature_layer=None)
    assert_close(load(tmp_path, dtype="float32")[0](ids, images=images), expected)
    edit_config(tmp_path, vision_feature_layers=[-2, -5, -8, -11, 6], image_seq_length=9)
    assert_close(load(tmp_path, dtype="float32")[0](ids, images=images), expected)


def test_defaults_are_those_of_transformers() -> None:
    usual = VipLlavaConfig()
    assert OurConfig().vision.hidden_size == usual.vision_config.hidden_size
    assert CLIP_L_14_336.items() <= usual.vision_config.to_dict().items()
    given = {**vars(OurConfig())}
    del given["text_width"], given["vision_config"]
    assert tuple(given.pop("vision_feature_layer")) == tuple(usual.vision_feature_layer)
    assert given.items() <= usual.to_dict().items()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_feature_layer": [3]}, r"vision_feature_layer = \[3\], but the encoder has 2 blocks"),
        ({"vision_feature_layer": []}, r"vision_feature_layer = \[\], but"),
        ({"projector_hidden_act": "bend"}, "projector_hidden_act = 'bend' is not known"),
        ({"projector_layernorm_eps": 0}, "projector_layernorm_eps = 0.0 must be above 0"),
        ({"vision_config": {"model_type": "vit"}}, "vision_config.model_type = 'vit', but it must be 'clip"),
        ({"text_config": {"model_type": "gpt2"}}, "text_config.model_type = 'gpt2', but vipllava has 'llama"),
    ],
    ids=str,
)
def test_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**small_config().to_dict(), **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
