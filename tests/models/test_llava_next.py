"""LLaVA-NeXT against transformers, with images in tiles."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, edit_config, save
from safetensors.numpy import load_file, save_file
from transformers import LlavaNextConfig
from vision_parity import IMAGE, TEXT, VISION, Row, check_images, row_of, whole_model

from tinystar_np.errors import ConfigError, InputError
from tinystar_np.loading import load
from tinystar_np.models.llava_next import CLIP_L_14_336
from tinystar_np.models.llava_next import LlavaNextConfig as OurConfig
from tinystar_np.models.text_part import TEXT_PARTS
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.llava_next import LlavaNextImages

CLIP, SIGLIP = "clip_vision_model", "siglip_vision_model"
TILE, PATCH = 28, 7
GRIDS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
FULL = {"tower": SIGLIP, "vision_feature_select_strategy": "full"}
GRANITE = {
    "embedding_multiplier": 12.0,
    "logits_scaling": 8.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.1,
}
OF_TEXT: dict[str, dict[str, Any]] = {
    "granite": GRANITE,
    "mixtral": {"num_local_experts": 3, "num_experts_per_tok": 2},
    "qwen2": {"use_sliding_window": False},
}


def small_config(
    tower: str = CLIP, text: str = "llama", vision: dict[str, Any] | None = None, **settings: Any
) -> LlavaNextConfig:
    """The config of a small model whose tiles have 4 × 4 patches."""
    return LlavaNextConfig(
        text_config={**TEXT, "model_type": text, **OF_TEXT.get(text, {})},
        vision_config={"model_type": tower, **VISION, **(vision or {})},
        **{"image_token_index": IMAGE, "image_grid_pinpoints": GRIDS, **settings},
    )


def prepared(height: int, width: int, seed: int = 0, patch: int = PATCH) -> tuple[Pixels, int]:
    """An image of this size in tiles, and how many vectors stand for it."""
    form = LlavaNextImages(
        resolutions=tuple((h, w) for h, w in GRIDS),
        overview=(TILE, TILE),
        tile=TILE,
        resize=TILE,
        crop=(TILE, TILE),
        patch_size=patch,
    )
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = form.pixels(image)
    return pixels, form.text(pixels).count("<image>")


def theirs(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Tiles of all images with empty ones after them, (n, most, C, h, w), and the images' sizes."""
    given = [image.pixels for _, row in rows for image in row]
    most = max(len(pixels.tiles) for pixels in given)
    padded = [np.pad(p.tiles, ((0, most - len(p.tiles)), *[(0, 0)] * 3)) for p in given]
    sizes = torch.tensor([pixels.size for pixels in given])
    return {"pixel_values": torch.tensor(np.stack(padded)), "image_sizes": sizes}


def small_rows() -> list[Row]:
    """Two images of other shapes among words; one; none."""
    wide, tall = prepared(20, 50), prepared(90, 31, seed=1)
    length = 10 + wide[1] + tall[1]
    return [row_of(3, wide, 2, tall, 5), row_of(length - wide[1], wide), row_of(length)]


@pytest.mark.parametrize("text", TEXT_PARTS["llava_next"])
def test_every_text_part(text: str, tmp_path: Path) -> None:
    reference = whole_model(small_config(text=text))
    model = check_images(reference, save(reference, tmp_path), small_rows(), theirs)
    assert type(model).__module__ == f"tinystar_np.models.{text}"


@pytest.mark.parametrize(
    "settings",
    [
        {"vision_feature_layer": -1},
        {"vision_feature_layer": [-1, 0, -3]},
        {"projector_hidden_act": "relu"},
        {"multimodal_projector_bias": False},
        FULL,
        {**FULL, "vision_feature_layer": [-3, -2, -1, 1], "text": "granite"},  # as Granite Vision is
        {"vision": {"layer_norm_eps": 0.1, "hidden_act": "gelu"}},
        {"vision": {"patch_size": 14, "num_hidden_layers": 3}},
        {"tie_word_embeddings": True},
    ],
    ids=str,
)
def test_every_switch(settings: dict[str, Any], tmp_path: Path) -> None:
    reference = whole_model(small_config(**settings))
    image = prepared(50, 44, seed=2, patch=reference.config.vision_config.patch_size)
    rows = [row_of(3, image, 4), row_of(image[1] + 7)]
    check_images(reference, save(reference, tmp_path), rows, theirs)


