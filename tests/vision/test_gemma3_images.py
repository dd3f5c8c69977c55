"""Gemma 3's images and their text, against transformers' processors of PIL and NumPy."""

from typing import Any

import numpy as np
import pytest
from awkward_images import awkward_images, photo
from numpy.testing import assert_array_equal
from PIL import Image
from processors import bare
from transformers import Gemma3ImageProcessorPil, Gemma3Processor

from tinystar_np.errors import ConfigError
from tinystar_np.vision.gemma3 import Gemma3Images

IMAGES = awkward_images()
SCAN = {
    "do_pan_and_scan": True,
    "pan_and_scan_min_crop_size": 256,
    "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}

SETTINGS: dict[str, dict[str, Any]] = {
    "its defaults": {},
    # A number alone is a square here, and what it does not do elsewhere either.
    "a number": {"size": 40, "do_center_crop": True, "crop_size": 10, "do_pad": True, "pad_size": 300},
    "as published": {
        "size": {"height": 896, "width": 896},
        "do_convert_rgb": None,
        "do_pan_and_scan": None,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "image_seq_length": 256,
        "pan_and_scan_max_num_crops": None,
        "pan_and_scan_min_crop_size": None,
        "pan_and_scan_min_ratio_to_activate": None,
        "resample": 2,
        "rescale_factor": 0.00392156862745098,
        "processor_class": "Gemma3Processor",
    },
    "pan and scan": SCAN,
    "small parts": SCAN | {"pan_and_scan_min_crop_size": 17},
    "many parts": SCAN | {"pan_and_scan_max_num_crops": 9, "pan_and_scan_min_crop_size": 100},
    "one part": SCAN | {"pan_and_scan_max_num_crops": 1, "pan_and_scan_min_crop_size": 100},
    "squares as well": SCAN | {"pan_and_scan_min_ratio_to_activate": 1.0, "pan_and_scan_min_crop_size": 100},
    "parts of no other size": SCAN | {"do_resize": False},
    "no scaling": {"do_rescale": False, "do_normalize": False},
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_pixels_and_text_are_transformers(kind: str) -> None:
    settings = SETTINGS[kind]
    ours = Gemma3Images.read(settings, {})
    theirs = bare(Gemma3Processor, full_image_sequence=ours.text(ours.pixels(photo(9, 9))))
    for name, image in IMAGES.items():
        if kind == "parts of no other size" and max(image.shape) >= 300:
            continue  # parts of other sizes than the whole make no array
        if kind == "as published" and max(image.shape) > 500:
            continue
        found = ours.pixels(image)
        expected = Gemma3ImageProcessorPil(**settings)(Image.fromarray(image), return_tensors="np")
        assert found.tiles.dtype == np.float32
        assert_array_equal(found.tiles, expected["pixel_values"], err_msg=name)
        assert max(found.grid) == expected["num_crops"][0]
        assert found.size == image.shape[:2]
        assert ours.text(found) == theirs.replace_image_token(expected, 0)


def test_one_images_text_has_the_tokenizers_names() -> None:
    names = {"boi_token": "<begin>", "eoi_token": "<end>", "image_token": "<soft>"}
    ours = Gemma3Images.read({**names, "image_seq_length": 5}, {"mm_tokens_per_image": 5})
    assert ours.text(ours.pixels(photo(9, 9))) == "\n\n<begin><soft><soft><soft><soft><soft><end>\n\n"
    assert (ours.mark, ours.before(2)) == ("<begin>", "<begin><begin>")


def test_a_picture_that_is_cut_has_words_between() -> None:
    ours = Gemma3Images.read({**SCAN, "image_seq_length": 1}, {"mm_tokens_per_image": 1})
    one = "\n\n<start_of_image><image_soft_token><end_of_image>\n\n"
    found = ours.pixels(photo(300, 700))
    assert found.grid == (1, 2)
    assert ours.pixels(photo(700, 300)).grid == (2, 1)
    assert ours.text(found) == (
        f"Here is the original image {one} and here are some crops to help you see better {one} {one}"
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_seq_length": 100}, r"image_seq_length = 100, but it is 256"),
        ({"do_pan_and_scan": 1}, r"do_pan_and_scan = 1"),
        ({"pan_and_scan_max_num_crops": 0}, r"pan_and_scan_max_num_crops = 0"),
        ({"pan_and_scan_max_num_crops": 10**9}, r"pan_and_scan_max_num_crops = 1000000000"),
        ({"pan_and_scan_min_crop_size": 2.5}, r"pan_and_scan_min_crop_size = 2.5"),
        ({"pan_and_scan_min_ratio_to_activate": -1}, r"pan_and_scan_min_ratio_to_activate = -1"),
        ({"size": {"shortest_edge": 10, "longest_edge": 5}, "image_processor_type": "Other"}, r"image_proc"),
        ({"boi_token": 5}, r"boi_token = 5"),
    ],
)
def test_settings_that_nobody_can_follow_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"^preprocessor_config.json: {words}"):
        Gemma3Images.read(settings, {})
