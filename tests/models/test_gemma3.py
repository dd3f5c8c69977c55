"""Gemma 3 against transformers, with images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parity import save
from transformers import Gemma3Config
from vision_parity import IMAGE, TEXT, VISION, Row, check_images, random_pixels, row_of, whole_model

WINDOW = 5


def small_config(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **settings: Any
) -> Gemma3Config:
    """The config of a small model whose images take 4 places, fewer than the window."""
    of_text = {**TEXT, "sliding_window": WINDOW, "sliding_window_pattern": 2, **(text or {})}
    given = {"image_token_index": IMAGE, "mm_tokens_per_image": 4, **settings}
    return Gemma3Config(text_config=of_text, vision_config={**VISION, **(vision or {})}, **given)


def theirs(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """All images of all rows one after the other; 1 marks the tokens of images."""
    tiles = [image.pixels.tiles for _, images in rows for image in images]
    ids = np.array([ids for ids, _ in rows])
    return {
        "pixel_values": torch.tensor(np.concatenate(tiles)),
        "token_type_ids": torch.tensor((ids == IMAGE).astype(np.int64)),
    }


def small_rows(vectors: int = 4, channels: int = 3, side: int = 28) -> list[Row]:
    one, two, three = (random_pixels(1, channels, side, side, seed=seed) for seed in range(3))
    v = vectors
    return [
        row_of(3, (one, v), 2, (two, v), 5 + v),
        row_of(10 + v, (three, v), (one, v)),  # neighbours: one group, at the end
        row_of((two, v), 10 + 2 * v),
        row_of(10 + 3 * v),
    ]


def test_images(tmp_path: Path) -> None:
    reference = whole_model(small_config())
    check_images(reference, save(reference, tmp_path), small_rows(), theirs)


def test_images_longer_than_the_window(tmp_path: Path) -> None:
    reference = whole_model(small_config(mm_tokens_per_image=16))
    check_images(reference, save(reference, tmp_path), small_rows(16), theirs)
