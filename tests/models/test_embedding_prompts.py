"""CLIP and SigLIP from a directory of the hub: how well words and pictures fit, as by transformers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import assert_close
from PIL import Image
from small_embedding import small_files, small_tokenizer
from small_seeing import picture
from transformers import PreTrainedTokenizerFast

import tinystar_np as ts
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import CheckpointError, InputError, TokenizerError

TEXTS = ["a photo of a cat", "two dog cats .", "a"]
PICTURES = [picture(40, 60), picture(31, 20, seed=1)]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_words_and_pictures(kind: str, tmp_path: Path) -> None:
    reference, theirs = small_files(kind, tmp_path)
    padding = {"clip": True, "siglip": "max_length"}[kind]
    pictures = [Image.fromarray(image) for image in PICTURES]
    given = theirs(text=TEXTS, images=pictures, padding=padding, return_tensors="pt")
    with torch.no_grad():
        # SigLIP is given no attention mask: it has learned from padded texts without one.
        expected = reference(input_ids=given["input_ids"], pixel_values=given["pixel_values"])
    model, processor = ts.load(tmp_path, dtype="float32")
    ids = [processor.encode(text) for text in TEXTS]
    pixels = [processor.pixels(image) for image in PICTURES]
    np.testing.assert_array_equal(np.concatenate([each.tiles for each in pixels]), given["pixel_values"])
    for row, padded in zip(ids, given["input_ids"].tolist(), strict=True):
        assert padded[: len(row)] == row
        assert kind == "clip" or len(row) == 12
    found = model.similarity(model.embed_text(ids), model.embed_image(pixels))
    assert_close(found, expected.logits_per_image.numpy())


def test_a_picture_in_a_file(tmp_path: Path) -> None:
    small_files("clip", tmp_path)
    Image.fromarray(PICTURES[0]).save(tmp_path / "cat.png")
    model, processor = ts.load(tmp_path)
    from_file = model.embed_image(processor.pixels(tmp_path / "cat.png"))
    np.testing.assert_array_equal(from_file, model.embed_image(processor.pixels(PICTURES[0])))


def test_without_a_word_of_how_pictures_are_prepared(tmp_path: Path) -> None:
    small_files("clip", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    _, processor = ts.load(tmp_path)
    assert processor.encode("a cat")
    with pytest.raises(CheckpointError, match=r"has no preprocessor_config\.json"):
        processor.pixels(picture(20, 20))


def test_padding_of_siglip(tmp_path: Path) -> None:
    small_files("siglip", tmp_path)
    _, processor = ts.load(tmp_path)
    assert processor.encode("a cat") == [2, 5, 210] + [1] * 9
    with pytest.raises(InputError, match=r"The text has 13 tokens, but the model reads 12\. Shorten it"):
        processor.encode("a " * 12)
    # A token that the tokenizer names goes before config.json's number.
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<start>"}))
    assert ts.load(tmp_path)[1].encode("a cat")[-1] == 0
    for side, expected in (("left", [0] * 9 + [2, 5, 210]), ("right", [2, 5, 210] + [0] * 9)):
        settings = {"pad_token": "<start>", "padding_side": side}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        theirs = PreTrainedTokenizerFast(tokenizer_object=small_tokenizer(begins=False), **settings)
        assert theirs("a cat", padding="max_length", max_length=12)["input_ids"] == expected
        assert ts.load(tmp_path)[1].encode("a cat") == expected
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"padding_side": ["up"]}))
    with pytest.raises(TokenizerError, match=r"padding_side is \['up'\], but it must be left or right"):
        ts.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert ts.load(tmp_path)[1].encode("a cat")[-1] == 1
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["pad_token_id"] = None
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TokenizerError, match="no file names a pad_token; texts are padded to 12 tokens"):
        ts.load(tmp_path)[1].encode("a cat")


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_it_writes_nothing(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_files(kind, tmp_path)
    model, processor = ts.load(tmp_path)
    message = "embeds texts and images, it does not write.\nWhat it gives: model.embed_text"
    for call in (
        lambda: ts.generate(model, processor, "a cat"),
        lambda: ts.generate(model, processor, ["a cat", "a"]),
        lambda: ts.generate(model, processor, "a cat", images=[PICTURES[0]]),
        lambda: list(ts.stream(model, processor, "a cat")),
        lambda: ts.Conversation(model, processor),
    ):
        with pytest.raises(InputError, match=message):
            call()
    Image.fromarray(PICTURES[0]).save(tmp_path / "cat.png")
    for command in (
        ["ask", "-m", str(tmp_path), "a cat"],
        ["ask", "-m", str(tmp_path), "--image", str(tmp_path / "cat.png"), "a cat"],
        ["chat", "-m", str(tmp_path)],
        ["bench", "-m", str(tmp_path)],
        ["look", "-m", str(tmp_path), "a cat"],
        ["compare", str(tmp_path), "a cat"],
    ):
        assert tinystar(command) == 1
        assert "embeds texts and images, it does not write" in capsys.readouterr().err
    assert tinystar(["convert", str(tmp_path), str(tmp_path / "new"), "--dtype", "int8"]) == 1
    assert "embeds texts and images and does not write" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_inspect(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference, _ = small_files(kind, tmp_path)
    parameters = sum(p.numel() for p in reference.parameters())
    of_text = sum(p.numel() for name, p in reference.text_model.named_parameters() if "head." not in name)
    of_image = sum(p.numel() for p in reference.vision_model.parameters())
    assert tinystar(["inspect", str(tmp_path), "--check"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{kind}, which embeds texts and images" in said
    assert f"({parameters:,})" in said
    assert "28 × 28 pixels; 4 × 4 patches of 7 × 7" in said
    assert ("filled up to that with padding" in said) == (kind == "siglip")
    assert "tensors fit config.json by name and shape: none missing, none unknown" in said
    assert tinystar(["inspect", str(tmp_path), "--check", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] == parameters
    assert facts["text"]["parameters"] == of_text
    assert facts["image"]["parameters"] == of_image
    assert facts["text"]["mixer"]["causal"] == (kind == "clip")
    assert facts["image"]["layers"] == 2
    assert facts["check"]["missing"] == []
    (tmp_path / "model.safetensors").unlink()
    assert tinystar(["inspect", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stored"] is None


def test_models_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tinystar(["models", "--cache-dir", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["embedding"] == ["clip", "siglip"]
    assert tinystar(["models", "--cache-dir", str(tmp_path)]) == 0
    assert "2021  clip " in capsys.readouterr().out
    assert tinystar(["models", "siglip"]) == 0
    assert capsys.readouterr().out.startswith("SigLIP (Zhai et al. 2023")
