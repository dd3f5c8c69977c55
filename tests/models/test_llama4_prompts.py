"""Llama 4 from a directory of the hub to words, against transformers' texts, template and generate.

Its image processor needs torchvision; tests/vision/test_llama4_images.py holds the pixels against it.
"""

import json
from typing import Any

import numpy as np
import pytest
import test_llama4
import torch
from small_seeing import byte_tokenizer, picture, saved_with_words
from transformers import PreTrainedTokenizerFast
from transformers.models.llama4.processing_llama4 import Llama4Processor, chat_template

import tinystar_np as ts
from tinystar_np.models.vision.pixels import Pixels

IMAGE = "<|image|>"
SPECIAL = (
    *("<|begin_of_text|>", "<|eot|>", "<|header_start|>", "<|header_end|>", IMAGE, "<|patch|>"),
    *("<|image_start|>", "<|image_end|>", "<|tile_x_separator|>", "<|tile_y_separator|>"),
)
OF_TEXTS = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>"}
PROMPTS = {
    "one tile": ("<|begin_of_text|><|image|>What is it?", [picture(20, 28)]),
    "tiles": ("<|image|>What is it?", [picture(50, 80)]),
    "two": ("First <|image|>, then <|image|>.", [picture(90, 20), picture(28, 28, seed=1)]),
    "none": ("No picture at all.", []),
}


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any, Any]:
    """Our model and processor, and transformers' model and tokenizer."""
    directory = tmp_path_factory.mktemp("llama4")
    tokenizer = byte_tokenizer(SPECIAL)
    config = test_llama4.small_config()
    config.image_token_index = tokenizer.token_to_id("<|patch|>")
    reference = saved_with_words(config, tokenizer, "<|eot|>", directory)
    (directory / "tokenizer_config.json").write_text(json.dumps(OF_TEXTS))
    images = {"size": {"height": 28, "width": 28}, "max_patches": 6}
    settings = {"image_processor_type": "Llama4ImageProcessorFast", **images}
    (directory / "preprocessor_config.json").write_text(json.dumps(settings))
    told = {"patch_size": 7, "pixel_shuffle_ratio": 0.5}
    (directory / "processor_config.json").write_text(json.dumps(told))
    (directory / "chat_template.json").write_text(json.dumps({"chat_template": chat_template}))
    return (
        *ts.load(directory, dtype="float32"),
        reference,
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **OF_TEXTS),
    )


def their_prompt(tokenizer: Any, text: str, images: list[Pixels]) -> dict[str, torch.Tensor]:
    """What transformers' processor makes of a text and of images whose pixels there are."""
    theirs = object.__new__(Llama4Processor)
    theirs.patch_size, theirs.downsample_ratio = 7, 4
    first, *parts = text.split(IMAGE)
    for image, part in zip(images, parts, strict=True):
        rows, columns = image.grid
        inputs = {"pixel_values": image.tiles, "aspect_ratios": [(max(rows, 1), max(columns, 1))]}
        first += theirs.replace_image_token(inputs, 0) + part
    given = {"input_ids": torch.tensor([tokenizer(first, add_special_tokens=False)["input_ids"]])}
    given["attention_mask"] = torch.ones_like(given["input_ids"])
    tiles = [image.tiles for image in images]
    return {**given, "pixel_values": torch.tensor(np.concatenate(tiles))} if tiles else given


def answer(reference: Any, tokenizer: Any, given: dict[str, torch.Tensor], tokens: int) -> str:
    """The new text, by transformers."""
    with torch.no_grad():
        found = reference.generate(**given, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    text: str = tokenizer.decode(found[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
    return text


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_as_by_transformers(name: str, seeing: tuple[Any, Any, Any, Any]) -> None:
    model, processor, reference, tokenizer = seeing
    text, images = PROMPTS[name]
    prompt = processor.prompt(text, images)
    given = their_prompt(tokenizer, text, [image.pixels for image in prompt.images])
    assert prompt.ids == given["input_ids"][0].tolist()
    found = ts.generate(model, processor, text, images=images, max_new_tokens=12, temperature=0.0)
    assert found == answer(reference, tokenizer, given, 12)


def test_a_conversation_by_the_published_template(seeing: tuple[Any, Any, Any, Any]) -> None:
    model, processor, reference, tokenizer = seeing
    image, question = picture(50, 80), "What is it?"
    parts = [{"type": "image"}, {"type": "text", "text": question}]
    written = tokenizer.apply_chat_template(
        [{"role": "user", "content": parts}],
        chat_template=chat_template,
        tokenize=False,
        add_generation_prompt=True,
    )
    given = their_prompt(tokenizer, written, [processor.pixels(image)])
    pieces = ts.Conversation(model, processor).say(question, images=[image], max_new_tokens=9, temperature=0)
    assert "".join(piece.text for piece in pieces) == answer(reference, tokenizer, given, 9)
