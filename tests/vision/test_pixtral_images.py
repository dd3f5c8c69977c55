"""Pixtral's and Mistral Small 3's pixels and tokens, against transformers' image processor and processor."""

import sys
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from awkward_images import awkward_images, noise
from numpy.testing import assert_array_equal
from transformers.models.pixtral import image_processing_pil_pixtral as reference

from tinystar_np.errors import ConfigError, InputError
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.pixtral import PixtralImages
from tinystar_np.vision.settings import OPENAI_MEAN, OPENAI_STD

IMAGES = awkward_images()

PIXTRAL: dict[str, Any] = {
    "model_type": "llava",
    "vision_config": {"model_type": "pixtral", "patch_size": 16},
}
MISTRAL3: dict[str, Any] = {
    "model_type": "mistral3",
    "spatial_merge_size": 2,
    "vision_config": {"model_type": "pixtral", "patch_size": 14},
}
# As Mistral Small 3.1 has it, in two files.
SETTINGS: dict[str, Any] = {
    "crop_size": None,
    "data_format": "channels_first",
    "default_to_square": True,
    "device": None,
    "do_center_crop": None,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": list(OPENAI_MEAN),
    "image_processor_type": "PixtralImageProcessor",
    "image_std": list(OPENAI_STD),
    "patch_size": {"height": 14, "width": 14},
    "processor_class": "PixtralProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"longest_edge": 1540},
}


def assert_equal_pixels(ours: PixtralImages, settings: dict[str, Any], square: int) -> None:
    """Compare all images with transformers, whose processor makes patches of what one token stands for."""
    theirs = reference.PixtralImageProcessorPil(**settings)
    refused = []
    for name, image in IMAGES.items():
        try:
            expected = theirs(
                image, patch_size=square, input_data_format="channels_last", return_tensors="np"
            )
        except ValueError:  # no height is left
            with pytest.raises(
                InputError, match=r"becomes .*\b0\b.* when it is made to fit into .*\nCrop it\."
            ):
                ours.pixels(image)
            refused.append(name)
            continue
        found = ours.pixels(image)
        assert found.tiles.dtype == np.float32
        assert_array_equal(found.tiles, expected["pixel_values"], err_msg=name)
        assert_array_equal(found.tiles.shape[-2:], expected["image_sizes"][0])
        assert found.size == image.shape[:2]
    assert set(refused) <= {"1x300 gradient", "300x1 photo", "3x4000 gradient", "4000x3 photo"}


def test_pixels_with_the_published_settings() -> None:
    assert_equal_pixels(PixtralImages.read(SETTINGS, MISTRAL3), SETTINGS, 28)


def test_pixels_with_the_defaults() -> None:
    assert PixtralImages.read({}, PIXTRAL) == PixtralImages()
    assert_equal_pixels(PixtralImages(), {}, 16)


