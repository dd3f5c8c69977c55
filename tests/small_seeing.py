"""A small model that sees, with the tokenizer, chat template and image settings of a directory of the hub.

Its tokenizer has a token for each byte, and the special tokens of Idefics3 and SmolVLM.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parity import save
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import Idefics3Config, Idefics3Processor, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from vision_parity import TEXT, VISION, whole_model

SPECIAL = (
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    "<|im_start|>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)
TEMPLATE = """<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}\
{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}\
{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}\
{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}<end_of_utterance>
{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"""
"""In the form of SmolVLM's, which takes lists of parts alone."""
VECTORS = 4  # of a tile: 28 × 28 pixels, patches of 7 × 7, of which 2 × 2 become one vector


@cache
def small_tokenizer() -> Tokenizer:
    """Make the tokenizer."""
    return byte_tokenizer(SPECIAL)


def byte_tokenizer(special: tuple[str, ...]) -> Tokenizer:
    """Make a tokenizer of bytes and special tokens."""
    alphabet = {token: n for n, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def small_seeing_model(directory: Path, **text: Any) -> tuple[PreTrainedModel, Idefics3Processor]:
    """Save a small random Idefics3 with all its files; returns transformers' model and processor."""
    tokenizer = small_tokenizer()
    config = Idefics3Config(
        text_config={
            **TEXT,
            "vocab_size": tokenizer.get_vocab_size(),
            "max_position_embeddings": 1024,
            "model_type": "llama",
            "eos_token_id": tokenizer.token_to_id("<end_of_utterance>"),
            **text,
        },
        vision_config=VISION,
        image_token_id=tokenizer.token_to_id("<image>"),
        scale_factor=2,
        pad_token_id=0,
        eos_token_id=tokenizer.token_to_id("<end_of_utterance>"),
    )
    reference = whole_model(config)
    save(reference, directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    images = {"size": {"longest_edge": 84}, "max_image_size": {"longest_edge": 28}}
    settings = {"image_processor_type": "Idefics3ImageProcessor", "image_seq_len": VECTORS, **images}
    (directory / "preprocessor_config.json").write_text(json.dumps(settings))
    (directory / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    processor = Idefics3Processor(
        Idefics3ImageProcessorPil(**images), theirs, image_seq_len=VECTORS, chat_template=TEMPLATE
    )
    return reference, processor


def saved_with_words(config: Any, tokenizer: Tokenizer, end: str, directory: Path) -> PreTrainedModel:
    """Save a small random model for a tokenizer, with it; returns transformers' model.

    config  of the whole model; the vocabulary and the end token of its text part are the tokenizer's then
    end     the token that ends a text
    """
    config.eos_token_id = tokenizer.token_to_id(end)
    for name, value in {
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": 1024,
        "eos_token_id": config.eos_token_id,
    }.items():
        setattr(config.text_config, name, value)
    reference = whole_model(config)
    save(reference, directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    return reference


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Make a picture (H, W, 3) of smooth colours and some noise."""
    noise = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin((rows * a + columns * b) / 9) for a, b in noise.normal(size=(3, 2))]
    image = 128 + 90 * np.stack(waves, axis=-1) + noise.normal(0, 9, (height, width, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def their_answer(
    reference: PreTrainedModel, processor: Idefics3Processor, text: str, images: list[np.ndarray], tokens: int
) -> tuple[list[int], str]:
    """The ids of a prompt, and the new text, by transformers."""
    pictures = [[Image.fromarray(image) for image in images]] if images else None  # arrays are ambiguous
    given = processor(text=text, images=pictures, return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        found = reference.generate(**given, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    ids = given["input_ids"][0].tolist()
    return ids, processor.tokenizer.decode(found[0, len(ids) :], skip_special_tokens=True)