def test_images_of_every_shape(tmp_path: Path) -> None:
    """The bars around an image, in lines and in columns, odd and even, and none."""
    reference = whole_model(small_config())
    model = load(save(reference, tmp_path), dtype="float32")[0]
    counts = set()
    shapes = [(1, 1), (56, 56), (1, 40), (40, 1), (28, 84), (84, 28), (20, 50), (50, 43), (43, 50)]
    for height, width in [*shapes, (31, 60), (33, 60), (60, 33), (300, 299), (7, 23), (500, 777)]:
        image = prepared(height, width)
        ids, images = row_of(2, image, 3)
        with torch.no_grad():
            expected = reference(torch.tensor([ids]), **theirs([(ids, images)])).logits[0].numpy()
        assert_close(model(ids, images=images), expected, what=f"{height} × {width}")
        counts.add(image[1])
    assert len(counts) > 6


@pytest.mark.parametrize("nested", [True, False])
def test_names_of_tensors(nested: bool, tmp_path: Path) -> None:
    """The hub's files from before and after transformers put everything below ``model.``."""
    reference = whole_model(small_config())
    path = save(reference, tmp_path) / "model.safetensors"
    old = {}
    for name, tensor in load_file(path).items():
        name = name.removeprefix("model.").replace("language_model.model.", "language_model.")
        if name in ("lm_head.weight", "language_model.lm_head.weight"):
            old["lm_head.weight" if nested else "language_model.lm_head.weight"] = tensor
        elif nested:
            old[f"model.{name}"] = tensor
        else:
            old[name.replace("language_model.", "language_model.model.")] = tensor
    assert ("model.image_newline" if nested else "image_newline") in old
    save_file(old, path)
    ids, images = small_rows()[0]
    with torch.no_grad():
        expected = reference(torch.tensor([ids]), **theirs([(ids, images)])).logits[0].numpy()
    assert_close(load(tmp_path, dtype="float32")[0](ids, images=images), expected)
    left = ("vision_feature_layer", "projector_hidden_act", "multimodal_projector_bias")
    none = dict.fromkeys((*left, "vision_feature_select_strategy", "image_token_index", "image_seq_length"))
    edit_config(tmp_path, **none, image_token_id=IMAGE, ignore_index=-100, use_image_newline_parameter=True)
    assert_close(load(tmp_path, dtype="float32")[0](ids, images=images), expected)


def test_defaults_are_those_of_transformers() -> None:
    usual = LlavaNextConfig()
    assert OurConfig().tower[1].sizes["D"] == usual.vision_config.hidden_size
    assert CLIP_L_14_336.items() <= usual.vision_config.to_dict().items()
    given = {**vars(OurConfig())}
    del given["text_width"], given["vision_config"]
    assert given.items() <= usual.to_dict().items()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_feature_layer": 3}, "vision_feature_layer = 3, but the encoder has 2 blocks"),
        ({"vision_feature_layer": []}, r"vision_feature_layer = \[\], but"),
        ({"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy = 'full', but the vec"),
        ({"vision_feature_select_strategy": "cls"}, "'cls' is not known here. Known: default, full"),
        (
            {"vision_config": {**VISION, "model_type": SIGLIP}},
            "vision_feature_select_strategy = 'default', but the vectors of the patches must be left",
        ),
        ({"projector_hidden_act": "bend"}, "projector_hidden_act = 'bend' is not known"),
        ({"vision_config": {"model_type": "vit"}}, "vision_config.model_type = 'vit', but it must be 'clip"),
        ({"text_config": {"model_type": "gpt2"}}, "text_config.model_type = 'gpt2', but llava_next has"),
    ],
    ids=str,
)
def test_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**small_config().to_dict(), **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_tiles_that_no_processor_makes(tmp_path: Path) -> None:
    model, _ = load(save(whole_model(small_config()), tmp_path))
    pixels, count = prepared(20, 50)
    ids, images = row_of(3, (pixels._replace(grid=(2, 2)), count))
    with pytest.raises(InputError, match="has 3 tiles, but one of the whole and 2 × 2 of its parts"):
        model(ids, images=images)
    ids, images = row_of(3, (Pixels(pixels.tiles[:1], (20, 50)), count))
    with pytest.raises(InputError, match="has 1 tiles, but one of the whole and 0 × 0"):
        model(ids, images=images)
