"""Gemma 3 against transformers, with images."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, save
from safetensors.numpy import load_file, save_file
from transformers import Gemma3Config, PreTrainedModel
from vision_parity import (
    IMAGE,
    TEXT,
    VISION,
    Row,
    check_images,
    images_in_turn,
    logits_with_images,
    random_pixels,
    renamed_as,
    row_of,
    whole_model,
)

import tinystar_np as ts
from tinystar_np.errors import ConfigError
from tinystar_np.loading import load
from tinystar_np.models.gemma3 import Gemma3Config as OurConfig

WINDOW = 5
# google/gemma-3-4b-it, before transformers 5
PUBLISHED: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 255999,
    "eoi_token_index": 256000,
    "eos_token_id": [1, 106],
    "image_token_index": 262144,
    "initializer_range": 0.02,
    "mm_tokens_per_image": 256,
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.0.dev0",
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 896,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
        "vision_use_head": False,
    },
}


def small_config(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **settings: Any
) -> Gemma3Config:
    """The config of a small model whose images take 4 places, fewer than the window."""
    of_text = {**TEXT, "sliding_window": WINDOW, "sliding_window_pattern": 2, **(text or {})}
    given = {"image_token_index": IMAGE, "mm_tokens_per_image": 4, **settings}
    return Gemma3Config(text_config=of_text, vision_config={**VISION, **(vision or {})}, **given)


def theirs(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """All images of all rows one after the other; 1 marks the tokens of images."""
    kinds = np.zeros((len(rows), len(rows[0][0])), dtype=np.int64)
    for b, (_, images) in enumerate(rows):
        for image in images:
            kinds[b, image.places] = 1
    return {**images_in_turn(rows), "token_type_ids": torch.tensor(kinds)}


def small_rows(vectors: int = 4) -> list[Row]:
    one, two, three = (random_pixels(1, 3, 28, 28, seed=seed) for seed in range(3))
    v = vectors
    return [
        row_of(3, (one, v), 2, (two, v), 5 + v),
        row_of(10 + v, (three, v), (one, v)),  # neighbours are one group, here at the end
        row_of((two, v), 10 + 2 * v),
        row_of(10 + 3 * v),
    ]


def with_crops(vectors: int = 4) -> Row:
    """An image in three parts, as by pan-and-scan: words between the first two, none between the others."""
    ids, (image,) = row_of(3, (random_pixels(3, 3, 28, 28, seed=4), 3 * vectors), 6)
    places = image.places + np.repeat([0, 2, 2], vectors)
    words = [17, 23]
    return [*ids[: 3 + vectors], *words, *ids[3 + vectors :]], [type(image)(image.pixels, places)]


def check_row(reference: PreTrainedModel, directory: Path, row: Row, image_token: int = IMAGE) -> None:
    """Logits of one row, read at once and in two pieces that end within its first image."""
    model, _ = load(directory, dtype="float32")
    assert model.vision is not None
    expected = logits_with_images(reference, [row], theirs)[0]
    ids, images = row
    assert_close(model(ids, images=images), expected, what="at once")
    seen, cache = model.vision.see(images), model.new_cache()
    cut = int(images[0].places[1])
    found = [model(ids[:cut], cache=cache, images=seen), model(ids[cut:], cache=cache, images=seen)]
    assert_close(np.concatenate(found), expected, what="in two pieces")


def test_images(tmp_path: Path) -> None:
    reference = whole_model(small_config())
    check_images(reference, save(reference, tmp_path), small_rows(), theirs)


def test_images_longer_than_the_window(tmp_path: Path) -> None:
    reference = whole_model(small_config(mm_tokens_per_image=16))
    check_images(reference, save(reference, tmp_path), small_rows(16), theirs)


@pytest.mark.parametrize("vectors", [4, 16])
def test_an_image_and_its_crops(vectors: int, tmp_path: Path) -> None:
    reference = whole_model(small_config(mm_tokens_per_image=vectors))
    check_images(reference, save(reference, tmp_path), [with_crops(vectors)], theirs)


@pytest.mark.parametrize("window", [40, 500])
def test_images_that_are_attended_to_in_blocks(window: int, tmp_path: Path) -> None:
    """256 places an image, with windows that are shorter and longer: where scores are not built at once."""
    vision, text = {"image_size": 112}, {"sliding_window": window, "max_position_embeddings": 2048}
    reference = whole_model(small_config(vision, text, mm_tokens_per_image=256))
    model, _ = load(save(reference, tmp_path), dtype="float32")
    one, two, three = (random_pixels(1, 3, 112, 112, seed=seed) for seed in range(3))
    v = 256
    rows = [row_of(70, (one, v), 3, (two, v), 105), row_of((three, v), (two, v), 178)]
    expected = np.stack([logits_with_images(reference, [row], theirs)[0] for row in rows])
    ids, images = [row for row, _ in rows], [given for _, given in rows]
    assert_close(model(ids, images=images), expected)
    assert_close(model(ids[0], images=images[0], last_only=True), expected[0, -1:])
    cache = model.new_cache(2)
    found = [model([row[a:b] for row in ids], cache=cache, images=images) for a, b in ((0, 400), (400, 690))]
    assert_close(np.concatenate(found, axis=1), expected)


@pytest.mark.parametrize("window", [None, 3])
def test_layers_of_one_kind(window: int | None, tmp_path: Path) -> None:
    kind = "full_attention" if window is None else "sliding_attention"
    text = {"layer_types": [kind] * 3, "sliding_window": window or 4096}
    reference = whole_model(small_config(text=text))
    check_images(reference, save(reference, tmp_path), small_rows()[:2], theirs)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"mm_tokens_per_image": 1}, 1),
        ({"vision": {"image_size": 35}}, 4),  # 5 × 5 patches, the last of which no mean has
        ({"vision": {"layer_norm_eps": 0.1}}, 4),  # of the projector's norm as well
        ({"vision": {"hidden_act": "gelu"}}, 4),
        ({"vision": {"hidden_size": 36, "num_attention_heads": 4, "intermediate_size": 20}}, 4),
        ({"vision": {"num_hidden_layers": 3, "num_channels": 1}}, 4),
        ({"vision": {"vision_use_head": False}}, 4),
        ({"vision": {"patch_size": 14}}, 4),
        ({"text": {"final_logit_softcapping": 0.7}}, 4),
        ({"text": {"tie_word_embeddings": False}, "tie_word_embeddings": False}, 4),
        ({"boi_token_index": 5, "eoi_token_index": 6}, 4),  # say nothing to the model
    ],
    ids=str,
)
def test_every_switch(settings: dict[str, Any], count: int, tmp_path: Path) -> None:
    reference = whole_model(small_config(**settings))
    vision = reference.config.vision_config
    C, side = vision.num_channels, vision.image_size
    row = row_of(
        3, (random_pixels(1, C, side, side, seed=2), count), 4, (random_pixels(1, C, side, side), count)
    )
    if count > 1:
        check_row(reference, save(reference, tmp_path), row)
    else:
        check_images(reference, save(reference, tmp_path), [row], theirs)


@pytest.mark.parametrize("token", [7, 0])
def test_another_image_token(token: int, tmp_path: Path) -> None:
    reference = whole_model(small_config(image_token_index=token))
    ids, images = row_of(3, (random_pixels(1, 3, 28, 28), 4), 4)
    ids = [token if i in images[0].places else id % 190 + 10 for i, id in enumerate(ids)]
    check_row(reference, save(reference, tmp_path), (ids, images))


@pytest.mark.parametrize("kind", ["of 2025", "of transformers 5"])
@pytest.mark.parametrize("tied", [True, False])
def test_names_of_tensors(kind: str, tied: bool, tmp_path: Path) -> None:
    reference = whole_model(small_config(tie_word_embeddings=tied))
    path = save(reference, tmp_path) / "model.safetensors"
    named = renamed_as(kind, load_file(path))
    head = "language_model.lm_head.weight" if kind == "of 2025" else "lm_head.weight"
    assert (head in named) == (not tied)
    beginning = "" if kind == "of 2025" else "model."
    assert f"{beginning}multi_modal_projector.mm_input_projection_weight" in named
    save_file(named, path)
    check_row(reference, tmp_path, small_rows()[0])


def test_a_published_config(tmp_path: Path) -> None:
    """Its keys with smaller sizes; the sizes themselves where no weights are needed."""
    ours = OurConfig.from_dict({**PUBLISHED, "text_width": 2560})
    assert (ours.vision.side, ours.pooled, ours.image_token_index) == (64, 4, 262144)
    vision = {**PUBLISHED["vision_config"], **VISION}
    small = {
        "vocab_size": 211,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 7,
        "head_dim": 8,
    }
    text = {**PUBLISHED["text_config"], **small, "sliding_window": WINDOW}
    sizes = {
        "text_config": text,
        "vision_config": vision,
        "mm_tokens_per_image": 4,
        "image_token_index": IMAGE,
    }
    config = {**PUBLISHED, **sizes, "eos_token_id": [1, 106]}
    reference = whole_model(Gemma3Config(**config))
    save(reference, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    check_row(reference, tmp_path, small_rows()[0])


def test_a_config_of_today(tmp_path: Path) -> None:
    reference = whole_model(small_config())
    save(reference, tmp_path, image_token_index=None, image_token_id=IMAGE, boi_token_id=5, dtype="float32")
    check_row(reference, tmp_path, small_rows()[0])


def test_defaults_are_those_of_transformers(tmp_path: Path) -> None:
    usual, ours = Gemma3Config(), OurConfig.from_dict({"mm_tokens_per_image": 196, "text_width": 8})
    assert vars(ours.vision) == {name: getattr(usual.vision_config, name) for name in vars(ours.vision)}
    fields = {name: held.default for name, held in OurConfig.__dataclass_fields__.items()}
    assert fields["mm_tokens_per_image"] == usual.mm_tokens_per_image
    assert fields["image_token_index"] == usual.image_token_index


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mm_tokens_per_image": 0}, "mm_tokens_per_image = 0 must be at least 1"),
        (
            {"mm_tokens_per_image": 9},
            "mm_tokens_per_image = 9, but the 4 × 4 patches .* make 16 means of 1 × 1",
        ),
        (
            {"mm_tokens_per_image": 5},
            "mm_tokens_per_image = 5, but the 4 × 4 patches .* make 4 means of 2 × 2",
        ),
        ({"mm_tokens_per_image": 25}, "mm_tokens_per_image = 25, but the 4 × 4 patches .* make 0 means"),
        ({"mm_tokens_per_image": None}, "mm_tokens_per_image = None, but it must be int"),
        ({"image_token_index": -1}, "image_token_index = -1 must be at least 0"),
        ({"image_token_id": 5}, "are two names of one key"),
        (
            {"vision_config": {"model_type": "clip_vision_model"}},
            "vision_config.model_type = 'clip_vision_model'",
        ),
        ({"vision_config": {**VISION, "patch_size": 0}}, "config.json, vision_config: patch_size = 0 must"),
        ({"text_config": {"model_type": "gemma2"}}, "text_config.model_type = 'gemma2', but gemma3 has"),
        (
            {"text_config": {**TEXT, "use_bidirectional_attention": True}},
            "use_bidirectional_attention = True is not implemented",
        ),
    ],
    ids=str,
)
def test_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**small_config().to_dict(), **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_its_intermediates_have_names(tmp_path: Path) -> None:
    """A recording has the encoder's and the projector's, as transformers' modules give them."""
    reference = whole_model(small_config())
    model, _ = load(save(reference, tmp_path), dtype="float32")
    ids, images = with_crops()
    with torch.no_grad():
        tower = reference.model.vision_tower(torch.tensor(images[0].pixels.tiles)).last_hidden_state
        projected = reference.model.multi_modal_projector(tower).numpy()
    with ts.record("images.*", "embedding.images") as caught:
        model(ids, images=images)
    encoded = caught["images.0.encoder.final_norm"]
    assert_close(encoded.reshape(tower.shape), tower.numpy())
    assert_close(caught["images.0.projector"].reshape(projected.shape), projected)
    assert_close(caught["embedding.images"][0, images[0].places], projected.reshape(12, -1))
