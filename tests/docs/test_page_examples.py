"""chat.md, comparing.md and taps.md: their Python runs as it stands, and their commands are ones."""

import re
import shlex
from pathlib import Path
from typing import Any

import conversations
import numpy as np
import pytest
from PIL import Image
from small_seeing import picture, small_seeing_model

import tinystar_np as ts
from tinystar_np.cli.parsers import COMMANDS, tinystar_parser

talking = conversations.talking
_a_context_for_a_conversation = conversations._a_context_for_a_conversation

DOCS = Path(__file__).parents[2] / "docs"
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[str]:
    return PYTHON.findall((DOCS / page).read_text(encoding="utf-8"))


@pytest.fixture
def stories() -> dict[str, Any]:
    """What the pages' examples take as given."""
    model, tokenizer = ts.load("stories")
    ids, other_ids = (tokenizer.encode(text) for text in ("Once upon a time there", "One day a little girl"))
    return {"ts": ts, "model": model, "tokenizer": tokenizer, "ids": ids, "other_ids": other_ids}


def test_recording_and_changing(stories: dict[str, Any]) -> None:
    recording, each_call, changing, _ = blocks("taps.md")
    exec(recording, stories)
    assert stories["caught"]["blocks.3.residual"].shape == (1, 5, 192)
    exec(each_call, stories)
    assert stories["caught"].calls[1]["blocks.3.residual"].shape == (1, 1, 192)
    stories["direction"] = np.ones(192, dtype=np.float32)
    exec(changing, stories)
    assert stories["clean"]["blocks.2.residual"].shape == (1, 5, 192)


def test_recording_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture(40, 60)).save(tmp_path / "cat.jpg")
    monkeypatch.chdir(tmp_path)
    small_seeing_model(tmp_path / "seeing")
    model, processor = ts.load(tmp_path / "seeing")
    names = {"ts": ts, "model": model, "processor": processor}
    exec(blocks("taps.md")[3], names)
    assert "images.0.vectors" in list(names["caught"])


def test_comparing_two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("original", "converted")):
        ts.TinyStar(ts.TinyStarConfig(hidden_size=32, num_layers=2, num_heads=4), seed=seed).save(name)
    (example,) = blocks("comparing.md")
    names: dict[str, Any] = {"ts": ts}
    exec(example, names)
    assert names["found"].tensors
    assert names["found"].activations


def test_a_conversation(talking: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    loaded = talking()
    monkeypatch.setattr(ts, "load", lambda name: loaded)
    (example,) = blocks("chat.md")
    exec(example, {})
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_every_command_is_one(page: Path) -> None:
    """Each has the options and arguments that the page gives it."""
    for block in SHELL.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.partition("|")[2] or line, comments=True)
            if words[:1] == ["lm_eval"]:
                continue  # for which tinystar is a model
            while words and words[0].rpartition("/")[2] != "tinystar":
                del words[0]
            if words:
                assert words[1] in COMMANDS, line
                tinystar_parser().parse_args(words[1:])
