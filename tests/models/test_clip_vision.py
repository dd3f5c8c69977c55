"""CLIP's vision encoder against transformers, by itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, randomise
from transformers import CLIPVisionConfig, CLIPVisionModel
from vision_parity import VISION

import tinystar_np as ts
from tinystar_np.checkpoints.model_source import open_source
from tinystar_np.errors import ConfigError, InputError
from tinystar_np.models.vision.clip_vision import ClipVision, ClipVisionConfig


def pair(directory: Path, **settings: Any) -> tuple[CLIPVisionModel, ClipVision]:
    """The same small random encoder, theirs and ours."""
    config = CLIPVisionConfig(**{**VISION, **settings}, attn_implementation="eager")
    theirs = CLIPVisionModel(config).eval()
    randomise(theirs)
    theirs.save_pretrained(directory)
    source = open_source(directory)
    ours = ClipVision.from_checkpoint(
        ClipVisionConfig.from_dict(source.config), source.checkpoint(source.config), "float32"
    )
    return theirs, ours


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"layer_norm_eps": 0.1},
        {"hidden_act": "gelu"},
        {"num_attention_heads": 4},
        {"num_channels": 1},
        {"num_hidden_layers": 4},
        {"image_size": 30},  # two pixels are left of the last patch
        {"patch_size": 14},
        {"hidden_size": 36, "intermediate_size": 20},
        {"image_size": 336, "patch_size": 14},  # 577 vectors, as in LLaVA 1.5: attention in blocks
    ],
    ids=str,
)
def test_every_place_of_the_stream(settings: dict[str, Any], tmp_path: Path) -> None:
    theirs, ours = pair(tmp_path, **settings)
    C, size = theirs.config.num_channels, theirs.config.image_size
    images = random_images(2, C, size, size)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images), output_hidden_states=True)
    x = ours(images)
    assert_close(x, expected.last_hidden_state.numpy())
    assert_close(ours.pooled(x), expected.pooler_output.numpy())
    numbers = [*range(-len(ours.blocks) - 1, len(ours.blocks) + 1)]
    for number, found in zip(numbers, ours.hidden_states(images, numbers), strict=True):
        assert_close(found, expected.hidden_states[number].numpy(), what=f"place {number}")


@pytest.mark.parametrize("size", [(28, 42), (42, 28), (14, 7), (63, 70), (30, 30)], ids=str)
def test_other_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    theirs, ours = pair(tmp_path)
    images = random_images(2, 3, *size)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images), interpolate_pos_encoding=True)
    assert_close(ours(images, interpolate=True), expected.last_hidden_state.numpy())
    with pytest.raises(InputError, match=f"{size[0]} × {size[1]} pixels.*28 × 28"):
        ours(images)
    with pytest.raises(InputError, match="3 × 28 pixels"):  # not one patch
        ours(images[..., :3, :1].repeat(28, axis=-1), interpolate=True)


def test_what_no_block_needs_is_not_computed(tmp_path: Path) -> None:
    _, ours = pair(tmp_path, num_hidden_layers=3)
    with ts.record() as caught:
        ours.hidden_states(random_images(1, 3, 28, 28), [-2])
    assert "blocks.1.residual" in caught
    assert not any(name.startswith("blocks.2") for name in caught)


def test_a_config_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="image_size = 20 is less than patch_size = 32"):
        ClipVisionConfig.from_dict({"image_size": 20})
    with pytest.raises(ConfigError, match="patch_size = 0 must be at least 1"):
        ClipVisionConfig.from_dict({"patch_size": 0})
    assert vars(ClipVisionConfig()).items() <= CLIPVisionConfig().to_dict().items()
