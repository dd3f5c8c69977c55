"""Prompts with images, from a directory's files to ids and pixels, against each family's processor."""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from awkward_images import noise, photo
from numpy.testing import assert_array_equal
from PIL import Image
from test_qwen2_vl_images import put_together
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.pixtral import image_processing_pil_pixtral
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor

from tinystar_np.errors import InputError
from tinystar_np.text import load_tokenizer
from tinystar_np.vision.processor import Processor, read_processor

SPECIAL = [
    *("<image>", "[IMG]", "[IMG_BREAK]", "[IMG_END]"),
    *("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image|>", "<|patch|>", "<|image_start|>", "<|image_end|>"),
    *("<|tile_x_separator|>", "<|tile_y_separator|>"),
]
IMAGES = [photo(40, 300), noise(90, 31), photo(1, 2)]

LLAVA_NEXT = {"size": 56, "crop_size": 56, "image_grid_pinpoints": [[56, 112], [112, 56], [168, 224]]}
PIXTRAL = {"size": {"longest_edge": 150}, "patch_size": {"height": 14, "width": 14}}
QWEN = {"size": {"shortest_edge": 28 * 28, "longest_edge": 20_000}}
LLAMA4 = {"size": {"height": 56, "width": 56}, "max_patches": 5}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A token for each byte, and those that stand for images in the families."""
    alphabet = {token: n for n, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(alphabet, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return made


@pytest.fixture
def ours(tmp_path: Path, tokenizer: Tokenizer) -> Callable[..., Processor]:
    """Make our processor of the files of a directory."""

    def made(config: dict[str, Any], image_processor: dict[str, Any], processor: dict[str, Any]) -> Processor:
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(image_processor))
        (tmp_path / "processor_config.json").write_text(json.dumps(processor))
        loaded = load_tokenizer(tmp_path)
        assert loaded is not None
        return read_processor(loaded, tmp_path, config)

    return made


def marked(mark: str) -> str:
    return f"First {mark}, then\n{mark}{mark}?"


def given(processor: Any, text: str) -> dict[str, Any]:
    """What transformers makes of a text with the three images."""
    found = processor(text=[text], images=[Image.fromarray(image) for image in IMAGES], return_tensors="pt")
    return {name: array.float().numpy() for name, array in found.items()}


def test_llava_next(ours: Callable[..., Processor], tokenizer: Tokenizer) -> None:
    settings = {
        "patch_size": 14,
        "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": "default",
    }
    theirs = LlavaNextProcessor(
        LlavaNextImageProcessorPil(**LLAVA_NEXT),
        PreTrainedTokenizerFast(tokenizer_object=tokenizer),
        **settings,
    )
    vision = {"model_type": "clip_vision_model", "patch_size": 14}
    processor = ours({"model_type": "llava_next", "vision_config": vision}, LLAVA_NEXT, settings)
    expected = given(theirs, marked("<image>"))
    prompt = processor.prompt(marked("<image>"), IMAGES)
    assert_array_equal(prompt.ids, expected["input_ids"][0])
    for image, tiles in zip(prompt.images, expected["pixel_values"], strict=True):
        assert_array_equal(image.pixels.tiles, tiles[: len(image.pixels.tiles)])
        assert not tiles[len(image.pixels.tiles) :].any()
    without = processor.prompt("Which?", IMAGES)
    assert without.ids == processor.prompt("<image>\n<image>\n<image>\nWhich?", IMAGES).ids


@pytest.mark.parametrize("merged", [1, 2])
def test_pixtral(
    merged: int, ours: Callable[..., Processor], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The module of its processor needs torchvision only for a size, which is computed without it as well.
    name = "transformers.models.pixtral.image_processing_pixtral"
    monkeypatch.setitem(sys.modules, name, image_processing_pil_pixtral)
    settings = {"patch_size": 14, "spatial_merge_size": merged}
    theirs = import_module("transformers.models.pixtral.processing_pixtral").PixtralProcessor(
        image_processing_pil_pixtral.PixtralImageProcessorPil(**PIXTRAL),
        PreTrainedTokenizerFast(tokenizer_object=tokenizer),
        **settings,
    )
    config: dict[str, Any] = {
        "model_type": "llava",
        "vision_config": {"model_type": "pixtral", "patch_size": 14},
    }
    if merged > 1:
        config |= {"model_type": "mistral3", "spatial_merge_size": merged}
    processor = ours(config, PIXTRAL | {"image_processor_type": "PixtralImageProcessorFast"}, settings)
    expected = given(theirs, marked("[IMG]"))
    prompt = processor.prompt(marked("[IMG]"), IMAGES)
    assert_array_equal(prompt.ids, expected["input_ids"][0])
    for image, tile, size in zip(
        prompt.images, expected["pixel_values"], expected["image_sizes"], strict=True
    ):
        height, width = size.astype(int)
        assert_array_equal(image.pixels.tiles, tile[None, :, :height, :width])
    assert processor.prompt("?", IMAGES).ids == processor.prompt("[IMG][IMG][IMG]?", IMAGES).ids


class OfPictures(Qwen2VLProcessor):  # type: ignore[misc]  # transformers has no types
    """The processor without that of films, which needs torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: object) -> None: ...


