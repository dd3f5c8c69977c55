"""LLaVA against transformers, with images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, edit_config, logits_of, random_ids, save
from safetensors.numpy import load_file, save_file
from transformers import LlavaConfig
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

from tinystar_np.errors import ConfigError, InputError
from tinystar_np.loading import load
from tinystar_np.models.llava import CLIP_L_14_336
from tinystar_np.models.llava import LlavaConfig as OurConfig
from tinystar_np.models.text_part import TEXT_PARTS

CLIP, SIGLIP = "clip_vision_model", "siglip_vision_model"
OF_TEXT: dict[str, dict[str, Any]] = {
    "granite": {"embedding_multiplier": 12.0, "logits_scaling": 3.0, "residual_multiplier": 0.5},
    "mixtral": {"num_local_experts": 3, "num_experts_per_tok": 2},
    "qwen2": {"use_sliding_window": False},
}


def small_config(
    tower: str = CLIP, text: str = "llama", vision: dict[str, Any] | None = None, **settings: Any
) -> LlavaConfig:
    """The config of a small model of 4 × 4 patches."""
    return LlavaConfig(
        text_config={**TEXT, "model_type": text, **OF_TEXT.get(text, {})},
        vision_config={"model_type": tower, **VISION, **(vision or {})},
        **{"image_token_index": IMAGE, **settings},
    )


@pytest.mark.parametrize("text", TEXT_PARTS["llava"])
def test_every_text_part(text: str, tmp_path: Path) -> None:
    reference = whole_model(small_config(text=text))
    model = check_images(reference, save(reference, tmp_path), two_one_none(), images_in_turn)
    assert type(model).__module__ == f"tinystar_np.models.{text}"


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"vision_feature_layer": -1}, 16),
        ({"vision_feature_layer": [0]}, 16),  # transformers fails at 0 alone
        ({"vision_feature_layer": 1}, 16),
        ({"vision_feature_layer": [-1, 0, -3]}, 16),
        ({"vision_feature_layer": [-1, 1], "vision_feature_select_strategy": "full"}, 17),
        ({"vision_feature_select_strategy": "full"}, 17),
        ({"projector_hidden_act": "relu"}, 16),
        ({"multimodal_projector_bias": False}, 16),
        ({"tower": SIGLIP, "vision_feature_select_strategy": "full"}, 16),
        ({"tower": SIGLIP, "vision_feature_layer": -1}, 15),  # "default" drops the first patch
        ({"tower": SIGLIP, "vision_feature_layer": [0, 2], "vision_feature_select_strategy": "full"}, 16),
        ({"vision": {"layer_norm_eps": 0.1, "hidden_act": "gelu"}}, 16),
        ({"vision": {"patch_size": 14, "num_hidden_layers": 3}}, 4),
        ({"vision": {"num_channels": 1, "image_size": 30}}, 16),
        ({"tie_word_embeddings": True}, 16),
    ],
    ids=str,
)
def test_every_switch(settings: dict[str, Any], count: int, tmp_path: Path) -> None:
    reference = whole_model(small_config(**settings))
    vision = reference.config.vision_config
    C, side = vision.num_channels, vision.image_size
    rows = [row_of(3, (random_pixels(1, C, side, side, seed=2), count), 4), row_of(count + 7)]
    check_images(reference, save(reference, tmp_path), rows, images_in_turn)


def expected_and_found(reference: Any, directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a row with an image."""
    ids, images = two_one_none()[0]
    with torch.no_grad():
        expected = reference(torch.tensor([ids]), **images_in_turn([(ids, images)])).logits[0].numpy()
    return expected, load(directory, dtype="float32")[0](ids, images=images)


@pytest.mark.parametrize("tower", [CLIP, SIGLIP])
@pytest.mark.parametrize("nested", [True, False])
def test_names_of_tensors(tower: str, nested: bool, tmp_path: Path) -> None:
    """The hub's files from before and after transformers put everything below ``model.``."""
    full = "default" if tower == CLIP else "full"
    reference = whole_model(small_config(tower, vision_feature_select_strategy=full))
    path = save(reference, tmp_path) / "model.safetensors"
    old = {}
    for name, tensor in load_file(path).items():
        name = name.removeprefix("model.").replace("language_model.model.", "language_model.")
        name = name.replace("vision_tower.vision_model.", "vision_tower.")
        name = name.replace("vision_tower.", "vision_tower.vision_model.")
        if nested:
            name = name.replace("language_model.lm_head", "lm_head")
            old[name if name == "lm_head.weight" else f"model.{name}"] = tensor
        else:
            name = name if ".lm_head" in name else name.replace("language_model.", "language_model.model.")
            old["language_model.lm_head.weight" if name == "lm_head.weight" else name] = tensor
    beginning = "model." if nested else ""
    assert f"{beginning}vision_tower.vision_model.embeddings.patch_embedding.weight" in old
    old[f"{beginning}vision_tower.vision_model.embeddings.position_ids"] = np.arange(17)[None]
    save_file(old, path)
    edit_config(tmp_path, vision_feature_layer=-2, ignore_index=-100, vocab_size=211, pad_token_id=209)
    assert_close(*reversed(expected_and_found(reference, tmp_path)))


