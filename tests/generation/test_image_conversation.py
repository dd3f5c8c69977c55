"""Conversations with images: as transformers answers the whole text, with every image read once."""

import json
import os
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_seeing import picture, small_seeing_model, their_answer

import tinystar_np as ts
from tinystar_np.errors import InputError
from tinystar_np.generation.saved_conversation import read_conversation, resume, save_conversation

GREEDY: dict[str, Any] = {"max_new_tokens": 7, "temperature": 0.0}
PICTURES = {name: picture(30 + 9 * n, 60, seed=n) for n, name in enumerate("abc")}


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """Our model and processor, and transformers'."""
    directory = tmp_path_factory.mktemp("seeing")
    reference, theirs = small_seeing_model(directory)
    return *ts.load(directory), reference, theirs


@pytest.fixture
def tiles_read(seeing: tuple, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tiles the encoder reads, call by call."""
    counted: list[int] = []
    kind = type(seeing[0].vision)
    encode = kind.of_tiles
    monkeypatch.setattr(kind, "of_tiles", lambda self, t: counted.append(len(t)) or encode(self, t))
    return counted


def said(pieces: Any) -> str:
    return "".join(piece.text for piece in pieces)


def test_images_in_any_turn(seeing: tuple, tiles_read: list[int]) -> None:
    model, processor, reference, theirs = seeing
    talk = ts.Conversation(model, processor)
    turns = [("Hello", []), ("What is it?", ["a"]), ("And these?", ["b", "c"]), ("Bye", [])]
    messages: list[dict[str, Any]] = []
    shown: list[np.ndarray] = []
    for text, names in turns:
        images = [PICTURES[name] for name in names]
        answer = said(talk.say(text, images=images, **GREEDY))
        parts = [{"type": "image"} for _ in images]
        messages.append({"role": "user", "content": [*parts, {"type": "text", "text": text}]})
        shown += images
        prompt = theirs.apply_chat_template(messages, add_generation_prompt=True)
        ids, expected = their_answer(reference, theirs, prompt, shown, tokens=GREEDY["max_new_tokens"])
        assert answer == expected
        assert talk.tokens_read < len(ids) or len(messages) == 1
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    tiles = [len(processor.pixels(PICTURES[name]).tiles) for name in "abc"]
    assert sum(tiles_read) == sum(tiles)  # each of them once


def test_another_image_in_the_same_place_is_read(seeing: tuple) -> None:
    model, processor, *_ = seeing
    same = picture(30, 60, seed=8), picture(30, 60, seed=9)  # of one size: the ids are the same
    talk = ts.Conversation(model, processor)
    said(talk.say("What is it?", images=[same[0]], **GREEDY))
    talk.undo()
    second = said(talk.say("What is it?", images=[same[1]], **GREEDY))
    fresh = ts.Conversation(model, processor)
    assert second == said(fresh.say("What is it?", images=[same[1]], **GREEDY))
    assert talk.read.cache is not None
    np.testing.assert_array_equal(talk.read.cache.images[0][0].vectors, fresh.read.cache.images[0][0].vectors)


def test_again_undone_and_continued(seeing: tuple, tiles_read: list[int]) -> None:
    model, processor, *_ = seeing
    talk = ts.Conversation(model, processor)
    first = said(talk.say("What is it?", images=[PICTURES["a"]], **GREEDY))
    read = sum(tiles_read)
    assert said(talk.answer_again(**GREEDY)) == first
    said(talk.answer_again(max_new_tokens=3, temperature=0.0))
    assert said(talk.continue_answer(max_new_tokens=4, temperature=0.0)) == first[-4:]
    assert talk.undo() == "What is it?"
    assert talk.messages == []
    assert sum(tiles_read) == read


def test_messages_of_ones_own(seeing: tuple, tmp_path: Path) -> None:
    """Parts in every spelling of an image."""
    model, processor, *_ = seeing
    file = tmp_path / "a.png"
    Image.fromarray(PICTURES["a"]).save(file)
    import base64

    encoded = base64.b64encode(file.read_bytes()).decode()
    expected = said(ts.Conversation(model, processor).say("Hm?", images=[PICTURES["a"]], **GREEDY))
    for part in (
        {"image": str(file)},
        {"path": str(file)},
        {"url": f"file://{file}"},
        {"base64": encoded},
        {"url": f"data:image/png;base64,{encoded}"},
        {"image": PICTURES["a"]},
    ):
        talk = ts.Conversation(model, processor)
        content = [{"type": "image", **part}, {"type": "text", "text": "Hm?"}]
        talk.messages = [{"role": "user", "content": content}]
        assert said(talk.answer_again(**GREEDY)) == expected


@pytest.mark.parametrize("named", [True, False], ids=["a file", "an array"])
def test_saved_and_resumed(named: bool, seeing: tuple, tmp_path: Path) -> None:
    model, processor, *_ = seeing
    image: Any = PICTURES["b"]
    if named:
        image = tmp_path / "b.png"
        Image.fromarray(PICTURES["b"]).save(image)
    talk = ts.Conversation(model, processor)
    said(talk.say("What is it?", images=[image], **GREEDY))
    save_conversation(talk, tmp_path / "talk.json", with_cache=True)
    assert talk._repr_html_().count("[image]") == 1
    then = said(talk.say("Sure?", **GREEDY))
    saved = read_conversation(tmp_path / "talk.json")
    part = json.loads((tmp_path / "talk.json").read_text())["messages"][0]["content"][0]
    assert part.keys() == {"type", "path" if named else "base64"}
    again = ts.Conversation(model, processor)
    assert resume(again, saved, tmp_path / "talk.json", model) is None
    assert said(again.say("Sure?", **GREEDY)) == then


def test_marks_in_a_message_are_the_places_of_its_images(seeing: tuple) -> None:
    model, processor, reference, theirs = seeing
    for text, names in (("Is <image> like <image>?", "ab"), ("<image>", "c"), ("See <image>", "a")):
        images = [PICTURES[name] for name in names]
        parts: list[dict[str, str]] = []
        for n, words in enumerate(text.split("<image>")):
            parts += [{"type": "image"}] * (n > 0) + [{"type": "text", "text": words}] * bool(words)
        prompt = theirs.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
        ids, expected = their_answer(reference, theirs, prompt, images, tokens=GREEDY["max_new_tokens"])
        talk = ts.Conversation(model, processor)
        assert said(talk.say(text, images=images, **GREEDY)) == expected
        assert talk.read.ids[: len(ids)] == ids
    with pytest.raises(InputError, match=r"message has places for 2 images .* but 1 image was given"):
        talk.say("Is <image> like <image>?", images=[PICTURES["a"]])


def test_an_answer_may_be_about_the_mark(seeing: tuple) -> None:
    """In an answer the word for an image is a word: letters, and not a place that no image is given for."""
    model, processor, *_ = seeing
    answer = "SVG has <image>, and <image>."
    talk = ts.Conversation(model, processor)
    said(talk.say("What is it?", images=[PICTURES["a"]], **GREEDY))
    talk.messages[-1]["content"] = answer
    said(talk.say("Go on", **GREEDY))
    assert (
        list(talk.read.cache.images[0][0].places)
        == np.flatnonzero(np.array(talk.read.ids) == processor.image_token_id).tolist()
    )  # as many image tokens as the one image has vectors
    letters = [id for letter in answer for id in processor.encode(letter, add_special_tokens=False)]
    assert f" {' '.join(map(str, letters))} " in f" {' '.join(map(str, talk.read.ids))} "
    without = ts.Conversation(model, processor)
    without.messages = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": answer}]
    said(without.say("Go on", **GREEDY))
    assert processor.image_token_id not in without.read.ids


def test_a_folder_with_a_conversation_and_its_pictures_may_be_moved(seeing: tuple, tmp_path: Path) -> None:
    model, processor, *_ = seeing
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    Image.fromarray(PICTURES["b"]).save(old / "b.png")
    talk = ts.Conversation(model, processor)
    said(talk.say("What is it?", images=[old / "b.png"], **GREEDY))
    save_conversation(talk, old / "talk.json", with_cache=True)
    then = said(talk.say("Sure?", **GREEDY))
    old.rename(new)
    again = ts.Conversation(model, processor)
    assert resume(again, read_conversation(new / "talk.json"), new / "talk.json", model) is None
    assert said(again.say("Sure?", **GREEDY)) == then
    by_hand = {"messages": [{"role": "user", "content": [{"type": "image", "path": "b.png"}]}]}
    (new / "by hand.json").write_text(json.dumps(by_hand))
    saved = read_conversation(new / "by hand.json")
    assert saved.messages[0]["content"] == [{"type": "image", "path": str(new / "b.png")}]
    (new / "b.png").unlink()
    lost = ts.Conversation(model, processor)
    resume(lost, read_conversation(new / "talk.json"), new / "talk.json", model)
    with pytest.raises(InputError, match=r"old/b\.png: there is no such file"):
        lost.say("Sure?", **GREEDY)


def test_saved_with_a_name_that_is_no_text(seeing: tuple, tmp_path: Path) -> None:
    model, processor, *_ = seeing
    image = tmp_path / os.fsdecode(b"\xff\xe9t\xe9.png")  # as old programs and archives leave them
    with image.open("wb") as file:
        Image.fromarray(PICTURES["b"]).save(file, "PNG")
    talk = ts.Conversation(model, processor)
    answer = said(talk.say("Été?", images=[image], **GREEDY))
    save_conversation(talk, tmp_path / "talk.json")
    assert "Été?" in (tmp_path / "talk.json").read_text()
    again = ts.Conversation(model, processor)
    resume(again, read_conversation(tmp_path / "talk.json"), tmp_path / "talk.json", model)
    assert said(again.answer_again(**GREEDY)) == answer


def test_saving_an_array_without_pillow_says_what_to_install(
    seeing: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = ts.Conversation(*seeing[:2])
    content = [{"type": "image", "image": PICTURES["a"]}, {"type": "text", "text": "Hm?"}]
    talk.messages = [{"role": "user", "content": content}]
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ts.TinyStarError, match=r"tinystar_np\[vision\]"):
        save_conversation(talk, tmp_path / "talk.json")
    assert not (tmp_path / "talk.json").exists()


def test_a_full_context_leaves_images_out_with_their_turn(seeing: tuple) -> None:
    model, processor, *_ = seeing
    shifts: list[Any] = []
    talk = ts.Conversation(model, processor, context=150, when_full="shift", on_shift=shifts.append)
    for n, name in enumerate("abc"):
        said(talk.say(f"What is it? {n}", images=[PICTURES[name]], **GREEDY))
    assert shifts
    rest = ts.Conversation(model, processor, context=150)
    rest.messages = talk.messages[talk.left_out : -1]
    assert said(rest.answer_again(**GREEDY)) == talk.messages[-1]["content"]


def test_what_cannot_be_said(seeing: tuple, talking_model: Path, tmp_path: Path) -> None:
    model, processor, *_ = seeing
    talk = ts.Conversation(model, processor)
    for images, message in (
        ([tmp_path / "no.png"], "no.png"),
        ("cat.jpg", "must be a list"),
        (["https://example.org/cat.jpg"], "nothing is fetched"),
    ):
        with pytest.raises(InputError, match=message):
            talk.say("Hm?", images=images)
    with pytest.raises(InputError, match="places for 1 image"):
        talk.say("What does <image> mean?")
    for content in (7, [], [7], [{"type": "video"}], [{"type": "image"}]):
        talk.messages = [{"role": "user", "content": content}]
        with pytest.raises(InputError, match=r"part of a message|content is"):
            talk.answer_again()
    blind = ts.load(talking_model)
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (talking_model / "chat_template.jinja").write_text(template)
    blind = ts.load(talking_model)
    with pytest.raises(InputError, match="reads text alone"):
        ts.Conversation(*blind).say("Hm?", images=[PICTURES["a"]])


def test_parts_as_other_programs_write_them(seeing: tuple, tmp_path: Path) -> None:
    """OpenAI's form, base64 in lines, and addresses of files with blanks."""
    import base64

    model, processor, *_ = seeing
    file = tmp_path / "my picture.png"
    Image.fromarray(PICTURES["a"]).save(file)
    data = file.read_bytes()
    address = "data:image/png;base64," + base64.b64encode(data).decode()
    expected = said(ts.Conversation(model, processor).say("Hm?", images=[PICTURES["a"]], **GREEDY))
    for part in (
        {"type": "image_url", "image_url": {"url": address}},
        {"type": "image_url", "image_url": {"url": str(file), "detail": "low"}},
        {"type": "image_url", "image_url": address},
        {"type": "image", "base64": base64.encodebytes(data).decode()},
        {"type": "image", "base64": base64.b64encode(data)},
        {"type": "image", "url": file.as_uri()},
        {"type": "image", "url": file.as_uri().replace("file://", "file://localhost")},
    ):
        talk = ts.Conversation(model, processor)
        talk.messages = [{"role": "user", "content": [part, {"type": "text", "text": "Hm?"}]}]
        assert said(talk.answer_again(**GREEDY)) == expected
        save_conversation(talk, tmp_path / "talk.json")
        again = ts.Conversation(model, processor)
        resume(again, read_conversation(tmp_path / "talk.json"), tmp_path / "talk.json", model)
        assert said(again.answer_again(**GREEDY)) == expected
    talk.messages[0]["content"][0] = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    with pytest.raises(InputError, match="nothing is fetched"):
        talk.answer_again()


def test_a_part_that_is_changed_has_its_new_image(seeing: tuple) -> None:
    model, processor, *_ = seeing
    first, second = picture(30, 60, seed=8), picture(30, 60, seed=9)  # of one size: the ids are the same
    expected = said(ts.Conversation(model, processor).say("What is it?", images=[second], **GREEDY))
    talk = ts.Conversation(model, processor)
    assert said(talk.say("What is it?", images=[first], **GREEDY)) != expected
    talk.messages[0]["content"][0]["image"] = second
    assert said(talk.answer_again(**GREEDY)) == expected


def test_pixels_are_let_go_of_once_they_are_read(seeing: tuple, tiles_read: list[int]) -> None:
    """Of an image a conversation keeps the vectors, and nothing once it is no part of it."""
    model, processor, *_ = seeing
    prepared: list[Any] = []
    talk = ts.Conversation(model, processor)
    with pytest.MonkeyPatch.context() as patched:
        pixels = type(processor).pixels

        def kept(self: Any, image: Any) -> Any:
            found = pixels(self, image)
            prepared.append(weakref.ref(found.tiles))
            return found

        patched.setattr(type(processor), "pixels", kept)
        for name in "ab":
            said(talk.say("What is it?", images=[PICTURES[name]], **GREEDY))
        assert [tiles() for tiles in prepared] == [None, None]
        read = sum(tiles_read)
        said(talk.say("And?", **GREEDY))
        assert (len(prepared), sum(tiles_read)) == (2, read)
    assert talk.read.cache is not None
    vectors = weakref.ref(talk.read.cache.images[0][1].vectors)
    talk.undo()
    talk.undo()
    said(talk.say("Hello", **GREEDY))
    assert vectors() is None
    vectors = weakref.ref(talk.read.cache.images[0][0].vectors)
    talk.reset()
    assert vectors() is None