@pytest.mark.parametrize(
    "changed",
    [
        {"resample": 0},
        {"resample": 1},
        {"do_rescale": False},
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": [0.5, 1, 2]},
        {"size": {"height": 200, "width": 300}},
        {"size": 200},
        {"size": {"longest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 48}},
        {"do_pad": False, "do_convert_rgb": False, "pad_size": {"height": 1, "width": 1}},
    ],
    ids=str,
)
def test_pixels_with_other_settings(changed: dict[str, Any]) -> None:
    settings = {"size": {"longest_edge": 200}} | changed
    assert_equal_pixels(PixtralImages.read(settings, PIXTRAL), settings, 16)


def test_an_image_that_is_not_resized() -> None:
    settings = {"do_resize": False}
    ours, theirs = PixtralImages.read(settings, PIXTRAL), reference.PixtralImageProcessorPil(**settings)
    image = noise(40, 70)
    expected = theirs(image, input_data_format="channels_last", return_tensors="np")["pixel_values"]
    assert_array_equal(ours.pixels(image).tiles, expected)
    assert ours.text(ours.pixels(image)).count("[IMG]") == 2 * 4
    with pytest.raises(
        InputError, match="one of 15 × 70 pixels becomes 15 × 70, but a token stands for 16 × 16"
    ):
        ours.pixels(noise(15, 70))


def test_text_is_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its module needs torchvision only for the size of a resized image, which is computed without it as well.
    monkeypatch.setitem(sys.modules, "transformers.models.pixtral.image_processing_pixtral", reference)
    processor = import_module("transformers.models.pixtral.processing_pixtral").PixtralProcessor
    tokens = {"image_token": "<i>", "image_break_token": "<b>", "image_end_token": "<e>"}
    rng = np.random.default_rng(0)
    for config, patch, merged in ((PIXTRAL, 16, 1), (MISTRAL3, 14, 2)):
        given = {"patch_size": patch, "spatial_merge_size": merged}
        theirs = SimpleNamespace(**tokens, **given)
        ours = PixtralImages.read(SETTINGS | tokens | given, config)
        for rows, columns in [(1, 1), (1, 9), (9, 1), *rng.integers(1, 20, (20, 2))]:
            size = int(rows) * patch * merged, int(columns) * patch * merged
            expected = processor.replace_image_token(theirs, {"image_sizes": [size]}, 0)
            assert ours.text(Pixels(np.zeros((1, 3, *size), np.float32), (1, 1))) == expected


def test_prompts() -> None:
    images = PixtralImages.read(SETTINGS, MISTRAL3)
    assert images.mark == images.image_token == "[IMG]"
    assert images.before(2) == "[IMG][IMG]"
    assert (
        images.text(Pixels(np.zeros((1, 3, 56, 28), np.float32), (1, 1))) == "[IMG][IMG_BREAK][IMG][IMG_END]"
    )


def test_what_one_token_stands_for() -> None:
    def square(settings: dict[str, Any], config: dict[str, Any]) -> int:
        return PixtralImages.read(settings, config).square

    assert square({}, {"model_type": "mistral3"}) == 28
    assert square({}, {"model_type": "mistral3", "vision_config": {"model_type": "pixtral"}}) == 32
    assert square({}, {"model_type": "llava", "vision_config": {"model_type": "pixtral"}}) == 16
    assert square({"patch_size": 14, "spatial_merge_size": 2}, MISTRAL3) == 28
    # What the processor's class has by itself, beside a model that has something else.
    assert square({"patch_size": 16, "spatial_merge_size": 1}, MISTRAL3) == 28
    assert square({"patch_size": 14, "spatial_merge_size": 1}, MISTRAL3) == 28


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": {"shortest_edge": 336}}, "size = .*must have longest_edge alone"),
        ({"size": {"shortest_edge": 336, "longest_edge": 400}}, "size = .*must have longest_edge alone"),
        ({"do_center_crop": True}, "crop_size is not given, but it must have height and width"),
        (
            {"do_center_crop": True, "crop_size": {"shortest_edge": 3}},
            "crop_size = .*must have height and width",
        ),
        ({"image_processor_type": "CLIPImageProcessor"}, "image_processor_type = .* is not implemented"),
        ({"patch_size": 12}, "patch_size = 12, but it is 14"),
        ({"patch_size": 14, "spatial_merge_size": 3}, "spatial_merge_size = 3, but it is 2"),
        ({"image_break_token": 7}, "image_break_token = 7, but it must be a token's text"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^preprocessor_config.json: {message}"):
        PixtralImages.read(SETTINGS | settings, MISTRAL3)


def test_more_tokens_than_any_model_takes() -> None:
    images = PixtralImages.read({}, {"vision_config": {"patch_size": 1}})
    with pytest.raises(InputError, match="one would become 102400 tokens"):
        images.text(Pixels(np.zeros((1, 3, 320, 320), np.float32), (320, 320)))