def test_a_config_of_today_and_one_of_2023(tmp_path: Path) -> None:
    reference = whole_model(small_config())
    save(reference, tmp_path, image_token_index=None, image_token_id=IMAGE, image_seq_length=99)
    assert_close(*reversed(expected_and_found(reference, tmp_path)))
    left = ("vision_feature_layer", "projector_hidden_act", "multimodal_projector_bias")
    none = dict.fromkeys((*left, "vision_feature_select_strategy", "image_token_id", "tie_word_embeddings"))
    edit_config(tmp_path, **none, image_token_index=IMAGE)
    assert_close(*reversed(expected_and_found(reference, tmp_path)))


def test_defaults_are_those_of_transformers() -> None:
    usual = LlavaConfig()
    assert OurConfig().tower[1].sizes["D"] == usual.vision_config.hidden_size
    assert CLIP_L_14_336.items() <= usual.vision_config.to_dict().items()
    given = {**vars(OurConfig())}
    del given["text_width"], given["vision_config"]
    assert given.items() <= usual.to_dict().items()


def test_tied_by_the_text_part(tmp_path: Path) -> None:
    """The whole config's false is only its default, where the text part says that the head is tied."""
    config = small_config(text="qwen2")
    config.text_config.tie_word_embeddings = config.tie_word_embeddings = True
    reference = whole_model(config)
    edit_config(save(reference, tmp_path), tie_word_embeddings=False)
    assert not any("lm_head" in name for name in load_file(tmp_path / "model.safetensors"))
    assert type(reference).from_pretrained(tmp_path).config.tie_word_embeddings
    ids = random_ids(2, 20)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_feature_layer": 3}, "vision_feature_layer = 3, but the encoder has 2 blocks"),
        ({"vision_feature_layer": [-1, -4]}, r"vision_feature_layer = \[-1, -4\], but the encoder has 2"),
        ({"vision_feature_layer": []}, r"vision_feature_layer = \[\], but"),
        ({"vision_feature_layer": [1.5]}, r"vision_feature_layer\[0\] = 1.5, but it must be int"),
        ({"vision_feature_layer": "last"}, "vision_feature_layer = 'last', but it must be"),
        ({"vision_feature_select_strategy": "cls"}, "'cls' is not known here. Known: default, full"),
        ({"projector_hidden_act": "bend"}, "projector_hidden_act = 'bend' is not known"),
        ({"multimodal_projector_bias": 1}, "multimodal_projector_bias = 1, but it must be bool"),
        ({"image_token_index": -1}, "image_token_index = -1 must be at least 0"),
        ({"vision_config": {"model_type": "vit"}}, "vision_config.model_type = 'vit', but it must be 'clip"),
        ({"vision_config": {"model_type": ["vit"]}}, r"vision_config.model_type = \['vit'\], but it must"),
        ({"vision_config": [1]}, r"vision_config = \[1\], but it must be"),
        ({"vision_config": {**VISION, "patch_size": 0}}, "config.json, vision_config: patch_size = 0 must"),
        ({"vision_config": {**VISION, "hidden_act": "bend"}}, "vision_config: hidden_act = 'bend' is not"),
        (
            {"text_config": {"model_type": "gpt2"}},
            "text_config.model_type = 'gpt2', but llava has 'llama' or",
        ),
    ],
    ids=str,
)
def test_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**small_config().to_dict(), **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_images_of_another_size(tmp_path: Path) -> None:
    model, _ = load(save(whole_model(small_config()), tmp_path))
    ids, images = row_of(3, (random_pixels(1, 3, 28, 35), 20))
    with pytest.raises(InputError, match="28 × 35 pixels, but this encoder reads 28 × 28"):
        model(ids, images=images)
    ids, images = row_of(3, (random_pixels(1, 3, 28, 28), 17))
    with pytest.raises(InputError, match="17 places in the prompt, but 16 vectors"):
        model(ids, images=images)
