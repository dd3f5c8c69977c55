"""LLaVA-NeXT's tiles and tokens, against transformers' image processor, processor and model."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from awkward_images import awkward_images
from numpy.testing import assert_array_equal
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_next import modeling_llava_next as model
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

from tinystar_np.errors import ConfigError
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.llava_next import LlavaNextImages
from tinystar_np.vision.settings import OPENAI_MEAN, OPENAI_STD

IMAGES = awkward_images()

CONFIG: dict[str, Any] = {
    "model_type": "llava_next",
    "vision_config": {"model_type": "clip_vision_model", "patch_size": 14, "image_size": 336},
}
# As the published models have it.
SETTINGS: dict[str, Any] = {
    "aspect_ratio_setting": "anyres",
    "crop_size": {"height": 336, "width": 336},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_pad": True,
    "do_rescale": True,
    "do_resize": True,
    "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
    "image_mean": list(OPENAI_MEAN),
    "image_processor_type": "LlavaNextImageProcessor",
    "image_std": list(OPENAI_STD),
    "processor_class": "LlavaNextProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 336},
}
SMALL = {"size": 56, "crop_size": 56, "image_grid_pinpoints": [[56, 112], [112, 56], [168, 224], [56, 56]]}


def assert_equal_pixels(ours: LlavaNextImages, theirs: LlavaNextImageProcessorPil) -> None:
    """Compare the tiles of all images."""
    for name, image in IMAGES.items():
        expected = theirs(image, input_data_format="channels_last", return_tensors="np")
        found = ours.pixels(image)
        assert found.tiles.dtype == np.float32
        assert_array_equal(found.tiles, expected["pixel_values"][0], err_msg=name)
        assert_array_equal(found.size, expected["image_sizes"][0])


def test_pixels_with_the_published_settings() -> None:
    assert_equal_pixels(LlavaNextImages.read(SETTINGS, CONFIG), LlavaNextImageProcessorPil(**SETTINGS))


def test_pixels_with_the_defaults() -> None:
    """By default tiles of 224 are cut of multiples of 336: the last of a row or column are smaller."""
    assert_equal_pixels(LlavaNextImages(), LlavaNextImageProcessorPil())


@pytest.mark.parametrize(
    "changed",
    [
        {"resample": 2},
        {"resample": 0},
        {"do_rescale": None, "do_normalize": None, "image_mean": None},
        {"do_center_crop": None, "crop_size": None},
        {"do_resize": False},
        {"do_center_crop": False},
        {"do_rescale": False},
        {"do_normalize": False},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": [0.5, 1, 2]},
        {"size": {"height": 56, "width": 56}},
        {"size": [60, 70]},
        {"size": {"shortest_edge": 80}},
        {"size": 56, "default_to_square": True},
        {"do_pad": False, "do_convert_rgb": False, "pad_size": {"height": 1, "width": 1}},
        {"image_grid_pinpoints": [[56, 560]]},
    ],
    ids=str,
)
def test_pixels_with_other_settings(changed: dict[str, Any]) -> None:
    settings = SMALL | changed
    assert_equal_pixels(LlavaNextImages.read(settings, CONFIG), LlavaNextImageProcessorPil(**settings))


def sizes() -> list[tuple[int, int]]:
    """Heights and widths: of the awkward images, and many more."""
    rng = np.random.default_rng(0)
    drawn = [
        *rng.integers(1, 1500, (150, 2)),
        *rng.integers(1, 90, (50, 2)),
        *(336 * rng.integers(1, 9, (50, 2))),
        (47, 1128),  # whose bars end on a whole patch, but for the last digits of a product
        (88, 99),
    ]
    return [(image.shape[0], image.shape[1]) for image in IMAGES.values()] + [
        (int(h), int(w)) for h, w in drawn
    ]


@pytest.mark.parametrize("strategy", ["default", "full"])
@pytest.mark.parametrize("has_cls", [True, False])
def test_text_is_the_processors(strategy: str, has_cls: bool) -> None:
    config = {
        "vision_feature_select_strategy": strategy,
        "vision_config": {
            "model_type": "clip_vision_model" if has_cls else "siglip_vision_model",
            "patch_size": 14,
        },
    }
    named = {"image_token": "<picture>"}
    settings = SETTINGS | named | {"num_additional_image_tokens": int(has_cls), "patch_size": 14}
    ours = LlavaNextImages.read(settings, config)
    # What the file leaves out, or has as the processor's class has it, is the encoder's.
    assert LlavaNextImages.read(SETTINGS | named, config) == ours
    assert LlavaNextImages.read(SETTINGS | named | {"num_additional_image_tokens": 0}, config) == ours
    theirs = object.__new__(LlavaNextProcessor)
    theirs.image_processor = LlavaNextImageProcessorPil(**SETTINGS)
    theirs.image_token = "<picture>"
    theirs.patch_size = 14
    theirs.num_additional_image_tokens = int(has_cls)
    theirs.vision_feature_select_strategy = strategy
    tiles = np.zeros((3, 3, 336, 336), np.float32)
    for size in sizes():
        inputs = {"image_sizes": [size], "pixel_values": [tiles]}
        expected = theirs.replace_image_token(inputs, 0)
        best = select_best_resolution(size, SETTINGS["image_grid_pinpoints"])
        assert ours.resolution(size) == best
        pixels = Pixels(tiles, size, (best[0] // 336, best[1] // 336))
        assert ours.text(pixels) == expected, size


def test_there_is_a_token_for_each_vector_of_the_encoder() -> None:
    ours = LlavaNextImages.read(SETTINGS, CONFIG)
    pinpoints = SETTINGS["image_grid_pinpoints"]
    whole = SimpleNamespace(
        config=SimpleNamespace(
            vision_config=SimpleNamespace(image_size=336, patch_size=14), image_grid_pinpoints=pinpoints
        )
    )
    for name, image in IMAGES.items():
        pixels = ours.pixels(image)
        assert pixels.grid == model.get_anyres_image_grid_shape(pixels.size, pinpoints, 336), name
        assert len(pixels.tiles) == model.image_size_to_num_patches(pixels.size, pinpoints, 336), name
        features = torch.zeros(len(pixels.tiles), 24 * 24, 2)
        (packed,), _ = model.LlavaNextModel.pack_image_features(
            whole, [features], torch.tensor([pixels.size]), "default", image_newline=torch.ones(2)
        )
        assert ours.text(pixels) == "<image>" * len(packed), name


def test_prompts() -> None:
    images = LlavaNextImages.read(SETTINGS | {"image_token": {"content": "<img>", "special": True}}, CONFIG)
    assert images.mark == images.image_token == "<img>"
    assert images.before(2) == "<img>\n<img>\n"


def test_the_patch_size_is_the_encoders() -> None:
    def patch_size(config: dict[str, Any]) -> int:
        return LlavaNextImages.read(SETTINGS, config).patch_size

    assert patch_size({}) == 14
    assert patch_size({"vision_config": {"patch_size": 7}}) == 7
    assert patch_size({"vision_config": {"hidden_size": 1}}) == 32
    assert patch_size({"vision_config": {"model_type": "siglip_vision_model"}}) == 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": {"shortest_edge": 336, "longest_edge": 400}}, "size = .*alone"),
        ({"size": {"longest_edge": 400}}, "size = .*alone"),
        ({"crop_size": None}, "crop_size is not given, but it must have height and width"),
        ({"crop_size": {"shortest_edge": 336}}, "crop_size = .*must have height and width"),
        ({"crop_size": {"height": 336, "width": 300}}, "crop_size = .*is not the size that the tiles get"),
        ({"crop_size": 12}, "crop_size = 12, but it is less than a patch"),
        ({"do_center_crop": False, "size": 300}, "crop_size = .*is not the size that the tiles get"),
        ({"do_center_crop": False, "do_resize": False, "size": 300}, "crop_size = .*is not the size"),
        (
            {"image_grid_pinpoints": [[336, 337]]},
            r"pinpoints = \[\[336, 337\]\], but it cannot be cut into tiles",
        ),
        ({"image_grid_pinpoints": []}, "must be a list of"),
        ({"image_grid_pinpoints": [[336]]}, "must be a list of"),
        ({"image_grid_pinpoints": [[336, -336]]}, "must be a list of"),
        ({"image_grid_pinpoints": [[336, 336.0]]}, "must be a list of"),
        ({"image_grid_pinpoints": [[336 * 10**6, 336]]}, "of at most 67108864 pixels"),
        ({"image_grid_pinpoints": [[336, 336]] * 1001}, "must be a list of"),
        ({"image_grid_pinpoints": "[[336, 336]]"}, "must be a list of"),
        ({"patch_size": 16}, "patch_size = 16, but it is 14"),
        ({"num_additional_image_tokens": 2}, "num_additional_image_tokens = 2, but it is 1"),
        ({"vision_feature_select_strategy": "full"}, "= 'full', but it is 'default' in config.json"),
        ({"vision_feature_select_strategy": "both"}, "must be one of default, full"),
        ({"image_processor_type": "CLIPImageProcessor"}, "image_processor_type = .* is not implemented"),
        ({"do_resize": "no"}, "do_resize = 'no'"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^preprocessor_config.json: .*{message}"):
        LlavaNextImages.read(SETTINGS | settings, CONFIG)


def test_settings_that_contradict_config_json() -> None:
    config = CONFIG | {"image_grid_pinpoints": [[336, 672]]}
    with pytest.raises(ConfigError, match=r"image_grid_pinpoints = .* must be the same as in config\.json"):
        LlavaNextImages.read(SETTINGS, config)
    config = CONFIG | {"vision_config": {"patch_size": "14"}}
    with pytest.raises(ConfigError, match=r"^config\.json: vision_config\.patch_size = '14'"):
        LlavaNextImages.read(SETTINGS, config)
    # Files that say neither would have tiles of 224 of a picture of 336.
    with pytest.raises(ConfigError, match="cannot be cut into tiles of 224 pixels"):
        LlavaNextImages.read({}, CONFIG)
