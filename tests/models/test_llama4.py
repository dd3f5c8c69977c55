"""Llama 4 against transformers, with images in tiles."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parity import save
from transformers import Llama4Config
from transformers.modeling_outputs import MoeCausalLMOutputWithPast
from vision_parity import IMAGE, TEXT, VISION, Row, check_images, random_pixels, row_of, whole_model

# Llama 4 of transformers 5.24 asks the output of its text part for this, which has none.
if not hasattr(MoeCausalLMOutputWithPast, "image_outputs"):
    MoeCausalLMOutputWithPast.image_outputs = None

SIDE = VISION["image_size"]
ENCODER = {
    **VISION,
    "intermediate_size": 4 * VISION["hidden_size"],
    "num_attention_heads": 2,
    **dict.fromkeys(("projector_input_dim", "projector_output_dim", "vision_output_dim"), 20),
}


def small_config(vision: dict[str, Any] | None = None, **settings: Any) -> Llama4Config:
    """The config of a small model of 4 × 4 patches, of which 2 × 2 become one vector."""
    text = {**TEXT, "attention_chunk_size": 17, "num_local_experts": 3, "intermediate_size_mlp": 64}
    return Llama4Config(
        text_config={**text, "num_hidden_layers": 4},
        vision_config={**ENCODER, **(vision or {})},
        image_token_index=IMAGE,
        **settings,
    )


def theirs(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """The tiles of all images one after the other."""
    tiles = np.concatenate([image.pixels.tiles for _, images in rows for image in images])
    return {"pixel_values": torch.tensor(tiles)}


def small_rows(channels: int = 3, side: int = SIDE, vectors: int = 4) -> list[Row]:
    """Rows with an image of one tile and one of three, with one, and with none."""
    one = random_pixels(1, channels, side, side)
    three = random_pixels(3, channels, side, side, seed=1)
    long = row_of(3, (one, vectors), 2, (three, 3 * vectors), 5)
    return [long, row_of(len(long[0]) - vectors, (one, vectors)), row_of(len(long[0]))]


def test_images(tmp_path: Path) -> None:
    reference = whole_model(small_config())
    check_images(reference, save(reference, tmp_path), small_rows(), theirs)
