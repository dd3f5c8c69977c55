"""Small models of Qwen's families of text and images, and their images as transformers takes them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig, Qwen3VLMoeConfig
from vision_parity import IMAGE, TEXT, Row, random_pixels, row_of

from tinystar_np.models.vision.pixels import Pixels

CONFIGS: dict[str, Any] = {
    "qwen2_vl": Qwen2VLConfig,
    "qwen2_5_vl": Qwen2_5_VLConfig,
    "qwen3_vl": Qwen3VLConfig,
    "qwen3_vl_moe": Qwen3VLMoeConfig,
}
SECTIONS = {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [1, 2, 1]}
"""Rotations that are felt in a short text."""
OF_ALL = {"depth": 3, "num_heads": 3, "patch_size": 4}
VISIONS: dict[str, dict[str, Any]] = {
    "qwen2_vl": {**OF_ALL, "embed_dim": 24, "hidden_size": 48, "mlp_ratio": 2},
    "qwen2_5_vl": {
        **OF_ALL,
        **{"hidden_size": 24, "out_hidden_size": 48, "intermediate_size": 36},
        **{"window_size": 16, "fullatt_block_indexes": [1]},
    },
    "qwen3_vl": {
        **OF_ALL,
        **{"hidden_size": 24, "out_hidden_size": 48, "intermediate_size": 36},
        **{"num_position_embeddings": 25, "deepstack_visual_indexes": [0, 2]},
    },
}
VISIONS["qwen3_vl_moe"] = VISIONS["qwen3_vl"]
EXPERTS = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 20}


def small_config(
    kind: str, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **settings: Any
) -> Any:
    """The config of a small model whose vectors stand for 8 × 8 pixels each."""
    tokens = {"image_token_id": IMAGE, "video_token_id": 209, "vision_start_token_id": 208}
    # Only Qwen3-VL's heads may have another width than their share.
    own = {key: value for key, value in TEXT.items() if kind.startswith("qwen3") or key != "head_dim"}
    own |= EXPERTS if kind == "qwen3_vl_moe" else {}
    return CONFIGS[kind](
        text_config={**own, "rope_parameters": SECTIONS, **(text or {})},
        vision_config={**VISIONS[kind], **(vision or {})},
        **{**tokens, **settings},
    )


def pixels_of(rows: int, columns: int, side: int = 8, channels: int = 3, seed: int = 0) -> Pixels:
    """Make the pixels of an image of so many vectors."""
    return random_pixels(1, channels, rows * side, columns * side, seed=seed)


def small_rows() -> list[Row]:
    """A batch of rows with two images, one, and none, of several shapes."""
    wide, tall, one = pixels_of(2, 5), pixels_of(3, 2, seed=1), pixels_of(1, 1, seed=2)
    return [
        row_of(3, (wide, 10), 2, (tall, 6), 5),
        row_of((tall, 6), 3, (one, 1), 16),
        row_of(26),
    ]


def theirs_of(config: Any) -> Callable[[Sequence[Row]], dict[str, torch.Tensor]]:
    """Return what turns images into what a model with this config takes.

    Its patches come as rows of numbers, by squares of those that are merged, each twice for two equal frames.
    """
    p, m = config.vision_config.patch_size, config.vision_config.spatial_merge_size
    frames = config.vision_config.temporal_patch_size

    def theirs(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        patches, grids = [], []
        for image in (image for _, images in rows for image in images):
            _, C, height, width = image.pixels.tiles.shape
            h, w = height // p, width // p
            x = np.repeat(image.pixels.tiles, frames, axis=0)
            x = x.reshape(frames, C, h // m, m, p, w // m, m, p).transpose(2, 5, 3, 6, 1, 0, 4, 7)
            patches.append(x.reshape(h * w, -1))
            grids.append((1, h, w))
        ids = torch.tensor([ids for ids, _ in rows])
        return {
            "pixel_values": torch.tensor(np.concatenate(patches)),
            "image_grid_thw": torch.tensor(grids),
            "mm_token_type_ids": (ids == IMAGE).int(),
        }

    return theirs
