"""SigLIP's and PaliGemma's images and their text, against transformers' processors of PIL and NumPy."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from awkward_images import awkward_images, photo
from numpy.testing import assert_array_equal
from processors import bare, expected_tiles
from transformers import PaliGemmaProcessor, SiglipImageProcessorPil

from tinystar_np.errors import ConfigError
from tinystar_np.vision.paligemma import PaliGemmaImages
from tinystar_np.vision.siglip import SiglipImages

IMAGES = awkward_images()

SETTINGS: dict[str, dict[str, Any]] = {
    "its defaults": {},
    "384": {"size": {"height": 384, "width": 384}},
    "not square": {"size": {"height": 30, "width": 70}},
    "a number is the shorter edge": {"size": 40},
    "a number for a square": {"size": 40, "default_to_square": True},
    "cropped": {"do_center_crop": True, "crop_size": 200},
    "Lanczos": {"resample": 1},
    "no resizing": {"do_resize": False},
    "no scaling": {"do_rescale": False, "do_normalize": False},
    "other means": {"image_mean": [0.1, 0.2, 0.3], "image_std": 0.25},
    "padded": {"do_pad": True, "pad_size": 230},
}


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("ours", [SiglipImages, PaliGemmaImages])
def test_pixels_are_transformers(kind: str, ours: type[SiglipImages] | type[PaliGemmaImages]) -> None:
    settings = SETTINGS[kind]
    # A short edge of 40 pixels makes 53 333 × 40 of the thinnest image.
    prepared = ours.read(settings | {"image_processor_type": "SiglipImageProcessor"}, {})
    for name, image in IMAGES.items():
        if kind == "padded" and max(image.shape) > 2000:
            continue
        found = prepared.pixels(image)
        assert found.tiles.dtype == np.float32
        assert_array_equal(
            found.tiles, expected_tiles(SiglipImageProcessorPil, settings, image), err_msg=name
        )
        assert (found.size, found.grid) == (image.shape[:2], (0, 0))


def paligemma(vectors: int) -> PaliGemmaProcessor:
    """transformers' processor, without a tokenizer's files."""
    tokenizer = SimpleNamespace(bos_token="<s>", image_token="<image>")
    return bare(PaliGemmaProcessor, image_token="<image>", image_seq_length=vectors, tokenizer=tokenizer)


CONFIG = {"vision_config": {"image_size": 448, "patch_size": 14}}


def test_paligemmas_text_is_transformers() -> None:
    ours = PaliGemmaImages.read({"image_seq_length": 1024, "bos_token": "<s>"}, CONFIG)
    assert ours.text(ours.pixels(photo(9, 9))) == paligemma(1024).replace_image_token({}, 0)


@pytest.mark.parametrize("prompt", ["caption en", "", "what is this?\n"])
@pytest.mark.parametrize("count", [1, 3])
def test_paligemmas_prompt_is_transformers(prompt: str, count: int) -> None:
    ours = PaliGemmaImages.read({"bos_token": {"content": "<s>", "special": True}}, {})
    images = [photo(5, 5)] * count
    _, named, *_ = paligemma(256).prepare_inputs_layout([images], ["<image>" * count + prompt])
    _, unnamed, *_ = paligemma(256).prepare_inputs_layout([images], [prompt])
    found = ours.complete(ours.before(count) + prompt)
    assert found == named[0] == unnamed[0]


def test_a_mark_within_a_prompt() -> None:
    ours = PaliGemmaImages.read({"bos_token": "<s>"}, {})
    prompt = "left <image> right <image> which?"
    _, expected, *_ = paligemma(256).prepare_inputs_layout([[photo(5, 5)] * 2], [prompt])
    assert ours.complete(prompt) == expected[0]
    assert ours.complete("no image") == "<s>no image\n"


@pytest.mark.parametrize(
    ("config", "vectors"),
    [
        ({}, 256),
        (CONFIG, 1024),
        ({"vision_config": {"image_size": 224}}, 196),  # 16 is the default where the config has an encoder
        ({"vision_config": {"patch_size": 14}}, 256),
    ],
)
def test_how_many_vectors_an_image_becomes(config: dict[str, Any], vectors: int) -> None:
    assert PaliGemmaImages.read({}, config).vectors == vectors
    with pytest.raises(ConfigError, match=f"image_seq_length = 7, but it is {vectors}"):
        PaliGemmaImages.read({"image_seq_length": 7}, config)


@pytest.mark.parametrize("ours", [SiglipImages, PaliGemmaImages])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"do_center_crop": True}, r"crop_size is not given, but it must have height and width"),
        ({"size": {"longest_edge": 224}}, r"size = .*must have height and width, or shortest_edge"),
        (
            {"image_processor_type": "Siglip2ImageProcessor"},
            r"image_processor_type = 'Siglip2ImageProcessor'",
        ),
    ],
)
def test_settings_that_nobody_can_follow_are_refused(
    ours: type[SiglipImages] | type[PaliGemmaImages], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=f"^preprocessor_config.json: {words}"):
        ours.read(settings, {})
