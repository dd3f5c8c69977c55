"""docs/images.md: its examples run as they stand, and do what the page says."""

import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close
from PIL import Image
from small_embedding import small_files
from small_seeing import picture, small_seeing_model

import tinystar_np as ts
from tinystar_np.cli.parsers import tinystar_parser

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
SEEING, EMBEDDING = "HuggingFaceTB/SmolVLM-256M-Instruct", "openai/clip-vit-base-patch32"


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the names of the page be those of small models, in a folder that has its pictures."""
    small_seeing_model(tmp_path / "seeing")
    small_files("clip", tmp_path / "clip")
    directories = {SEEING: tmp_path / "seeing", EMBEDDING: tmp_path / "clip"}
    load = ts.load
    monkeypatch.setattr(ts, "load", lambda name: load(directories[name]))
    for seed, name in enumerate(("a", "b", "c", "cat")):
        Image.fromarray(picture(40, 60, seed=seed)).save(tmp_path / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples(loaded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written, pieces, fitting = BLOCK.findall((DOCS / "images.md").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    with ts.record("images.*.vectors", every_call=True) as caught:
        exec(written, names)
    assert len(caught.calls) == 2  # of ts.generate and of the conversation's first question, and no more
    assert [message["role"] for message in names["talk"].messages] == ["user", "assistant"] * 2
    assert names["talk"].messages[-1]["content"] in capsys.readouterr().out

    exec(pieces, names)
    model, ids = names["model"], names["prompt"].ids
    assert names["logits"].shape == (len(ids), model.vocab_size)
    assert len(ids) > 20
    whole = model([*ids, 7], images=names["prompt"].images)
    assert_close(model([7], cache=names["cache"]), whole[-1:], what="after the pieces")
    assert_close(names["logits"], whole[:-1], what="the prompt at once")

    exec(fitting, names)
    model, texts, images = names["model"], names["texts"], names["images"]
    found = model.similarity(texts, images)
    assert found.shape == (3, 2)
    assert str(found) in capsys.readouterr().out
    assert_close(images @ texts.T * model.scale, found, what="a search by one product")
    assert_close(model.probabilities(texts, images).sum(axis=1), np.ones(3), what="which of these texts")


def test_the_reading_list_is_what_runs(loaded: Path) -> None:
    """Each of its files takes part in reading an image, and has what is named there."""
    text = (DOCS / "images.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([\w/]+\.py)` \| (.+) \|$", text, re.MULTILINE)
    model, processor = ts.load(SEEING)
    package, ran = Path(ts.__file__).parent, set()

    def note(frame: Any, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(package):
            ran.add(path.relative_to(package).as_posix())

    sys.settrace(note)
    try:
        prompt = processor.prompt("<image>What is this?", ["cat.jpg"])
        model(prompt.ids, images=prompt.images)
    finally:
        sys.settrace(None)
    # SmolVLM's file is Idefics3's but for what it is called, and the small model is an Idefics3.
    ran = {file.replace("models/idefics3.py", "models/smolvlm.py") for file in ran}
    assert len(listed) == 6
    assert {file for file, _ in listed} <= ran
    for file, words in listed:
        for name in re.findall(r"`(\w+(?:\.\w+)?)`", words):
            found: Any = import_module(f"tinystar_np.{file.removesuffix('.py').replace('/', '.')}")
            for part in name.split("."):
                found = getattr(found, part)


def test_the_commands_are_ones() -> None:
    """Each has the options and arguments that the page gives it."""
    text = (DOCS / "images.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\.venv/bin/tinystar (.+)$", text, re.MULTILINE)
    images = [tinystar_parser().parse_args(shlex.split(command)).image for command in commands]
    assert [[path.name for path in each] for each in images] == [
        ["cat.jpg"],
        ["before.png", "after.png"],
        [],
    ]
