"""Real text weights that read images: SmolLM2-135M, SmolVLM-256M's decoder, after a random encoder.

The encoder has the size of SmolVLM's, but was not trained: this shows that vectors of the real size, among
real tokens, give what transformers gives, and nothing about what a trained encoder sees.
"""

from pathlib import Path

import numpy as np
import torch
from parity import assert_close, save
from smollm2 import smollm2_file, smollm2_reference
from transformers import PreTrainedModel, SmolVLMConfig, SmolVLMForConditionalGeneration

import tinystar_np as ts
from tinystar_np.models.vision.pixels import ImageInput, Pixels

IMAGE = 49190
ADDED = 128  # tokens of SmolVLM that SmolLM2 does not have
NEW = 20
TOLERANCE = 1e-4
"""Random vectors magnify rounding in 30 layers: transformers' own float32 is 1e-5 from its float64."""


def reference_model() -> PreTrainedModel:
    """SmolVLM-256M's shapes: SmolLM2's weights, all others random."""
    text = smollm2_reference()
    config = SmolVLMConfig(
        text_config={**text.config.to_dict(), "vocab_size": text.config.vocab_size + ADDED},
        vision_config={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 512,
            "patch_size": 16,
        },
        image_token_id=IMAGE,
        scale_factor=4,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    model = SmolVLMForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in text.model.named_parameters():
            place = model.model.text_model.get_parameter(name)
            if name == "embed_tokens.weight":
                added = 0.1 * torch.randn(ADDED, parameter.shape[1])
                place.copy_(torch.cat([parameter, added]))
                model.lm_head.weight.copy_(place)
            else:
                place.copy_(parameter)
        for parameter in model.model.vision_model.parameters():
            noise = torch.randn(parameter.shape)
            is_gain = parameter.ndim == 1 and bool((parameter == 1).all())
            parameter.copy_(1 + 0.1 * noise if is_gain else 0.03 * noise)
    return model


def test_images_before_real_words(tmp_path: Path) -> None:
    """Logits and greedy ids with two tiles among the words of a real tokenizer."""
    _, tokenizer = ts.load(smollm2_file())
    assert tokenizer is not None
    reference = reference_model()
    model, _ = ts.load(save(reference, tmp_path), dtype="float32")
    tiles = np.random.default_rng(0).normal(size=(2, 3, 512, 512)).astype(np.float32)
    before, after = tokenizer.encode("User: I see"), tokenizer.encode(" What is it?\nAssistant:")
    ids = [*before, *[IMAGE] * 128, *after]
    image = ImageInput(Pixels(tiles, (512, 512)), np.arange(128) + len(before))
    assert model.vision is not None
    seen = model.vision.see([image])
    pixels = torch.from_numpy(tiles)[None]
    with torch.no_grad():
        expected = reference(torch.tensor([ids]), pixel_values=pixels).logits[0].numpy()
    assert_close(model(ids, images=seen), expected, TOLERANCE, "whole")
    cache = model.new_cache()
    pieces = [model(ids[a:b], cache=cache, images=seen) for a, b in ((0, 70), (70, 71), (71, len(ids)))]
    assert_close(np.concatenate(pieces), expected, TOLERANCE, "in pieces")
    chosen = [int(pieces[-1][-1].argmax())]
    while len(chosen) < NEW:
        chosen.append(int(model(chosen[-1:], cache=cache).argmax()))
    with torch.no_grad():
        logits = reference(torch.tensor([ids + chosen]), pixel_values=pixels).logits[0, len(ids) - 1 : -1]
    assert logits.argmax(dim=-1).tolist() == chosen
