"""CLIP and SigLIP by themselves against transformers: texts, images, and how well they fit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, edit_config, random_ids, save
from safetensors.numpy import load_file, save_file
from small_embedding import END, LENGTH, V, small_model
from transformers import CLIPConfig, CLIPModel, PreTrainedModel, SiglipConfig
from vision_parity import VISION, random_pixels

import tinystar_np as ts
from tinystar_np.errors import CheckpointError, ConfigError, InputError
from tinystar_np.fast.mapped import on_file
from tinystar_np.models.clip import ClipConfig, ClipTextConfig
from tinystar_np.models.siglip import SiglipTextConfig


def texts(rows: int = 3, length: int = LENGTH) -> np.ndarray:
    """Texts that end somewhere, with padding after that."""
    ids = random_ids(rows, length, vocabulary=END)
    for row in range(rows):
        ids[row, length - 1 - 2 * row :] = END
    return ids


def check_embeddings(reference: PreTrainedModel, directory: Path, size: tuple[int, int] = (28, 28)) -> Any:
    """Hold the model in ``directory`` against ``reference``; returns ours."""
    model, processor = ts.load(directory, dtype="float32")
    assert processor is None
    C = reference.config.vision_config.num_channels
    ids, images = texts(), [random_pixels(1, C, *size, seed=n) for n in range(2)]
    other = size != (28, 28)
    tiles = torch.tensor(np.concatenate([image.tiles for image in images]))
    with torch.no_grad():
        expected = reference(torch.tensor(ids), tiles, interpolate_pos_encoding=other)
        raw_text = reference.get_text_features(torch.tensor(ids)).pooler_output
        raw_image = reference.get_image_features(tiles, interpolate_pos_encoding=other).pooler_output
    text, image = model.embed_text(ids), model.embed_image(images, interpolate=other)
    assert_close(text, expected.text_embeds.numpy(), what="texts")
    assert_close(image, expected.image_embeds.numpy(), what="images")
    assert_close(model.embed_text(ids, unit_length=False), raw_text.numpy(), what="texts of any length")
    assert_close(
        model.embed_image(images, unit_length=False, interpolate=other), raw_image.numpy(), what="any length"
    )
    found = model.similarity(text, image)
    assert_close(found, expected.logits_per_image.numpy(), what="similarity")
    assert_close(model.similarity(7 * text, 0.1 * image), found, what="of other lengths")
    assert_close(model.embed_text(ids[0]), text[:1], what="one text")
    assert_close(model.embed_image(images[1], interpolate=other), image[1:], what="one image")
    assert_close(model.similarity(text[1], image[0]), found[:1, 1:2], what="one of each")
    theirs = expected.logits_per_image
    probable = theirs.softmax(dim=1) if isinstance(reference, CLIPModel) else torch.sigmoid(theirs)
    assert_close(model.probabilities(text, image), probable.numpy(), what="probabilities")
    return model


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_texts_and_images(kind: str, tmp_path: Path) -> None:
    reference = small_model(kind)
    model = check_embeddings(reference, save(reference, tmp_path))
    assert model.parameters == sum(p.numel() for p in reference.parameters())


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize(
    "settings",
    [
        {"text": {"hidden_act": "relu"}},
        {"text": {"layer_norm_eps": 0.1}},
        {"text": {"num_attention_heads": 2}},
        {"text": {"num_hidden_layers": 1, "intermediate_size": 7}},
        {"vision": {"hidden_act": "relu"}},
        {"vision": {"layer_norm_eps": 0.1}},
        {"vision": {"patch_size": 14, "num_channels": 1}},
    ],
    ids=str,
)
def test_every_switch(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    reference = small_model(kind, **settings)
    check_embeddings(reference, save(reference, tmp_path))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("size", [(28, 49), (42, 28), (14, 56), (30, 33)], ids=str)
def test_images_of_other_sizes(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    reference = small_model(kind)
    check_embeddings(reference, save(reference, tmp_path), size)


def test_texts_of_several_lengths(tmp_path: Path) -> None:
    model, _ = ts.load(save(small_model("clip"), tmp_path))
    padded = texts()
    ends = (padded == END).argmax(axis=1)
    alone = [row[: end + 1].tolist() for row, end in zip(padded, ends, strict=True)]
    assert len({len(row) for row in alone}) > 1
    assert_close(model.embed_text(alone), model.embed_text(padded))


def test_the_end_of_a_text_in_the_first_files(tmp_path: Path) -> None:
    """There eos_token_id is 2, and the end is where the largest id is."""
    reference = small_model("clip", text={"eos_token_id": 2})
    check_embeddings(reference, save(reference, tmp_path))
    model, _ = ts.load(tmp_path)
    ids = random_ids(2, 9, vocabulary=150)
    with torch.no_grad():
        expected = reference.get_text_features(torch.tensor(ids)).pooler_output.numpy()
    assert_close(model.embed_text(ids, unit_length=False), expected)


def test_many_images(tmp_path: Path) -> None:
    """More than are encoded together, and of several sizes."""
    model, _ = ts.load(save(small_model("clip"), tmp_path))
    images = [random_pixels(1, 3, 28, 28, seed=n) for n in range(19)]
    alone = np.concatenate([model.embed_image(image) for image in images])
    assert_close(model.embed_image(images), alone)
    other = random_pixels(1, 3, 28, 49)
    mixed = model.embed_image([images[0], other, images[1]], interpolate=True)
    assert_close(mixed[[0, 2]], alone[:2])
    assert_close(mixed[1:2], model.embed_image(other, interpolate=True))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_in_memory(kind: str, tmp_path: Path) -> None:
    mapped, _ = ts.load(save(small_model(kind), tmp_path))
    copied, _ = ts.load(tmp_path, in_memory=True)
    assert on_file(mapped.blocks[0].feed_forward.up.weight)
    for each in (copied, copied.encoder):
        assert not on_file(each.blocks[0].feed_forward.up.weight)
    assert_close(copied.embed_text(texts()), mapped.embed_text(texts()))
    image = random_pixels(1, 3, 28, 28)
    assert_close(copied.embed_image(image), mapped.embed_image(image))


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_narrow_types(kind: str, dtype: str, tmp_path: Path) -> None:
    reference = small_model(kind)
    model, _ = ts.load(save(reference, tmp_path), dtype=dtype)
    exact, _ = ts.load(tmp_path, dtype="float32")
    cosines = np.sum(model.embed_text(texts()) * exact.embed_text(texts()), axis=1)
    assert (cosines > 0.99).all()
    assert not np.array_equal(model.embed_text(texts()), exact.embed_text(texts()))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_names_of_the_hubs_files(kind: str, tmp_path: Path) -> None:
    """Older ones have a buffer of positions, and CLIP's have the parts' keys twice."""
    reference = small_model(kind)
    path = save(reference, tmp_path) / "model.safetensors"
    tensors = load_file(path)
    assert "text_model.encoder.layers.0.self_attn.q_proj.weight" in tensors
    assert "vision_model.encoder.layers.0.self_attn.q_proj.weight" in tensors
    for part, count in (("text_model", LENGTH), ("vision_model", 17)):
        tensors[f"{part}.embeddings.position_ids"] = np.arange(count)[None]
    save_file(tensors, path)
    check_embeddings(reference, tmp_path)
    if kind == "clip":
        config = json.loads((tmp_path / "config.json").read_text())
        wrong = {"num_hidden_layers": 7, "hidden_act": "relu"}
        edit_config(
            tmp_path,
            text_config_dict=config["text_config"],
            vision_config_dict=config["vision_config"],
            text_config={**config["text_config"], **wrong},
            vision_config={**config["vision_config"], **wrong},
        )
        assert CLIPConfig.from_pretrained(tmp_path).text_config.num_hidden_layers == 3
        check_embeddings(reference, tmp_path)


def test_defaults_are_those_of_transformers() -> None:
    clip, siglip = CLIPConfig(), SiglipConfig()
    assert vars(ClipTextConfig()).items() <= clip.text_config.to_dict().items()
    ours = vars(SiglipTextConfig())
    assert {**ours, "projection_size": 768}.items() <= siglip.text_config.to_dict().items()
    assert ClipConfig.from_dict({}).projection_dim == clip.projection_dim
    assert SiglipTextConfig().sizes["P"] == siglip.text_config.projection_size


def test_published_configs() -> None:
    """What clip-vit-large-patch14's says, and how many weights that is."""
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "patch_size": 14}
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
    raw = {
        "model_type": "clip",
        "projection_dim": 768,
        "text_config_dict": {**text, "projection_dim": 768},
        "vision_config_dict": {**vision, "num_hidden_layers": 24, "projection_dim": 768},
    }
    config = ClipConfig.from_dict(raw)
    theirs = CLIPConfig(**{name: value for name, value in raw.items() if name != "model_type"})
    with torch.device("meta"):
        reference = CLIPModel(theirs)
    assert config.text.hidden_size == reference.config.text_config.hidden_size == 768
    assert config.text.eos_token_id == reference.config.text_config.eos_token_id == 49407
    assert config.vision.num_hidden_layers == len(reference.vision_model.encoder.layers) == 24


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("clip", {"projection_dim": 0}, "projection_dim = 0 makes P = 0"),
        ("clip", {"text_config": {"hidden_act": "bend"}}, "config.json, text_config: hidden_act = 'bend'"),
        (
            "clip",
            {"text_config": {"eos_token_id": [2]}},
            r"text_config: eos_token_id = \[2\], but it",
        ),
        ("clip", {"text_config": {"model_type": "bert"}}, "text_config.model_type = 'bert', but it must be"),
        ("clip", {"vision_config": {"patch_size": 0}}, "config.json, vision_config: patch_size = 0"),
        ("clip", {"vision_config": [3]}, r"vision_config = \[3\], but it must be"),
        ("siglip", {"vision_config": {**VISION, "vision_use_head": False}}, "vision_use_head = False, but"),
        ("siglip", {"vision_config": {**VISION, "hidden_size": 12}}, "texts get 24 numbers.*and images 12"),
        ("siglip", {"text_config": {"num_attention_heads": 5}}, "text_config: hidden_size = 768 cannot be"),
    ],
    ids=str,
)
def test_refused_configs(kind: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    edit_config(save(small_model(kind), tmp_path), **changes)
    with pytest.raises(ConfigError, match=message):
        ts.load(tmp_path)


def test_refused_arguments(tmp_path: Path) -> None:
    model, _ = ts.load(save(small_model("clip"), tmp_path))
    image = random_pixels(1, 3, 28, 35)
    for call, message in [
        (lambda: model.embed_text([5, V]), "token id 211 is outside the vocabulary, 0 to 210"),
        (lambda: model.embed_text([[5, END], [-1]]), "token id -1 is outside"),
        (lambda: model.embed_text([]), "at least one for each text"),
        (lambda: model.embed_text([[]]), "at least one for each text"),
        (lambda: model.embed_text([1.5, 2.0]), "ids must be whole numbers"),
        (lambda: model.embed_text(list(range(13))), "A text has 13 tokens, but Clip reads 12 at most"),
        (lambda: model.embed_text([5, 6, 7]), "A text has no end token, 210"),
        (lambda: model.embed_image([]), "no image"),
        (lambda: model.embed_image(image), "28 × 35 pixels, but this encoder reads 28 × 28"),
        (lambda: model.similarity(np.ones((2, 19)), np.ones((3, 20))), r"text has shape \(2, 19\), but must"),
        (lambda: model.similarity(np.ones(20), np.ones((2, 3, 4))), r"image has shape \(2, 3, 4\), but"),
    ]:
        with pytest.raises(InputError, match=message):
            call()


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_tensor_that_is_missing_or_unknown(kind: str, tmp_path: Path) -> None:
    path = save(small_model(kind), tmp_path) / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "audio.weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(CheckpointError, match=r"it has 'audio\.weight', which this architecture"):
        ts.load(tmp_path)
    del tensors["logit_scale"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="it lacks 'logit_scale'"):
        ts.load(tmp_path)


def test_taps(tmp_path: Path) -> None:
    model, _ = ts.load(save(small_model("clip"), tmp_path))
    with ts.record() as caught:
        model.embed_text(texts())
        model.embed_image([random_pixels(1, 3, 28, 28, seed=n) for n in range(2)])
    assert caught["text.blocks.2.attention.probabilities"].shape == (3, 4, LENGTH, LENGTH)
    assert caught["image.encoder.blocks.1.residual"].shape == (2, 17, 24)
    assert caught["text.vectors"].shape == (3, 20)
    assert caught["image.vectors"].shape == (2, 20)


def test_it_does_not_write(tmp_path: Path) -> None:
    model, _ = ts.load(save(small_model("clip"), tmp_path))
    message = "Clip embeds texts and images, it does not write.\nWhat it gives: model.embed_text"
    for call in (
        lambda: model([1, 2]),
        lambda: model.new_cache(),
        lambda: ts.generate_ids(model, [1, 2, END]),
        lambda: ts.generate_ids(model, [[1, 2], [3]]),
    ):
        with pytest.raises(InputError, match=message):
            call()
