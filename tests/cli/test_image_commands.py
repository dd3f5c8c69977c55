"""The commands with images: ask, chat, convert, inspect --check, compare, models."""

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from small_seeing import picture, small_seeing_model

import tinystar_np as ts
from tinystar_np.cli.image_option import SEEING_MODEL, settle_seeing_model
from tinystar_np.cli.main import ask_gpt2, tinystar
from tinystar_np.cli.parsers import tinystar_parser

GREEDY = ["--temperature", "0", "-n", "8"]


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that sees, and two pictures beside it."""
    directory = tmp_path_factory.mktemp("seeing")
    small_seeing_model(directory)
    for name, seed in (("a", 1), ("b", 2)):
        Image.fromarray(picture(40, 60, seed)).save(directory / f"{name}.png")
    return directory


def answered(directory: Path, text: str, *names: str) -> str:
    """The answer that a conversation gives."""
    talk = ts.Conversation(*ts.load(directory))
    images = [directory / f"{name}.png" for name in names]
    return "".join(p.text for p in talk.say(text, images=images, max_new_tokens=8, temperature=0.0))


def images(directory: Path, *names: str) -> list[str]:
    return [word for name in names for word in ("--image", str(directory / f"{name}.png"))]


def test_ask_answers_by_the_template(seeing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ask", "-m", str(seeing), *images(seeing, "a", "b"), *GREEDY, "What is it?"]
    assert tinystar(words) == 0
    assert capsys.readouterr().out == answered(seeing, "What is it?", "a", "b") + "\n"
    assert tinystar([*words, "--json", "--stats"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["text"] == answered(seeing, "What is it?", "a", "b")
    assert "prompt" in err


def test_chat_with_one_question(seeing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tinystar(["chat", "-m", str(seeing), *images(seeing, "a"), *GREEDY, "What is it?"]) == 0
    assert capsys.readouterr().out == answered(seeing, "What is it?", "a") + "\n"


def test_chat_shows_pictures(
    seeing: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from io import BytesIO, TextIOWrapper

    lines = f"/image {seeing / 'a.png'}\nWhat is it?\n/image no.png\n"
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(lines.encode())))
    assert tinystar(["chat", "-m", str(seeing), *GREEDY]) == 1
    out, err = capsys.readouterr()
    assert out == answered(seeing, "What is it?", "a") + "\n"
    assert "a.png stands before the next message" in err
    assert "no.png: there is no such file" in err


def test_the_model_that_sees_is_the_usual_one(seeing: Path) -> None:
    for words, model in (
        ([*images(seeing, "a"), "What?"], SEEING_MODEL),
        ([*images(seeing, "a"), "-m", "stories", "What?"], "stories"),
        (["What?"], "stories"),
    ):
        arguments = tinystar_parser().parse_args(["ask", *words])
        settle_seeing_model(arguments)
        assert arguments.model == model


def test_without_pillow_nothing_is_loaded_or_downloaded(
    seeing: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    for words in (["ask", *images(seeing, "a"), "What?"], ["chat", *images(seeing, "a"), "What?"]):
        assert tinystar(words) == 1  # of a model that is on no disk
        assert "pip install 'tinystar_np[vision]'" in capsys.readouterr().err
    assert tinystar(["ask", "-m", str(seeing), *GREEDY, "What?"]) == 0


def test_a_picture_in_a_conversation_that_goes_on(
    seeing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its model goes on, and not the one that is usual where there are images."""
    talk = str(tmp_path / "talk.json")
    assert tinystar(["chat", "-m", str(seeing), *images(seeing, "a"), *GREEDY, "--save", talk, "Hm?"]) == 0
    words = ["chat", "--resume", talk, *images(seeing, "b"), *GREEDY, "And this?"]
    capsys.readouterr()
    assert tinystar(words) == 0
    conversation = ts.Conversation(*ts.load(seeing))
    for text, name in (("Hm?", "a"), ("And this?", "b")):
        image = seeing / f"{name}.png"
        pieces = conversation.say(text, images=[image], max_new_tokens=8, temperature=0.0)
        answer = "".join(piece.text for piece in pieces)
    assert capsys.readouterr().out == answer + "\n"


def test_what_cannot_be_asked(seeing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = str(seeing / "a.png")
    for words, message in (
        (["ask", "-m", "stories", "--image", a, "What?"], "GPT2 reads text alone"),
        (["chat", "-m", str(seeing), "--image", a], "--image needs a question"),
        (["ask", "-m", str(seeing), "--image", "no.png", "What?"], "no.png: there is no such file"),
        (["ask", "--image", "https://example.org/a.png", "What?"], "addresses are not opened"),
        (["ask", "-m", str(seeing), "--image", __file__, "What?"], "test_image_commands.py"),
    ):
        assert tinystar(words) in (1, 2)
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):  # GPT-2 sees nothing
        ask_gpt2(["--image", a, "What?"])


def test_a_converted_model_still_sees(
    seeing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tinystar(["convert", str(seeing), str(tmp_path / "new"), "--dtype", "int8"]) == 0
    prompt = ts.load(seeing)[1].prompt("<image>What is it?", [seeing / "a.png"])
    whole, rounded = (
        ts.load(path)[0](prompt.ids, images=prompt.images) for path in (seeing, tmp_path / "new")
    )
    assert 0 < abs(whole - rounded).max() < 0.1 * abs(whole).max()
    capsys.readouterr()


def test_check_holds_the_vision_part_too(
    seeing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tinystar(["inspect", str(seeing), "--check"]) == 0
    tensors = load_file(seeing / "model.safetensors")
    assert f"{len(tensors)} tensors fit config.json" in capsys.readouterr().out
    for file in seeing.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    lost = next(name for name in tensors if "post_layernorm.bias" in name)
    del tensors[lost]
    save_file(tensors, tmp_path / "model.safetensors")
    assert tinystar(["inspect", str(tmp_path), "--check"]) == 1
    assert "post_layernorm.bias: missing" in capsys.readouterr().out
    with pytest.raises(ts.TinyStarError, match=r"lacks 'post_layernorm\.bias'"):
        ts.load(tmp_path)


def test_compare_the_text_part(seeing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    assert tinystar(["compare", str(seeing), "Hello there"]) == 0
    out = capsys.readouterr().out
    assert int(out.split("All ")[1].split()[0]) > 40  # activations


def test_of_a_moving_picture_the_first_is_shown_and_a_note_says_so(
    seeing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (Image.fromarray(picture(30, 30, seed)) for seed in (1, 2))
    first.save(tmp_path / "moving.gif", save_all=True, append_images=[second])
    words = ["-m", str(seeing), "--image", str(tmp_path / "moving.gif"), *GREEDY, "What?"]
    for command in ("ask", "chat"):
        assert tinystar([command, *words]) == 0
        assert "moving.gif: has several pictures; the first is used" in capsys.readouterr().err


def test_models_lists_those_that_see(capsys: pytest.CaptureFixture[str]) -> None:
    assert tinystar(["models"]) == 0
    assert "smolvlm" in capsys.readouterr().out
    assert tinystar(["models", "smolvlm"]) == 0
    assert "pixel shuffle" in capsys.readouterr().out
    assert tinystar(["models", "--json"]) == 0
    assert "smolvlm" in json.loads(capsys.readouterr().out)["with_images"]
