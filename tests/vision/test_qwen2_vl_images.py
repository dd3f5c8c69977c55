"""Pixels and tokens of Qwen2-VL, 2.5-VL and 3-VL, against transformers' image processor and processors."""

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from awkward_images import awkward_images, noise
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from tinystar_np.errors import ConfigError, InputError
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.qwen2_vl import Qwen2VLImages
from tinystar_np.vision.settings import OPENAI_MEAN, OPENAI_STD

IMAGES = awkward_images()

VISION = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
QWEN2: dict[str, Any] = {"model_type": "qwen2_vl", "vision_config": VISION}
QWEN2_5: dict[str, Any] = {"model_type": "qwen2_5_vl", "vision_config": VISION}
QWEN3: dict[str, Any] = {"model_type": "qwen3_vl", "vision_config": VISION | {"patch_size": 16}}
# As the published models have it.
SETTINGS_2_5: dict[str, Any] = {
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": list(OPENAI_MEAN),
    "image_std": list(OPENAI_STD),
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2_5_VLProcessor",
}
SETTINGS_3: dict[str, Any] = {
    "size": {"longest_edge": 16777216, "shortest_edge": 65536},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "Qwen3VLProcessor",
    "image_processor_type": "Qwen2VLImageProcessorFast",
}
SMALL = {"size": {"shortest_edge": 28 * 28, "longest_edge": 100_000}}


