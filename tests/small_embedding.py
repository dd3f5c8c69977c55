"""Small random models that embed texts and images, with all the files of a directory of the hub."""

import json
from pathlib import Path
from typing import Any

import torch
from parity import randomise, save
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from vision_parity import VISION

END, V, LENGTH = 210, 211, 12
TEXT: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
    "bos_token_id": 0,
    "eos_token_id": END,
    "pad_token_id": 1,
}


def small_model(
    kind: str, text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None, **settings: Any
) -> PreTrainedModel:
    """A small random CLIP or SigLIP, every parameter random."""
    parts = {"text_config": {**TEXT, **(text or {})}, "vision_config": {**VISION, **(vision or {})}}
    if kind == "clip":
        config = CLIPConfig(**parts, **{"projection_dim": 20, **settings})
        model = CLIPModel._from_config(config, attn_implementation="eager")
    else:
        parts["text_config"] |= {"projection_size": parts["vision_config"]["hidden_size"]}
        model = SiglipModel._from_config(SiglipConfig(**parts, **settings), attn_implementation="eager")
    randomise(model)
    with torch.no_grad():
        model.logit_scale.fill_(1.7)  # as large as trained ones, so that probabilities are not all alike
    return model.eval()


WORDS = ["<start>", "<pad>", "a", "photo", "of", "cat", "dog", "two", "cats", "."]
SIZES: dict[str, dict[str, Any]] = {
    "clip": {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}},
    "siglip": {"size": {"height": 28, "width": 28}},
}


def small_tokenizer(begins: bool) -> Tokenizer:
    """Words, with an end token that is the last of the vocabulary, and perhaps a start token."""
    vocabulary = {word: n for n, word in enumerate(WORDS)}
    vocabulary |= {f"word{n}": n for n in range(len(WORDS), 210)} | {"<end>": 210}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<start>", "<pad>", "<end>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>" if begins else "$A <end>", special_tokens=[("<start>", 0), ("<end>", 210)]
    )
    return tokenizer


def small_files(kind: str, directory: Path) -> tuple[Any, Any]:
    """Save a small random model with all its files; returns transformers' model and processor."""
    reference = small_model(kind)
    save(reference, directory)
    tokenizer = small_tokenizer(begins=kind == "clip")
    tokenizer.save(str(directory / "tokenizer.json"))
    pad = "<end>" if kind == "clip" else "<pad>"
    settings = {"pad_token": pad, "eos_token": "<end>", "model_max_length": 12}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    images = SIZES[kind]
    name = "CLIPImageProcessor" if kind == "clip" else "SiglipImageProcessor"
    (directory / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": name, **images}))
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings)
    if kind == "clip":
        return reference, CLIPProcessor(CLIPImageProcessorPil(**images), words)
    return reference, SiglipProcessor(SiglipImageProcessorPil(**images), words)
