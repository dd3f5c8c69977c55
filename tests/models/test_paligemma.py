"""PaliGemma and PaliGemma 2 against transformers, with images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, random_ids, save
from transformers import PaliGemmaConfig
from vision_parity import IMAGE, TEXT, VISION, Row, check_images, random_pixels, row_of, whole_model

from tinystar_np.loading import load

WINDOW = 5
TEXTS: dict[str, dict[str, Any]] = {
    "gemma": {"model_type": "gemma", "num_key_value_heads": 1},
    "gemma2": {"model_type": "gemma2", "sliding_window": WINDOW, "query_pre_attn_scalar": 8},
}


def small_config(
    kind: str, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **settings: Any
) -> PaliGemmaConfig:
    """The config of a small model whose images take 16 places."""
    of_text = {**TEXT, **TEXTS[kind], **(text or {})}
    of_vision = {**VISION, "model_type": "siglip_vision_model", "vision_use_head": False, **(vision or {})}
    given = {"image_token_index": IMAGE, "projection_dim": TEXT["hidden_size"], **settings}
    return PaliGemmaConfig(text_config=of_text, vision_config=of_vision, **given)


def theirs(rows: Sequence[Row], prefix: int | None = None) -> dict[str, torch.Tensor]:
    """All images of all rows one after the other; 0 marks the tokens of the prefix."""
    tiles = [image.pixels.tiles for _, images in rows for image in images]
    kinds = np.zeros((len(rows), len(rows[0][0])), dtype=np.int64)
    kinds[:, prefix:] = prefix is not None
    # Without an image a text is causal.
    kinds[[not images for _, images in rows]] = 1
    return {"pixel_values": torch.tensor(np.concatenate(tiles)), "token_type_ids": torch.tensor(kinds)}


def small_rows(vectors: int = 16, channels: int = 3, side: int = 28) -> list[Row]:
    one, two = (random_pixels(1, channels, side, side, seed=seed) for seed in range(2))
    v = vectors
    return [
        row_of((one, v), 12 + v),
        row_of(3, (one, v), 2, (two, v), 7),
        row_of((two, v), (one, v), 12),
        row_of(12 + 2 * v),
    ]


@pytest.mark.parametrize("kind", TEXTS)
def test_images(kind: str, tmp_path: Path) -> None:
    reference = whole_model(small_config(kind))
    check_images(reference, save(reference, tmp_path), small_rows(), theirs, in_pieces=False)


@pytest.mark.parametrize("kind", TEXTS)
def test_what_follows_a_prefix_is_causal(kind: str, tmp_path: Path) -> None:
    reference = whole_model(small_config(kind))
    model, _ = load(save(reference, tmp_path), dtype="float32")
    rows = small_rows()
    suffix = random_ids(len(rows), 11, vocabulary=IMAGE)
    whole = [([*ids, *suffix[b]], images) for b, (ids, images) in enumerate(rows)]
    length = len(rows[0][0])
    with torch.no_grad():
        given = theirs(whole, prefix=length)
        expected = reference(torch.tensor([ids for ids, _ in whole]), **given).logits.numpy()
    cache = model.new_cache(batch_size=len(rows))
    found = [model([ids for ids, _ in rows], cache=cache, images=[images for _, images in rows])]
    found += [model(suffix[:, a:b], cache=cache) for a, b in ((0, 1), (1, 2), (2, 11))]
    assert_close(np.concatenate(found, axis=1), expected)
