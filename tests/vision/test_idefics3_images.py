"""Idefics 3's and SmolVLM's images and their text, against transformers' processors of PIL and NumPy."""

from typing import Any

import numpy as np
import pytest
from awkward_images import awkward_images, photo
from numpy.testing import assert_array_equal
from PIL import Image
from processors import bare
from transformers import (
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    SmolVLMImageProcessorPil,
    SmolVLMProcessor,
)

from tinystar_np.errors import ConfigError, InputError
from tinystar_np.vision.idefics3 import Idefics3Images

IMAGES = awkward_images()
SMALL = {"size": {"longest_edge": 100}, "max_image_size": {"longest_edge": 32}}

SETTINGS: dict[str, dict[str, Any]] = {
    "its defaults": {},
    "SmolVLM-256M's": {
        "do_convert_rgb": True,
        "do_image_splitting": True,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SmolVLMImageProcessorFast",
        "image_std": [0.5, 0.5, 0.5],
        "max_image_size": {"longest_edge": 512},
        "processor_class": "SmolVLMProcessor",
        "resample": 1,
        "rescale_factor": 0.00392156862745098,
        "size": {"longest_edge": 2048},
    },
    "small tiles": SMALL,
    "an even number of tiles": SMALL | {"size": {"longest_edge": 96}},
    "smaller than a tile": SMALL | {"size": {"longest_edge": 20}},
    "a tile": SMALL | {"size": {"longest_edge": 32}},
    "a pixel more than a tile": SMALL | {"size": {"longest_edge": 33}},
    "a rectangle": SMALL | {"size": {"height": 70, "width": 40}},
    "a number": SMALL | {"size": 70},
    "both edges": SMALL | {"size": {"longest_edge": 70, "shortest_edge": 10}},
    "not split": SMALL | {"do_image_splitting": False},
    "split by null": SMALL | {"do_image_splitting": None},
    "no resizing": {"do_resize": False, "max_image_size": {"longest_edge": 200}},
    "not resized and not split": SMALL | {"do_resize": False, "do_image_splitting": False},
    "not padded": SMALL | {"do_pad": False},
    "bicubic": SMALL | {"resample": 3},
    "no scaling": SMALL | {"do_rescale": False},
    "no normalisation": SMALL | {"do_normalize": False},
    "other means": SMALL | {"image_mean": [0.1, 0.2, 0.3], "image_std": [1.5, 0.5, 0.25]},
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_pixels_and_text_are_transformers(kind: str) -> None:
    settings = SETTINGS[kind]
    ours = Idefics3Images.read(settings, {})
    processor = SmolVLMImageProcessorPil if kind.startswith("SmolVLM") else Idefics3ImageProcessorPil
    for name, image in IMAGES.items():
        if kind == "SmolVLM-256M's" and max(image.shape) > 320:
            continue
        found = ours.pixels(image)
        expected = processor(**settings)(
            Image.fromarray(image), return_tensors="np", return_row_col_info=True
        )
        assert found.tiles.dtype == np.float32
        assert_array_equal(found.tiles, expected["pixel_values"][0], err_msg=name)
        assert found.grid == (expected["rows"][0][0], expected["cols"][0][0])
        assert found.size == image.shape[:2]
        assert ours.text(found) == idefics3(169).replace_image_token(expected, 0)


def test_no_image_becomes_larger_than_4096() -> None:
    settings = {"size": {"longest_edge": 5000}, "max_image_size": {"longest_edge": 512}}
    for image in (photo(5, 61), photo(61, 5)):
        found = Idefics3Images.read(settings, {}).pixels(image)
        expected = Idefics3ImageProcessorPil(**settings)(Image.fromarray(image), return_tensors="np")
        assert_array_equal(found.tiles, expected["pixel_values"][0])


def idefics3(vectors: int) -> Idefics3Processor:
    """transformers' processor, without a tokenizer."""
    return bare(
        Idefics3Processor,
        fake_image_token="<fake_token_around_image>",
        image_token="<image>",
        global_image_tag="<global-img>",
        image_seq_len=vectors,
    )


@pytest.mark.parametrize("size", [(30, 30), (30, 100), (100, 30), (100, 90)])
def test_smolvlms_text_has_the_tokenizers_names(size: tuple[int, int]) -> None:
    names = {"image_token": "<i>", "fake_image_token": "<f>", "global_image_token": "<g>"}
    theirs = bare(SmolVLMProcessor, image_seq_len=7, **names)
    ours = Idefics3Images.read({**SMALL, **names, "image_seq_len": 7, "do_resize": False}, {})
    found = ours.pixels(photo(*size))
    rows, columns = found.grid
    assert ours.text(found) == theirs.replace_image_token({"rows": [[rows]], "cols": [[columns]]}, 0)
    assert (ours.mark, ours.before(2)) == ("<i>", "<i><i>")


@pytest.mark.parametrize(
    ("tile", "config", "vectors"),
    [
        (364, {}, 169),
        (512, {"vision_config": {"patch_size": 16, "image_size": 512}, "scale_factor": 4}, 64),
        (384, {"vision_config": {"patch_size": 14, "image_size": 384}, "scale_factor": 3}, 81),
        (384, {"vision_config": {}}, 36),  # 32 and 2 are the defaults where the config has an encoder
    ],
)
def test_how_many_vectors_a_tile_becomes(tile: int, config: dict[str, Any], vectors: int) -> None:
    size = {"max_image_size": {"longest_edge": tile}}
    assert Idefics3Images.read(size, config).vectors == vectors
    assert Idefics3Images.read({**size, "image_seq_len": vectors}, config).vectors == vectors
    if config:
        with pytest.raises(ConfigError, match=f"image_seq_len = 7, but it is {vectors}"):
            Idefics3Images.read({**size, "image_seq_len": 7}, config)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": {"shortest_edge": 300}}, r"size = .* must have longest_edge, or height and width"),
        ({"max_image_size": {"height": 30, "width": 30}}, r"max_image_size = .* must have longest_edge"),
        ({"max_image_size": {"longest_edge": 0}}, r"max_image_size = "),
        ({"do_image_splitting": "no"}, r"do_image_splitting = 'no'"),
        ({"image_processor_type": "Idefics2ImageProcessor"}, r"image_processor_type = 'Idefics2Im"),
        ({"image_seq_len": -3}, r"image_seq_len = -3"),
        ({"global_image_token": ""}, r"global_image_token = ''"),
    ],
)
def test_settings_that_nobody_can_follow_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"^preprocessor_config.json: {words}"):
        Idefics3Images.read(settings, {})


def test_tiles_that_the_pixel_shuffle_cannot_read_are_refused() -> None:
    config = {"vision_config": {"patch_size": 16}, "scale_factor": 4}
    words = (
        r"max_image_size is not given, but it makes 22 patches a side, which scale_factor = 4 does not divide"
    )
    with pytest.raises(ConfigError, match=words):
        Idefics3Images.read({}, config)


def test_tiles_and_tokens_without_end_are_refused() -> None:
    tiny = Idefics3Images.read({"max_image_size": {"longest_edge": 1}}, {})
    with pytest.raises(InputError, match=r"one of 728 × 1456 pixels would become 728 × 1456 tiles"):
        tiny.pixels(photo(20, 40))
    config = {"vision_config": {"patch_size": 1}, "scale_factor": 1}
    many = Idefics3Images.read({"size": {"longest_edge": 364}}, config)
    with pytest.raises(InputError, match=r"one would become 132496 tokens"):
        many.text(many.pixels(photo(20, 40)))
