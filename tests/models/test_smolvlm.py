"""SmolVLM and Idefics3 against transformers, with images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, save
from transformers import Idefics3Config, SmolVLMConfig
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig as TheirVisionConfig
from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionEmbeddings
from vision_parity import (
    IMAGE,
    TEXT,
    VISION,
    Row,
    check_images,
    logits_with_images,
    random_pixels,
    row_of,
    whole_model,
)

from tinystar_np.errors import ConfigError
from tinystar_np.layers.patches import PatchEmbedding
from tinystar_np.layers.weights import Weights
from tinystar_np.loading import load
from tinystar_np.models.vision.idefics3_vision import Idefics3Vision, Idefics3VisionConfig
from tinystar_np.tap import timing

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
    model = check_images(reference, save(reference, tmp_path), small_rows(), theirs)
    assert repr(model).endswith(
        f"images by {type(model.vision).__name__}(Idefics3Vision, 17.2 K parameters))"
    )


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


@pytest.mark.parametrize("side", [4, 26, 27, 32])
def test_positions_of_any_number_of_patches(side: int) -> None:
    """Those of the published sides, which other images than the model's own lie on as a fraction."""
    sizes = {"hidden_size": 2, "num_attention_heads": 1, "image_size": side, "patch_size": 1}
    theirs = Idefics3VisionEmbeddings(TheirVisionConfig(**sizes, num_channels=1))
    weights = {
        "patches.weight": np.zeros((2, 1, 1, 1), dtype=np.float32),
        "patches.bias": np.zeros(2, dtype=np.float32),
        "positions": np.arange(2 * side * side, dtype=np.float32).reshape(-1, 2),
    }
    with torch.no_grad():
        for parameter, values in zip(theirs.parameters(), weights.values(), strict=True):
            parameter.copy_(torch.tensor(values))
    config = Idefics3VisionConfig.from_dict({**sizes, "num_channels": 1})
    encoder = Idefics3Vision.__new__(Idefics3Vision)  # of it, no more than the first layer
    encoder.config, encoder.positions = config, weights["positions"]
    encoder.patches = PatchEmbedding(Weights(weights) / "patches")
    for count in range(1, 81):
        image = np.zeros((1, 1, 2, count), dtype=np.float32)
        with torch.no_grad():
            expected = theirs(torch.tensor(image), torch.ones((1, 2, count), dtype=torch.bool)).numpy()
        np.testing.assert_array_equal(encoder.embed(image).reshape(expected.shape), expected)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_tile_without_a_number_but_zero(kind: str, tmp_path: Path) -> None:
    """It is seen as any other. transformers takes it for filling, and then counts too few vectors: so one
    pixel here is not quite zero.
    """
    reference = whole_model(small_config(kind))
    model, _ = load(save(reference, tmp_path), dtype="float32")
    black, other = random_pixels(1, 3, 28, 28), random_pixels(1, 3, 28, 28, seed=1)
    black.tiles[:] = 0
    rows = [row_of(3, (other, 4), 2, (black, 4), 1)]
    found = model(rows[0][0], images=rows[0][1])
    with pytest.raises(ValueError, match="do not match"):
        logits_with_images(reference, rows, theirs)
    black.tiles[0, 0, 0, 0] = 1e-30
    assert_close(found, logits_with_images(reference, rows, theirs)[0])


@pytest.mark.parametrize("patch_size", [0, 300])
def test_no_patch_within_an_image(patch_size: int) -> None:
    with pytest.raises(ConfigError, match=f"patch_size = {patch_size} must be at least 1 and at most image_"):
        Idefics3VisionConfig.from_dict({"patch_size": patch_size})


def test_a_bar_says_how_far_the_images_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step for each block of the encoder and each tile; to a clock it is all one part."""
    shown: list[Any] = []

    @contextmanager
    def bar(total: int, words: str, unit: str) -> Iterator[Any]:
        shown.append((total, words))
        yield shown.append

    monkeypatch.setattr("tinystar_np.models.vision.progress.bar", bar)
    model, _ = load(save(whole_model(small_config("smolvlm")), tmp_path))
    ids, images = small_rows()[0]
    model(ids, images=images)
    steps = VISION["num_hidden_layers"] * 4  # of the first image one tile, of the second three
    assert shown == [(steps, "reading 2 images"), *[1] * steps]
    clock = Times()
    with timing(clock):
        model(ids, images=images)
    assert clock.parts == ["images", "embedding", "blocks.0", "blocks.1", "blocks.2", "output"]


@dataclass
class Times:
    """A clock that keeps the names of parts."""

    parts: list[str] = field(default_factory=list)

    def add(self, part: str, seconds: float) -> None:
        self.parts.append(part)