def put_together(
    patches: NDArray[np.float32], grid: NDArray[np.int64], patch: int, merged: int
) -> NDArray[np.float32]:
    """Make the picture again of which transformers cut patches: (n, 3 · 2 · patch²) → (1, 3, h, w)."""
    _, rows, columns = grid
    cut = patches.reshape(rows // merged, columns // merged, merged, merged, 3, 2, patch, patch)
    assert_array_equal(cut[:, :, :, :, :, 0], cut[:, :, :, :, :, 1])  # the two frames
    picture = cut[:, :, :, :, :, 0].transpose(4, 0, 2, 5, 1, 3, 6)
    return picture.reshape(1, 3, rows * patch, columns * patch)


def assert_equal_pixels(settings: dict[str, Any], config: dict[str, Any]) -> None:
    """Compare all images."""
    ours = Qwen2VLImages.read(settings, config)
    theirs = Qwen2VLImageProcessorPil(**deepcopy(settings))  # it writes into them
    refused = []
    for name, image in IMAGES.items():
        try:
            expected = theirs(image, input_data_format="channels_last", return_tensors="np")
        except ValueError:
            with pytest.raises(InputError, match=r"one edge more than 200 times the other.*\nCrop it\."):
                ours.pixels(image)
            refused.append(name)
            continue
        found = ours.pixels(image)
        assert found.tiles.dtype == np.float32
        picture = put_together(
            expected["pixel_values"], expected["image_grid_thw"][0], theirs.patch_size, theirs.merge_size
        )
        assert_array_equal(found.tiles, picture, err_msg=name)
        assert found.size == image.shape[:2]
    assert refused == ["1x300 gradient", "300x1 photo", "3x4000 gradient", "4000x3 photo"]


@pytest.mark.parametrize(("settings", "config"), [(SETTINGS_2_5, QWEN2_5), (SETTINGS_3, QWEN3)])
def test_pixels_with_the_published_settings(settings: dict[str, Any], config: dict[str, Any]) -> None:
    assert_equal_pixels(settings, config)


def test_pixels_with_the_defaults() -> None:
    assert Qwen2VLImages.read({}, QWEN2) == Qwen2VLImages()
    assert_equal_pixels({}, QWEN2)


@pytest.mark.parametrize(
    "changed",
    [
        {"resample": 2},
        {"do_rescale": False},
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": [0.5, 1, 2]},
        {"size": {"shortest_edge": 200_000, "longest_edge": 210_000}},
        {"size": {"shortest_edge": 200_000, "longest_edge": 1_000}},  # no image has both: the second holds
        {"size": None, "min_pixels": 20_000},
        {"size": None, "max_pixels": 20_000},
        {"min_pixels": 20_000, "max_pixels": 30_000},
        {"size": {"min_pixels": 5, "max_pixels": 5}, "min_pixels": 20_000, "max_pixels": 30_000},
        {"min_pixels": None, "max_pixels": None, "crop_size": None, "do_center_crop": None, "pad_size": None},
        {
            "do_center_crop": True,
            "crop_size": 5,
            "do_pad": True,
            "do_convert_rgb": False,
        },  # of no effect there
    ],
    ids=str,
)
def test_pixels_with_other_settings(changed: dict[str, Any]) -> None:
    assert_equal_pixels(SMALL | changed, QWEN2)


def test_other_patches() -> None:
    config = {"model_type": "qwen2_vl", "vision_config": {"patch_size": 10, "spatial_merge_size": 3}}
    assert_equal_pixels(SMALL | {"patch_size": 10, "merge_size": 3}, config)


def test_older_names_within_size_are_limits_too() -> None:
    """transformers cannot use these alone, though Qwen2-VL's first files had them."""
    older = Qwen2VLImages.read({"size": {"min_pixels": 3136, "max_pixels": 12845056}}, QWEN2)
    assert older == Qwen2VLImages.read(SETTINGS_2_5, QWEN2)


def test_an_image_of_as_many_pixels_as_are_allowed() -> None:
    for limits in ((1, 2 * 28 * 28), (2 * 28 * 28, 10_000)):
        images = Qwen2VLImages(*limits)
        for size in ((43, 28), (28, 55), (13, 50)):
            expected = smart_resize(*size, factor=28, min_pixels=limits[0], max_pixels=limits[1])
            assert images.fitting(size, *limits) == expected, size
        assert images.fitting((43, 28), *limits) == (56, 28)


def test_sizes() -> None:
    rng = np.random.default_rng(0)
    for settings, config, factor in ((SETTINGS_2_5, QWEN2, 28), (SETTINGS_3, QWEN3, 32), (SMALL, QWEN2, 28)):
        ours = Qwen2VLImages.read(settings, config)
        assert ours.least is not None
        assert ours.most is not None
        for height, width in [*rng.integers(1, 4000, (200, 2)), *(14 * rng.integers(1, 90, (200, 2)))]:
            size = int(height), int(width)
            if max(size) <= 200 * min(size):
                expected = smart_resize(*size, factor=factor, min_pixels=ours.least, max_pixels=ours.most)
                assert ours.fitting(size, ours.least, ours.most) == expected, size


def test_an_image_that_is_not_resized() -> None:
    ours = Qwen2VLImages.read({"do_resize": False}, QWEN2)
    theirs = Qwen2VLImageProcessorPil(do_resize=False)
    expected = theirs(noise(56, 84), input_data_format="channels_last", return_tensors="np")
    picture = put_together(expected["pixel_values"], expected["image_grid_thw"][0], 14, 2)
    assert_array_equal(ours.pixels(noise(56, 84)).tiles, picture)
    with pytest.raises(InputError, match="one of 56 × 85 pixels has edges that are no multiples of 28"):
        ours.pixels(noise(56, 85))


@pytest.mark.parametrize(("processor", "config"), [(Qwen2VLProcessor, QWEN2), (Qwen3VLProcessor, QWEN3)])
def test_text_is_the_processors(processor: type, config: dict[str, Any]) -> None:
    patch = config["vision_config"]["patch_size"]
    ours = Qwen2VLImages.read({"image_token": "<i>"}, config)
    theirs = SimpleNamespace(image_token="<i>", image_processor=SimpleNamespace(merge_size=2))
    for rows, columns in ((2, 2), (2, 10), (14, 6)):
        inputs = {"image_grid_thw": np.array([[1, rows, columns]])}
        pixels = Pixels(np.zeros((1, 3, rows * patch, columns * patch), np.float32), (1, 1))
        assert ours.text(pixels) == processor.replace_image_token(theirs, inputs, 0)  # type: ignore[attr-defined]


def test_prompts() -> None:
    images = Qwen2VLImages.read({}, QWEN2)
    assert images.mark == images.image_token == "<|image_pad|>"
    assert images.before(2) == "<|vision_start|><|image_pad|><|vision_end|>" * 2
    named = {"image_token": "<i>", "vision_start_token": "<s>", "vision_end_token": "<e>"}
    assert Qwen2VLImages.read(named, QWEN2).before(1) == "<s><i><e>"


def test_the_first_files_had_another_name_for_the_same() -> None:
    first = SETTINGS_2_5 | {"image_processor_type": "Qwen2_5_VLImageProcessor"}
    assert Qwen2VLImages.read(first, QWEN2_5) == Qwen2VLImages.read(SETTINGS_2_5, QWEN2_5)


def test_the_patch_size_is_the_encoders() -> None:
    assert Qwen2VLImages.read({}, QWEN3).square == 32
    assert Qwen2VLImages.read({}, {"model_type": "qwen3_vl"}).square == 32
    assert Qwen2VLImages.read({}, {"model_type": "qwen2_5_vl"}).square == 28


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": {"shortest_edge": 336}}, "size = .*must have shortest_edge and longest_edge"),
        ({"size": {"height": 336, "width": 336}}, "size = .*must have shortest_edge and longest_edge"),
        ({"size": 336}, "size = 336, but it must be an object"),
        ({"size": {"shortest_edge": 1, "longest_edge": 10**9}}, "size.longest_edge = 1000000000, but"),
        ({"min_pixels": 0}, "min_pixels = 0, but it must be a whole number from 1"),
        ({"max_pixels": 10**400}, "max_pixels = .*, but it must be a whole number"),
        ({"image_processor_type": "CLIPImageProcessor"}, "image_processor_type = .* is not implemented"),
        ({"patch_size": 16}, "patch_size = 16, but it is 14"),
        ({"merge_size": 1}, "merge_size = 1, but it is 2"),
        ({"temporal_patch_size": 1}, "temporal_patch_size = 1, but it is 2"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^preprocessor_config.json: {message}"):
        Qwen2VLImages.read(settings, QWEN2)
