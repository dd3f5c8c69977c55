"""LLaVA, LLaVA-NeXT and ViP-LLaVA from a directory of the hub to words, against transformers' processors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_llava
import test_llava_next
import test_vipllava
import torch
from PIL import Image
from small_seeing import picture, saved_with_words, small_tokenizer
from transformers import LlavaNextProcessor, LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

import tinystar_np as ts

SQUARE = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
SIGLIP = {"size": {"height": 28, "width": 28}}
TILES = {**SQUARE, "image_grid_pinpoints": test_llava_next.GRIDS}
FULL = {"vision_feature_select_strategy": "full"}
TEMPLATE = """{% for message in messages %}{{ message['role'] | upper }}: \
{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>
{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}\
{% if add_generation_prompt %}ASSISTANT:{% endif %}"""
"""In the form of LLaVA 1.5's."""

# Kind, the model's config, the images' settings, and transformers' two processors.
Case = tuple[str, Any, dict[str, Any], Any, Any]
CASES: dict[str, Case] = {
    "llava": ("llava", test_llava.small_config, {}, CLIPImageProcessorPil, SQUARE),
    "llava, full": ("llava", test_llava.small_config, FULL, CLIPImageProcessorPil, SQUARE),
    "llava, siglip": (
        "llava",
        test_llava.small_config,
        {"tower": test_llava.SIGLIP, "text": "qwen2", **FULL},
        SiglipImageProcessorPil,
        SIGLIP,
    ),
    "llava_next": ("llava_next", test_llava_next.small_config, {}, LlavaNextImageProcessorPil, TILES),
    "vipllava": ("vipllava", test_vipllava.small_config, {}, CLIPImageProcessorPil, SQUARE),
}
PROMPTS = {
    "one": ("USER: <image>\nWhat is it? ASSISTANT:", [picture(40, 60)]),
    "two": ("<image><image>Which is larger?", [picture(90, 20), picture(28, 28, seed=1)]),
    "apart": ("First <image>, then <image>.", [picture(1, 1), picture(3, 100)]),
    "none": ("No picture at all.", []),
}


def small_files(case: str, directory: Path) -> tuple[Any, Any]:
    """Save a small random model with all its files; returns transformers' model and processor."""
    kind, config_of, settings, image_processor, images = CASES[case]
    tokenizer = small_tokenizer()
    config = config_of(**settings, image_token_index=tokenizer.token_to_id("<image>"))
    reference = saved_with_words(config, tokenizer, "<end_of_utterance>", directory)
    name = image_processor.__name__.removesuffix("Pil")
    strategy = settings.get("vision_feature_select_strategy", "default")
    has_class = int("tower" not in settings)
    told = {
        "patch_size": 7,
        "vision_feature_select_strategy": strategy,
        "num_additional_image_tokens": has_class,
    }
    (directory / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": name, **images}))
    (directory / "processor_config.json").write_text(json.dumps({"image_token": "<image>", **told}))
    (directory / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    whole = LlavaNextProcessor if kind == "llava_next" else LlavaProcessor
    return reference, whole(image_processor(**images), words, chat_template=TEMPLATE, **told)


@pytest.mark.parametrize("case", CASES)
def test_prompts_as_by_transformers(case: str, tmp_path: Path) -> None:
    reference, theirs = small_files(case, tmp_path)
    model, processor = ts.load(tmp_path, dtype="float32")
    for text, images in PROMPTS.values():
        pictures = [Image.fromarray(image) for image in images] or None
        given = theirs(text=text, images=pictures, return_tensors="pt")
        prompt = processor.prompt(text, images)
        assert prompt.ids == given["input_ids"][0].tolist()
        for n, image in enumerate(prompt.images):
            tiles = given["pixel_values"][n].numpy()
            tiles = tiles if tiles.ndim == 4 else tiles[None]
            np.testing.assert_array_equal(image.pixels.tiles, tiles[: len(image.pixels.tiles)])
        with torch.no_grad():
            new = reference.generate(**given, max_new_tokens=12, do_sample=False, pad_token_id=0)
        expected = theirs.tokenizer.decode(new[0, len(prompt.ids) :], skip_special_tokens=True)
        found = ts.generate(model, processor, text, images=images, max_new_tokens=12, temperature=0.0)
        assert found == expected


def test_a_conversation_by_the_models_template(tmp_path: Path) -> None:
    reference, theirs = small_files("llava", tmp_path)
    model, processor = ts.load(tmp_path, dtype="float32")
    image, question = picture(40, 60), "What is it?"
    parts = [{"type": "image"}, {"type": "text", "text": question}]
    written = theirs.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    given = theirs(text=written, images=[Image.fromarray(image)], return_tensors="pt")
    with torch.no_grad():
        new = reference.generate(**given, max_new_tokens=9, do_sample=False, pad_token_id=0)
    expected = theirs.tokenizer.decode(new[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
    pieces = ts.Conversation(model, processor).say(question, images=[image], max_new_tokens=9, temperature=0)
    assert "".join(piece.text for piece in pieces) == expected
