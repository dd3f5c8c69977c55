"""Mistral 3 and Pixtral from a directory of the hub to words, against transformers' processor."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_mistral3
import test_pixtral
import torch
from PIL import Image
from small_seeing import byte_tokenizer, picture, saved_with_words
from transformers import PreTrainedTokenizerFast
from transformers.models.pixtral import image_processing_pil_pixtral

import tinystar_np as ts

PATCH = test_mistral3.PATCH
SPECIAL = ("<s>", "</s>", "[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
TEMPLATE = """{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST]\
{% if message['content'] is string %}{{ message['content'] }}{% else %}\
{% for block in message['content'] %}{% if block['type'] == 'text' %}{{ block['text'] }}\
{% else %}[IMG]{% endif %}{% endfor %}{% endif %}[/INST]\
{% else %}{{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"""
"""In the form of Mistral Small 3.1's."""
PROMPTS = {
    "one": ("<s>[INST][IMG]What is it?[/INST]", [picture(40, 60)]),
    "two": ("[IMG][IMG]Which is larger?", [picture(90, 20), picture(28, 28, seed=1)]),
    "apart": ("First [IMG], then [IMG].", [picture(15, 15), picture(3, 100)]),
    "none": ("No picture at all.", []),
}
# What makes the model's config, and how many patches of a side become one vector.
CASES: dict[str, tuple[Any, int]] = {"mistral3": (test_mistral3, 2), "pixtral": (test_pixtral, 1)}


@pytest.fixture(scope="module")
def kind() -> Iterator[type]:
    """The class of transformers' processor."""
    with pytest.MonkeyPatch.context() as patched:
        # Its module needs torchvision for the size of a resized image, which is computed without it as well.
        name = "transformers.models.pixtral.image_processing_pixtral"
        patched.setitem(sys.modules, name, image_processing_pil_pixtral)
        yield import_module("transformers.models.pixtral.processing_pixtral").PixtralProcessor


def small_files(case: str, kind: type, directory: Path) -> tuple[Any, Any]:
    """Save a small random model with all its files; returns transformers' model and processor."""
    module, merged = CASES[case]
    tokenizer = byte_tokenizer(SPECIAL)
    config = module.small_config()
    config.image_token_index = tokenizer.token_to_id("[IMG]")
    reference = saved_with_words(config, tokenizer, "</s>", directory)
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(special))
    images = {"size": {"longest_edge": 84}, "patch_size": {"height": PATCH, "width": PATCH}}
    told = {"patch_size": PATCH, **({"spatial_merge_size": merged} if merged > 1 else {})}
    settings = {"image_processor_type": "PixtralImageProcessor", **images}
    (directory / "preprocessor_config.json").write_text(json.dumps(settings))
    (directory / "processor_config.json").write_text(json.dumps({"image_token": "[IMG]", **told}))
    (directory / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    processor = image_processing_pil_pixtral.PixtralImageProcessorPil(**images)
    return reference, kind(processor, words, chat_template=TEMPLATE, **told)


def answer(reference: Any, theirs: Any, given: dict[str, torch.Tensor], tokens: int) -> str:
    """The new text, by transformers."""
    with torch.no_grad():
        found = reference.generate(**given, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    return theirs.tokenizer.decode(found[0, given["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("case", CASES)
def test_prompts_as_by_transformers(case: str, kind: type, tmp_path: Path) -> None:
    reference, theirs = small_files(case, kind, tmp_path)
    model, processor = ts.load(tmp_path, dtype="float32")
    for text, images in PROMPTS.values():
        pictures = [Image.fromarray(image) for image in images] or None
        given = theirs(text=text, images=pictures, return_tensors="pt", add_special_tokens=False)
        prompt = processor.prompt(text, images)
        assert prompt.ids == given["input_ids"][0].tolist()
        for n, image in enumerate(prompt.images):
            height, width = given["image_sizes"][n].tolist()
            expected = given["pixel_values"][n, :, :height, :width].numpy()
            np.testing.assert_array_equal(image.pixels.tiles, expected[None])
        found = ts.generate(model, processor, text, images=images, max_new_tokens=12, temperature=0.0)
        assert found == answer(reference, theirs, given, 12)


@pytest.mark.parametrize("case", CASES)
def test_a_conversation_by_the_models_template(case: str, kind: type, tmp_path: Path) -> None:
    reference, theirs = small_files(case, kind, tmp_path)
    model, processor = ts.load(tmp_path, dtype="float32")
    image, question = picture(40, 60), "What is it?"
    parts = [{"type": "image"}, {"type": "text", "text": question}]
    written = theirs.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
    images = [Image.fromarray(image)]
    given = theirs(text=written, images=images, return_tensors="pt", add_special_tokens=False)
    pieces = ts.Conversation(model, processor).say(question, images=[image], max_new_tokens=9, temperature=0)
    assert "".join(piece.text for piece in pieces) == answer(reference, theirs, given, 9)