@pytest.mark.parametrize("named", [{}, {"image_processor_type": "Qwen2_5_VLImageProcessor"}])
def test_qwen2_vl(named: dict[str, str], ours: Callable[..., Processor], tokenizer: Tokenizer) -> None:
    theirs = OfPictures(Qwen2VLImageProcessorPil(**QWEN), PreTrainedTokenizerFast(tokenizer_object=tokenizer))
    config = {"model_type": "qwen2_vl", "vision_config": {"patch_size": 14}}
    processor = ours(config, QWEN | named, {})
    text = marked("<|vision_start|><|image_pad|><|vision_end|>")
    expected = given(theirs, text)
    prompt = processor.prompt(text, IMAGES)
    assert_array_equal(prompt.ids, expected["input_ids"][0])
    grids = expected["image_grid_thw"].astype(int)
    ends = np.cumsum([grid.prod() for grid in grids])
    for image, patches, grid in zip(
        prompt.images, np.split(expected["pixel_values"], ends), grids, strict=False
    ):
        assert_array_equal(image.pixels.tiles, put_together(patches, grid, 14, 2))
    each = "<|vision_start|><|image_pad|><|vision_end|>"
    assert processor.prompt("?", IMAGES).ids == processor.prompt(3 * each + "?", IMAGES).ids


def test_llama4(ours: Callable[..., Processor], tokenizer: Tokenizer) -> None:
    vision = {"patch_size": 14, "image_size": 56, "pixel_shuffle_ratio": 0.5}
    settings = {"patch_size": 14, "pixel_shuffle_ratio": 0.5}
    processor = ours({"model_type": "llama4", "vision_config": vision}, LLAMA4, settings)
    prompt = processor.prompt(marked("<|image|>"), IMAGES)
    assert [image.pixels.grid for image in prompt.images] == [(1, 5), (2, 1), (0, 0)]
    assert [len(image.places) for image in prompt.images] == [4 * 6, 4 * 3, 4]
    assert processor.prompt("?", IMAGES).ids == processor.prompt("<|image|>" * 3 + "?", IMAGES).ids
    with pytest.raises(InputError, match="places for 2 images"):
        processor.prompt("<|image|><|image|>", IMAGES)

    reason = "torchvision is not installed: transformers has no other image processor for Llama 4"
    pytest.importorskip("torchvision", reason=reason, exc_type=ImportError)
    from transformers.models.llama4.image_processing_llama4 import Llama4ImageProcessor
    from transformers.models.llama4.processing_llama4 import Llama4Processor

    theirs = Llama4Processor(
        Llama4ImageProcessor(**LLAMA4), PreTrainedTokenizerFast(tokenizer_object=tokenizer), **settings
    )
    # Its images of other numbers of tiles are no batch: one after the other.
    ids = []
    for text, image in zip(["First <|image|>", ", then\n<|image|>", "<|image|>?"], IMAGES, strict=True):
        ids += theirs(text=text, images=[image], return_tensors="pt")["input_ids"][0].tolist()
    assert prompt.ids == ids
