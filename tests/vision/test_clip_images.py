"""CLIP's and LLaVA's images and their text, against transformers' processors of PIL and NumPy."""

from typing import Any

import numpy as np
import pytest
from awkward_images import awkward_images, noise, photo
from numpy.testing import assert_array_equal
from PIL import Image
from processors import bare, expected_tiles
from transformers import (
    CLIPImageProcessorPil,
    LlavaImageProcessorPil,
    LlavaProcessor,
    SiglipImageProcessorPil,
)

from tinystar_np.errors import ConfigError, InputError
from tinystar_np.vision.clip import ClipImages
from tinystar_np.vision.llava import LlavaImages
from tinystar_np.vision.transforms import resized_and_cropped

IMAGES = awkward_images()
MODEST = {name: image for name, image in IMAGES.items() if max(image.shape) <= 600}

CLIP_SETTINGS: dict[str, dict[str, Any]] = {
    "its defaults": {},
    "336": {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}},
    "numbers alone": {"size": 60, "crop_size": 50},
    "square": {"size": {"height": 70, "width": 50}, "do_center_crop": False},
    "a pair": {"size": [70, 50], "crop_size": [40, 45]},
    "a number for a square": {"size": 60, "default_to_square": True, "crop_size": 60},
    "both edges": {"size": {"shortest_edge": 40, "longest_edge": 900}, "do_center_crop": False},
    "no resizing": {"do_resize": False},
    "no crop": {"do_center_crop": False, "size": {"shortest_edge": 20}},
    "a crop larger than the image": {
        "size": {"shortest_edge": 30},
        "crop_size": {"height": 301, "width": 44},
    },
    "bilinear": {"resample": 2, "size": 60, "crop_size": 60},
    "nearest": {"resample": 0, "size": 60, "crop_size": 60},
    "no scaling": {"do_rescale": False},
    "another factor": {"rescale_factor": 0.00784313725490196},
    "no normalisation": {"do_normalize": False},
    "neither": {"do_normalize": False, "do_rescale": False},
    "other means": {"image_mean": [0.1, 0.2, 0.3], "image_std": [1.5, 0.5, 0.25]},
    "padded": {"do_pad": True, "pad_size": {"height": 230, "width": 240}},
    "padding of batches": {"do_pad": True},
    "nulls": {"do_resize": None, "size": None, "do_center_crop": None, "do_rescale": None, "do_pad": None},
    "no normalisation by null": {"do_normalize": None, "image_mean": None, "image_std": None},
    "KOSMOS-2's": {"use_square_size": True, "do_convert_rgb": True},
    "keys of other backends": {"device": "cuda", "disable_grouping": True, "return_tensors": "pt"},
}


@pytest.mark.parametrize("kind", CLIP_SETTINGS)
def test_clip_is_transformers(kind: str) -> None:
    settings = CLIP_SETTINGS[kind]
    ours = ClipImages.read(settings, {})
    for name, image in (IMAGES if kind == "its defaults" else MODEST).items():
        found = ours.pixels(image)
        expected = expected_tiles(CLIPImageProcessorPil, settings, image)
        assert found.tiles.dtype == np.float32
        assert_array_equal(found.tiles, expected, err_msg=name)
        assert (found.size, found.grid) == (image.shape[:2], (0, 0))


@pytest.mark.parametrize("kind", [kind for kind in CLIP_SETTINGS if kind != "KOSMOS-2's"])
@pytest.mark.parametrize("do_pad", [False, True])
def test_llava_is_transformers_with_its_own_padding(kind: str, do_pad: bool) -> None:
    settings = CLIP_SETTINGS[kind] | {"do_pad": do_pad}
    ours = LlavaImages.read(settings | {"image_processor_type": "LlavaImageProcessorFast"}, {})
    for name, image in (IMAGES if kind == "its defaults" else MODEST).items():
        expected = expected_tiles(LlavaImageProcessorPil, settings, image)
        assert_array_equal(ours.pixels(image).tiles, expected, err_msg=name)


def test_llavas_files_may_name_the_processor_of_its_encoder() -> None:
    padded = {"do_pad": True, "pad_size": {"height": 300, "width": 300}}
    for name, theirs in (("CLIP", CLIPImageProcessorPil), ("Siglip", SiglipImageProcessorPil)):
        settings = padded | {"image_processor_type": f"{name}ImageProcessor"}
        image = photo(60, 90)
        expected = expected_tiles(theirs, padded, image)
        assert_array_equal(LlavaImages.read(settings, {}).pixels(image).tiles, expected)
    old = LlavaImages.read({"feature_extractor_type": "CLIPFeatureExtractor", "do_pad": True}, {})
    assert old.border is None


def test_of_a_long_strip_only_the_middle_is_made() -> None:
    """3 × 1000 would become 336 × 112 000: here it does not, and the pixels are those that it would have."""
    steps = ClipImages.read(CLIP_SETTINGS["336"], {}).steps
    for strip in (noise(3, 1000), noise(1000, 3)):
        size = steps.resized_size(strip.shape[:2])
        assert sorted(size) == [336, 112_000]
        whole = Image.fromarray(strip).resize(size[::-1], Image.Resampling.BICUBIC)
        left, top = (size[1] - 336) // 2, (size[0] - 336) // 2
        expected = np.array(whole.crop((left, top, left + 336, top + 336)))
        assert_array_equal(resized_and_cropped(strip, size, (336, 336), 3), expected)


