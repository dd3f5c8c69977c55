"""SmolVLM and Idefics3 against transformers, with images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import save
from transformers import Idefics3Config, SmolVLMConfig
from vision_parity import IMAGE, TEXT, VISION, Row, check_images, random_pixels, row_of, whole_model

from tinystar_np.errors import ConfigError
from tinystar_np.models.vision.idefics3_vision import Idefics3VisionConfig

CONFIGS = {"idefics3": Idefics3Config, "smolvlm": SmolVLMConfig}


def small_config(kind: str, vision: dict[str, Any] | None = None, **settings: Any) -> Any:
    """The config of a small model of 4 × 4 patches, of which 2 × 2 become one vector."""
    text = {**TEXT, "model_type": "llama", "rms_norm_eps": 1e-5}
    given = {"image_token_id": IMAGE, "scale_factor": 2, "pad_token_id": 0, **settings}
    return CONFIGS[kind](text_config=text, vision_config={**VISION, **(vision or {})}, **given)


def theirs(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Tiles of all images of a row in turn, with empty ones after them: (B, most, C, h, w)."""
    tiles = [
        np.concatenate([i.pixels.tiles for i in images] or [np.zeros((0, 3, 28, 28))]) for _, images in rows
    ]
    most = max(map(len, tiles))
    padded = [np.pad(row, ((0, most - len(row)), (0, 0), (0, 0), (0, 0))) for row in tiles]
    return {"pixel_values": torch.tensor(np.stack(padded), dtype=torch.float32)}


def small_rows() -> list[Row]:
    one, three = random_pixels(1, 3, 28, 28), random_pixels(3, 3, 28, 28, seed=1)
    return [row_of(3, (one, 4), 2, (three, 12), 5), row_of(22, (one, 4)), row_of(26)]


@pytest.mark.parametrize("kind", CONFIGS)
def test_images(kind: str, tmp_path: Path) -> None:
    reference = whole_model(small_config(kind))
    check_images(reference, save(reference, tmp_path), small_rows(), theirs)


@pytest.mark.parametrize(
    "vision",
    [
        {"layer_norm_eps": 0.1},
        {"hidden_act": "gelu"},
        {"hidden_act": "quick_gelu"},
        {"num_attention_heads": 4},
        {"num_channels": 1},
    ],
    ids=str,
)
def test_the_encoders_keys(vision: dict[str, Any], tmp_path: Path) -> None:
    reference = whole_model(small_config("smolvlm", vision))
    C = vision.get("num_channels", 3)
    rows = [row_of(3, (random_pixels(2, C, 28, 28), 8), 5)]
    check_images(reference, save(reference, tmp_path), rows, theirs)


@pytest.mark.parametrize("patch_size", [0, 300])
def test_no_patch_within_an_image(patch_size: int) -> None:
    with pytest.raises(ConfigError, match=f"patch_size = {patch_size} must be at least 1 and at most image_"):
        Idefics3VisionConfig.from_dict({"patch_size": patch_size})
