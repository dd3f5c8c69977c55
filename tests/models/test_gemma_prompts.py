"""Gemma 3 and PaliGemma from a directory of the hub to words, against transformers' processors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_gemma3
import test_paligemma
import torch
from PIL import Image
from small_seeing import picture, saved_with_words
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import Gemma3Processor, PaliGemmaProcessor, PreTrainedTokenizerFast
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

import tinystar_np as ts

SQUARE = {"size": {"height": 28, "width": 28}}
SCAN = {
    "do_pan_and_scan": True,
    "pan_and_scan_min_crop_size": 16,
    "pan_and_scan_max_num_crops": 3,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}
OF_GEMMA3 = {
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
}
BEGIN, END, TURN, OVER = "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"
TEMPLATE = """{{ bos_token }}{% for message in messages %}<start_of_turn>\
{{ 'model' if message['role'] == 'assistant' else message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}\
{% for part in message['content'] %}{% if part['type'] == 'image' %}<start_of_image>\
{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}{% endif %}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""
"""In the form of Gemma 3's."""


def small_tokenizer(*special: str) -> Tokenizer:
    """A token for each byte, special ones, and a start token before every text, as Gemma's have it."""
    alphabet = {token: n for n, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = [AddedToken(token, special=True, normalized=False) for token in (BEGIN, END, *special)]
    tokenizer.add_special_tokens(tokens)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return tokenizer


def saved(config: Any, tokenizer: Tokenizer, settings: dict[str, Any], directory: Path) -> Any:
    """Save a small random model with all its files; returns transformers' model."""
    reference = saved_with_words(config, tokenizer, END, directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(settings))
    return reference


def gemma3(directory: Path, **images: Any) -> tuple[Any, Any]:
    """A small Gemma 3 in a directory; returns transformers' model and processor."""
    tokenizer = small_tokenizer(*OF_GEMMA3.values(), TURN, OVER)
    config = test_gemma3.small_config(image_token_index=tokenizer.token_to_id("<image_soft_token>"))
    settings = {"image_processor_type": "Gemma3ImageProcessor", "image_seq_length": 4, **SQUARE, **images}
    reference = saved(config, tokenizer, settings, directory)
    names = {**OF_GEMMA3, "bos_token": BEGIN, "eos_token": END}
    (directory / "tokenizer_config.json").write_text(json.dumps({**names, "chat_template": TEMPLATE}))
    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, extra_special_tokens=OF_GEMMA3
    )
    processor = Gemma3Processor(
        Gemma3ImageProcessorPil(**SQUARE, **images), words, chat_template=TEMPLATE, image_seq_length=4
    )
    return reference, processor


def paligemma(directory: Path, kind: str) -> tuple[Any, Any]:
    """A small PaliGemma in a directory; returns transformers' model and processor."""
    tokenizer = small_tokenizer("<image>")
    config = test_paligemma.small_config(kind, image_token_index=tokenizer.token_to_id("<image>"))
    settings = {"image_processor_type": "SiglipImageProcessor", "image_seq_length": 16, **SQUARE}
    reference = saved(config, tokenizer, settings, directory)
    names = {"bos_token": BEGIN, "eos_token": END}
    (directory / "tokenizer_config.json").write_text(json.dumps(names))
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    images = SiglipImageProcessorPil(**SQUARE)
    images.image_seq_length = 16
    return reference, PaliGemmaProcessor(images, words)


def check_prompt(
    ours: tuple[Any, Any], theirs: tuple[Any, Any], text: str, images: list[np.ndarray], **how: Any
) -> None:
    """Ids, pixels and greedy text of a prompt."""
    (model, processor), (reference, their_processor) = ours, theirs
    pictures = [[Image.fromarray(image) for image in images]] if images else None
    given = their_processor(text=text, images=pictures, return_tensors="pt", **how)
    given.pop("labels", None)
    prompt = processor.prompt(text, images)
    assert prompt.ids == given["input_ids"][0].tolist()
    if images:
        tiles = np.concatenate([image.pixels.tiles for image in prompt.images])
        np.testing.assert_array_equal(tiles, given["pixel_values"].numpy())
    with torch.no_grad():
        new = reference.generate(**given, max_new_tokens=12, do_sample=False, pad_token_id=0)
    expected = their_processor.tokenizer.decode(new[0, len(prompt.ids) :], skip_special_tokens=True)
    found = ts.generate(model, processor, text, images=images, max_new_tokens=12, temperature=0.0)
    assert found == expected


WIDE, SMALL, TALL = picture(30, 90), picture(28, 28, seed=1), picture(120, 40, seed=2)


@pytest.mark.parametrize("images", [{}, SCAN], ids=["whole", "pan and scan"])
def test_prompts_of_gemma3(images: dict[str, Any], tmp_path: Path) -> None:
    theirs = gemma3(tmp_path, **images)
    ours = ts.load(tmp_path, dtype="float32")
    mark = "<start_of_image>"
    for text, pictures in (
        (f"Look: {mark} What is it?", [WIDE]),
        (f"{mark}{mark}Which is larger?", [TALL, SMALL]),
        (f"First {mark}, then {mark}.", [SMALL, WIDE]),
        ("No picture at all.", []),
    ):
        check_prompt(ours, theirs, text, pictures, **images)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of transformers itself
@pytest.mark.parametrize("kind", test_paligemma.TEXTS)
def test_prompts_of_paligemma(kind: str, tmp_path: Path) -> None:
    """Where the text has no mark, the images stand before it; the start token stands between them."""
    theirs = paligemma(tmp_path, kind)
    ours = ts.load(tmp_path, dtype="float32")
    for text, pictures in (
        ("caption en", [WIDE]),
        ("<image>answer en What is it?", [TALL]),
        ("<image><image>Which is larger?", [TALL, SMALL]),
        ("Is <image> in <image> here?", [SMALL, WIDE]),
    ):
        check_prompt(ours, theirs, text, pictures)


def test_a_conversation_by_the_template_of_gemma3(tmp_path: Path) -> None:
    """Images in its first turn and in a later one; every turn continues what the cache holds."""
    reference, theirs = gemma3(tmp_path)
    model, processor = ts.load(tmp_path, dtype="float32")
    talk = ts.Conversation(model, processor)
    messages: list[dict[str, Any]] = []
    shown: list[np.ndarray] = []
    for text, pictures in (("What is it?", [WIDE]), ("Sure?", []), ("And these?", [SMALL, TALL])):
        answer = "".join(
            piece.text for piece in talk.say(text, images=pictures, max_new_tokens=9, temperature=0.0)
        )
        parts = [{"type": "image"} for _ in pictures]
        messages.append({"role": "user", "content": [*parts, {"type": "text", "text": text}]})
        shown += pictures
        written = theirs.apply_chat_template(messages, add_generation_prompt=True)
        given = theirs(
            text=written,
            images=[[Image.fromarray(image) for image in shown]],
            return_tensors="pt",
            add_special_tokens=False,
        )
        with torch.no_grad():
            new = reference.generate(**given, max_new_tokens=9, do_sample=False, pad_token_id=0)
        ids = given["input_ids"][0].tolist()
        assert answer == theirs.tokenizer.decode(new[0, len(ids) :], skip_special_tokens=True)
        assert talk.tokens_read < len(ids) or len(messages) == 1
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
