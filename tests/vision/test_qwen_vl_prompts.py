"""Qwen's three families from pictures and prompts to words, against transformers' processor and generate."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from look_parity import check_look
from parity import save
from PIL import Image
from processors import bare
from qwen_vl_parity import CONFIGS, small_config
from small_seeing import picture
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from vision_parity import whole_model

import tinystar_np as ts
from tinystar_np.errors import InputError

START, MARK, END = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
SPECIAL = (MARK, "<|video_pad|>", START, END, "<|im_start|>", "<|im_end|>")
IMAGE = START + MARK + END
IMAGES = {"min_pixels": 200, "max_pixels": 2500, "patch_size": 4, "merge_size": 2}
TEMPLATE = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}\
{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""In the form of Qwen's."""
NEW = 8


class Both:
    """Our model and processor, and transformers' of the same directory."""

    def __init__(self, kind: str, directory: Path):
        alphabet = {token: n for n, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
        tokenizer = Tokenizer(models.BPE(alphabet, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in SPECIAL])
        ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
        text = {
            "vocab_size": tokenizer.get_vocab_size(),
            "max_position_embeddings": 2048,
            "eos_token_id": ids["<|im_end|>"],
        }
        tokens = {"image_token_id": ids[MARK], "video_token_id": ids["<|video_pad|>"]}
        tokens |= {"vision_start_token_id": ids[START], "vision_end_token_id": ids[END]}
        self.reference: PreTrainedModel = whole_model(small_config(kind, text=text, **tokens))
        save(self.reference, directory)
        (directory / "generation_config.json").unlink(missing_ok=True)
        tokenizer.save(str(directory / "tokenizer.json"))
        settings = {"image_processor_type": "Qwen2VLImageProcessor", "temporal_patch_size": 2, **IMAGES}
        (directory / "preprocessor_config.json").write_text(json.dumps(settings))
        (directory / "chat_template.jinja").write_text(TEMPLATE)
        self.model, self.processor = ts.load(directory)
        # Its own constructor wants a class for films, which needs torchvision.
        self.theirs = bare(
            Qwen2VLProcessor,
            image_processor=Qwen2VLImageProcessorPil(**IMAGES),
            tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=TEMPLATE),
            video_processor=None,
            feature_extractor=None,
            image_token=MARK,
            video_token="<|video_pad|>",
            image_token_id=ids[MARK],
            video_token_id=ids["<|video_pad|>"],
            audio_token_id=None,
        )

    def answer(self, text: str, images: list[np.ndarray]) -> tuple[dict[str, Any], str]:
        """What transformers makes of a prompt, and what it says to it."""
        pictures = [Image.fromarray(image) for image in images]
        given = self.theirs(text=[text], images=pictures or None, return_tensors="pt")
        with torch.no_grad():
            found = self.reference.generate(**given, max_new_tokens=NEW, do_sample=False, pad_token_id=0)
        new = found[0, given["input_ids"].shape[1] :]
        return given, self.theirs.tokenizer.decode(new, skip_special_tokens=True)


@pytest.fixture(scope="module", params=CONFIGS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(request.param, tmp_path_factory.mktemp("qwen"))


PICTURES = [picture(20, 37), picture(64, 30, seed=1), picture(9, 11, seed=2), picture(90, 120, seed=3)]
PROMPTS = [
    (f"A {IMAGE} or {IMAGE}?", PICTURES[:2]),
    (f"{IMAGE}What is this?", PICTURES[2:3]),
    ("No picture at all", []),
    (f"{IMAGE}{IMAGE}{IMAGE} Which of these is the odd one out, and why?", PICTURES[1:]),
]


def test_prompts(both: Both) -> None:
    for text, images in PROMPTS:
        given, expected = both.answer(text, images)
        prompt = both.processor.prompt(text, images)
        assert prompt.ids == given["input_ids"][0].tolist()
        if images:
            grids = [tuple(n // 2 for n in grid[1:]) for grid in given["image_grid_thw"].tolist()]
            assert [image.pixels.tiles.shape for image in prompt.images] == [
                (1, 3, 8 * rows, 8 * columns) for rows, columns in grids
            ]
            assert len(given["pixel_values"]) == sum(4 * rows * columns for rows, columns in grids)
        found = ts.generate(
            both.model, both.processor, text, images=images, max_new_tokens=NEW, temperature=0.0
        )
        assert found == expected


def test_several_prompts_at_once(both: Both) -> None:
    found = ts.generate(
        both.model,
        both.processor,
        [text for text, _ in PROMPTS],
        images=[images for _, images in PROMPTS],
        max_new_tokens=NEW,
        temperature=0.0,
    )
    assert found == [both.answer(text, images)[1] for text, images in PROMPTS]


def test_a_prompt_without_marks_has_its_images_before_it(both: Both) -> None:
    expected = both.answer(f"{IMAGE}{IMAGE}Hm?", PICTURES[:2])[1]
    settings: dict[str, Any] = {"max_new_tokens": NEW, "temperature": 0.0}
    assert ts.generate(both.model, both.processor, "Hm?", images=PICTURES[:2], **settings) == expected


def test_images_in_any_turn_of_a_conversation(both: Both) -> None:
    """Every image is read once, and what is in the cache goes on after its images' rows and columns."""
    talk = ts.Conversation(both.model, both.processor)
    messages: list[dict[str, Any]] = []
    shown: list[np.ndarray] = []
    for text, images in (
        ("Hello", []),
        ("What is it?", PICTURES[:1]),
        ("And now?", PICTURES[1:3]),
        ("Bye", []),
    ):
        said = "".join(p.text for p in talk.say(text, images=images, max_new_tokens=NEW, temperature=0.0))
        parts = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
        messages.append({"role": "user", "content": parts})
        shown += images
        prompt = both.theirs.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        given, expected = both.answer(prompt, shown)
        assert said == expected
        assert talk.tokens_read < given["input_ids"].shape[1] or len(messages) == 1
        messages.append({"role": "assistant", "content": [{"type": "text", "text": said}]})


def test_more_images_than_places(both: Both) -> None:
    with pytest.raises(
        InputError, match=r"places for 1 image \('<\|image_pad\|>'\), but 2 images were given"
    ):
        ts.generate(both.model, both.processor, IMAGE, images=PICTURES[:2])


def test_looking_at_a_prompt(both: Both) -> None:
    """Positions by row and column, and vectors that are added in several blocks."""
    images = [picture(30, 64), picture(28, 28, seed=1)]
    check_look(both.model, both.processor, PROMPTS[0][0], images, picture(28, 28, seed=5))
