"""SigLIP's vision encoder against transformers, the vectors of patches and that of the whole image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, randomise
from safetensors.numpy import load_file, save_file
from transformers import SiglipVisionConfig as TheirConfig
from transformers import SiglipVisionModel
from vision_parity import VISION

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.errors import ConfigError, InputError
from tinystar_np.models.vision.siglip_vision import PooledSiglipVision, SiglipVision, SiglipVisionConfig

KEYS: list[dict[str, Any]] = [
    {},
    {"hidden_size": 30},
    {"intermediate_size": 20},
    {"num_hidden_layers": 1},
    {"num_attention_heads": 4},
    {"num_channels": 1},
    {"image_size": 33},  # 5 pixels of which no patch has any
    {"patch_size": 4},
    {"layer_norm_eps": 0.1},
    {"hidden_act": "gelu"},
    {"hidden_act": "quick_gelu"},
]


def reference_encoder(**changes: Any) -> SiglipVisionModel:
    model = SiglipVisionModel(TheirConfig(**{**VISION, **changes}, attn_implementation="eager"))
    randomise(model)
    return model.eval()


def random_images(config: TheirConfig, count: int = 3) -> np.ndarray:
    shape = count, config.num_channels, config.image_size, config.image_size
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("keys", KEYS, ids=str)
def test_every_key(keys: dict[str, Any], tmp_path: Path) -> None:
    reference = reference_encoder(**keys)
    reference.save_pretrained(tmp_path)
    images = random_images(reference.config)
    with torch.no_grad():
        expected = reference(torch.tensor(images))
    config = SiglipVisionConfig.from_dict({**VISION, **keys})
    encoder = PooledSiglipVision.from_checkpoint(config, open_checkpoint(tmp_path))
    vectors = encoder(images)
    assert_close(
        vectors.reshape(3, -1, vectors.shape[-1]), expected.last_hidden_state.numpy(), what="patches"
    )
    assert_close(encoder.pooled(vectors), expected.pooler_output.numpy(), what="the whole image")
    one_by_one = [encoder(images[i : i + 1]) for i in range(3)]
    assert_close(np.concatenate(one_by_one), vectors, what="one by one")


@pytest.mark.parametrize(
    "rename", [lambda name: name, lambda name: f"vision_model.{name}"], ids=["new", "old"]
)
@pytest.mark.parametrize("head", [True, False])
def test_names_and_the_head(rename: Callable[[str], str], head: bool, tmp_path: Path) -> None:
    """The hub's files have one word more; what reads patches alone passes over a pooling head."""
    reference = reference_encoder(vision_use_head=head)
    reference.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = {name.removeprefix("vision_model."): tensor for name, tensor in load_file(file).items()}
    assert head == any(name.startswith("head.") for name in weights)
    save_file({rename(name): tensor for name, tensor in weights.items()}, file)
    images = random_images(reference.config)
    with torch.no_grad():
        expected = reference(torch.tensor(images)).last_hidden_state.numpy()
    encoder = SiglipVision.from_checkpoint(SiglipVisionConfig.from_dict(VISION), open_checkpoint(tmp_path))
    assert_close(encoder(images).reshape(expected.shape), expected)


def test_the_defaults_are_those_of_transformers() -> None:
    ours = SiglipVisionConfig.from_dict({})
    theirs = TheirConfig()
    assert vars(ours) == {name: getattr(theirs, name) for name in vars(ours)}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"patch_size": 29}, "patch_size = 29 must be at least 1 and at most image_size = 28"),
        ({"patch_size": 0}, "patch_size = 0 must be at least 1"),
        ({"num_attention_heads": 5}, "hidden_size = 24 cannot be divided among num_attention_heads = 5"),
        ({"hidden_act": "softsign"}, "hidden_act = 'softsign' is not known here"),
        ({"layer_norm_eps": 0}, "layer_norm_eps = 0.0 must be above 0"),
        ({"image_size": [28, 28]}, "image_size = .* but it must be int"),
    ],
    ids=str,
)
def test_refused_values(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SiglipVisionConfig.from_dict({**VISION, **keys})


def test_an_image_of_another_size(tmp_path: Path) -> None:
    reference_encoder().save_pretrained(tmp_path)
    encoder = SiglipVision.from_checkpoint(SiglipVisionConfig.from_dict(VISION), open_checkpoint(tmp_path))
    with pytest.raises(InputError, match="reads images of 28 × 28 pixels, and one has 28 × 35"):
        encoder(np.zeros((1, 3, 28, 35), dtype=np.float32))