def test_a_thread_of_an_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"1 × 1000000 pixels would become .* Crop it|too unequal"):
        ClipImages().pixels(np.zeros((1, 1_000_000, 3), np.uint8))


TEXTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}, {}),
    ({"patch_size": 32, "vision_feature_select_strategy": "full", "num_additional_image_tokens": 1},
     {"vision_feature_select_strategy": "full"}),
    ({"patch_size": 16, "vision_feature_select_strategy": "full", "num_additional_image_tokens": 0},
     {"vision_feature_select_strategy": "full", "vision_config": {"model_type": "siglip_vision_model"}}),
]  # fmt: skip


@pytest.mark.parametrize(("processor", "config"), TEXTS)
def test_llavas_text_is_transformers(processor: dict[str, Any], config: dict[str, Any]) -> None:
    token = "<picture>"
    size = {"size": {"height": 70, "width": 100}, "do_center_crop": False}
    ours = LlavaImages.read({**size, **processor, "image_token": token}, config)
    pixels = ours.pixels(photo(60, 90))
    theirs = bare(LlavaProcessor, image_token=token, **processor)
    assert ours.text(pixels) == theirs.replace_image_token({"pixel_values": pixels.tiles}, 0)
    assert (ours.mark, ours.before(2)) == (token, f"{token}\n{token}\n")


def test_what_processor_config_leaves_out_is_in_config() -> None:
    vision = {"model_type": "clip_vision_model", "patch_size": 28}
    ours = LlavaImages.read({}, {"vision_config": vision})
    assert ours.text(ours.pixels(photo(50, 50))) == "<image>" * 64
    full = LlavaImages.read({}, {"vision_config": vision, "vision_feature_select_strategy": "full"})
    assert full.text(full.pixels(photo(50, 50))) == "<image>" * 65


CONTRADICTIONS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"vision_feature_select_strategy": "full"},
        {},
        r"vision_feature_select_strategy = 'full', but it is default",
    ),
    ({"num_additional_image_tokens": 2}, {}, r"num_additional_image_tokens = 2, but it is 1 to the encoder"),
    ({"patch_size": 16}, {"vision_config": {"patch_size": 14}}, r"patch_size = 16, but it is 14"),
    ({"image_mean": [2.0, 0, 0], "do_pad": True}, {}, r"image_mean = .* is no colour"),
    (
        {"image_processor_type": "PixtralImageProcessor"},
        {},
        r"image_processor_type = 'PixtralImageProcessor'",
    ),
    ({}, {"vision_feature_select_strategy": "some"}, r"config.json: vision_feature_select_strategy = 'some'"),
]


@pytest.mark.parametrize(("settings", "config", "words"), CONTRADICTIONS)
def test_files_of_different_models_are_refused(
    settings: dict[str, Any], config: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        LlavaImages.read(settings, config)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"size": {"longest_edge": 224}}, r"size = .*must have height and width, or shortest_edge"),
    ({"size": {"height": 224}}, r"size = "),
    ({"size": {"height": 0, "width": 5}}, r"size = "),
    ({"size": {"height": 10**9, "width": 5}}, r"size = "),
    ({"size": "224"}, r"size = '224'"),
    ({"size": True}, r"size = True"),
    ({"size": {"max_height": 10, "max_width": 10}}, r"size = "),
    ({"crop_size": {"shortest_edge": 224}}, r"crop_size = .*must have height and width"),
    ({"resample": "bicubic"}, r"resample = 'bicubic'"),
    ({"resample": 9}, r"resample = 9"),
    ({"do_resize": "yes"}, r"do_resize = 'yes'"),
    ({"do_rescale": 1}, r"do_rescale = 1"),
    ({"rescale_factor": 0}, r"rescale_factor = 0"),
    ({"rescale_factor": "1/255"}, r"rescale_factor = '1/255'"),
    ({"image_mean": [0.5, 0.5]}, r"image_mean = \[0.5, 0.5\]"),
    ({"image_std": [0.5, 0.5, 0]}, r"image_std = \[0.5, 0.5, 0\]"),
    ({"do_pad": True, "pad_size": {"longest_edge": 5}}, r"pad_size = .*must have height and width"),
    ({"image_processor_type": "BlipImageProcessor"}, r"image_processor_type = 'BlipImageProcessor'"),
]


@pytest.mark.parametrize(("settings", "words"), REFUSED)
def test_settings_that_nobody_can_follow_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"^preprocessor_config.json: {words}"):
        ClipImages.read(settings, {})


def test_an_image_larger_than_its_padding_is_refused() -> None:
    ours = ClipImages.read({"do_pad": True, "pad_size": {"height": 100, "width": 300}}, {})
    with pytest.raises(InputError, match=r"one is 224 × 224 pixels .* pads to 100 × 300"):
        ours.pixels(photo(50, 50))
