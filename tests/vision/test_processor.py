"""The processor against transformers': ids and pixels of prompts with images, and what cannot be."""

import json
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from small_seeing import VECTORS, picture, small_seeing_model, their_answer

import tinystar_np as ts
from tinystar_np.errors import CheckpointError, ConfigError, ContextFullError, InputError
from tinystar_np.models import EMBEDDING_ARCHITECTURES, VISION_ARCHITECTURES
from tinystar_np.text.isolated import IsolatedTokenizer
from tinystar_np.vision.processor import FORMS, Processor

PROMPTS = {
    "one": ("What is <image>?", [picture(40, 60)]),
    "two": ("<image><image>Which is larger?", [picture(90, 20), picture(28, 28, seed=1)]),
    "apart": ("First <image>, then <image>.", [picture(1, 1), picture(3, 200)]),
    "none": ("No picture at all.", []),
}


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """Our model and processor, and transformers'."""
    directory = tmp_path_factory.mktemp("seeing")
    reference, theirs = small_seeing_model(directory)
    return *ts.load(directory), reference, theirs


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_that_of_transformers(name: str, seeing: tuple) -> None:
    model, processor, reference, theirs = seeing
    text, images = PROMPTS[name]
    pictures = [[Image.fromarray(image) for image in images]] if images else None
    given = theirs(text=text, images=pictures, return_tensors="np")
    prompt = processor.prompt(text, images)
    assert prompt.ids == given["input_ids"][0].tolist()
    tiles = [tile for image in prompt.images for tile in image.pixels.tiles]
    if images:
        np.testing.assert_array_equal(np.stack(tiles), given["pixel_values"][0])
    ids, expected = their_answer(reference, theirs, text, images, tokens=12)
    assert ids == prompt.ids
    found = ts.generate(model, processor, text, images=images, max_new_tokens=12, temperature=0.0)
    assert found == expected


def test_a_tokenizer_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Its files name no token for images: it is one of those that are found in any text."""
    small_seeing_model(tmp_path)
    _, processor = ts.load(tmp_path)
    _, isolated = ts.load(tmp_path, isolated=True)
    assert type(processor.backend) is not type(isolated.backend)
    for text, images in PROMPTS.values():
        assert isolated.prompt(text, images).ids == processor.prompt(text, images).ids


def test_several_prompts_at_once(seeing: tuple) -> None:
    model, processor, *_ = seeing
    texts, images = zip(*PROMPTS.values(), strict=True)
    settings = {"max_new_tokens": 9, "temperature": 0.0}
    alone = [ts.generate(model, processor, t, images=i, **settings) for t, i in PROMPTS.values()]
    assert ts.generate(model, processor, list(texts), images=list(images), **settings) == alone


def test_without_a_mark_images_stand_before_the_text(seeing: tuple) -> None:
    _, processor, *_ = seeing
    images = [picture(30, 30), picture(20, 20)]
    marked = processor.prompt("<image><image>What is it?", images)
    assert processor.prompt("What is it?", images).ids == marked.ids


def test_every_kind_of_source_is_the_same_image(seeing: tuple, tmp_path: Path) -> None:
    _, processor, *_ = seeing
    array = picture(50, 40)
    image = Image.fromarray(array)
    image.save(tmp_path / "a.png")
    file = tmp_path / "a.png"
    expected = processor.pixels(array).tiles
    for source in (str(file), file, file.read_bytes(), image):
        np.testing.assert_array_equal(processor.pixels(source).tiles, expected)


def test_images_after_what_a_cache_holds(seeing: tuple) -> None:
    model, processor, *_ = seeing
    cache, settings = model.new_cache(), {"max_new_tokens": 6, "temperature": 0.0}
    first, second = processor.encode("It was "), processor.prompt("<image>, and ", [picture(40, 40)])
    model(first, cache=cache)
    found = ts.generate(model, processor, "<image>, and ", images=[picture(40, 40)], cache=cache, **settings)
    whole = ts.generate(model, processor, "It was <image>, and ", images=[picture(40, 40)], **settings)
    assert found == whole
    assert cache.images is not None
    assert cache.images[0][0].places[0] == len(first) + second.images[0].places[0]


def test_with_the_tokenizer_in_a_process_of_its_own(tmp_path: Path) -> None:
    small_seeing_model(tmp_path)
    text, images = PROMPTS["two"]
    settings = {"max_new_tokens": 9, "temperature": 0.0}
    here, there = (ts.load(tmp_path, isolated=isolated) for isolated in (False, True))
    assert isinstance(there[1].backend, IsolatedTokenizer)
    assert there[1].prompt(text, images).ids == here[1].prompt(text, images).ids
    expected = ts.generate(*here, text, images=images, **settings)
    assert ts.generate(*there, text, images=images, **settings) == expected
    assert there[1].backend.token_to_id("no such token") is None


def test_ids_with_images_are_continued(seeing: tuple) -> None:
    model, processor, reference, theirs = seeing
    ids, settings = {}, {"max_new_tokens": 9, "temperature": 0.0}
    for name, (text, images) in PROMPTS.items():
        prompt = processor.prompt(text, images)
        their_ids, expected = their_answer(reference, theirs, text, images, tokens=9)
        assert prompt.ids == their_ids
        ids[name] = ts.generate_ids(model, prompt.ids, images=prompt.images, **settings)
        assert processor.decode(ids[name]) == expected
    prompts = [processor.prompt(text, images) for text, images in PROMPTS.values()]
    found = ts.generate_ids(
        model,
        [prompt.ids for prompt in prompts],
        images=[prompt.images for prompt in prompts],
        **settings,
    )
    assert found == list(ids.values())
    prompt = processor.prompt(*PROMPTS["two"])
    cache = model.new_cache()
    model(prompt.ids[:4], cache=cache, images=prompt.images)  # within the first
    rest = [image.moved(-4) for image in model.vision.see(prompt.images)]
    more = ts.generate_ids(model, prompt.ids[4:], images=rest, cache=cache, **settings)
    assert more == ids["two"]
    for images in (None, [picture(20, 20)], prompt.images[0]):
        with pytest.raises(InputError, match="images"):
            ts.generate_ids(model, prompt.ids, images=images)


def test_a_prompt_too_long_for_its_images(seeing: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error says how many tokens are those of images, before the model reads any."""
    model, processor, *_ = seeing
    monkeypatch.setattr(model, "context_length", 40)
    monkeypatch.setattr(type(model.vision), "see", None)
    prompt = processor.prompt("Hm?", [picture(80, 80)])
    tokens, of_images = len(prompt.ids), prompt.ids.count(processor.image_token_id)
    said = rf"{tokens} tokens \({of_images} of images\), but the model holds 40"
    with pytest.raises(ContextFullError, match=said):
        ts.generate(model, processor, "Hm?", images=[picture(80, 80)])
    with pytest.raises(ContextFullError, match=said):
        ts.generate_ids(model, prompt.ids, images=prompt.images)
    with pytest.raises(ContextFullError, match=rf"\({of_images} of images\), but its context holds 40"):
        ts.Conversation(model, processor, context=40).say("Hm?", images=[picture(80, 80)])


def test_a_saved_cache_keeps_its_images(seeing: tuple, tmp_path: Path) -> None:
    model, processor, *_ = seeing
    prompt = processor.prompt("See <image>", [picture(40, 40)])
    cache = model.new_cache()
    model(prompt.ids, cache=cache, images=prompt.images)
    cache.save(tmp_path / "c")
    loaded = model.load_cache(tmp_path / "c")
    np.testing.assert_array_equal(loaded.images[0][0].vectors, cache.images[0][0].vectors)
    np.testing.assert_array_equal(loaded.images[0][0].places, prompt.images[0].places)
    np.testing.assert_array_equal(model([5, 6], cache=loaded), model([5, 6], cache=cache))
    loaded.truncate(int(prompt.images[0].places[0]))
    assert loaded.images is None


def test_the_rest_of_an_image_is_not_that_of_another(seeing: tuple) -> None:
    """Where a cache ends within an image, another in its place is refused; before it, it is read."""
    model, processor, *_ = seeing
    first, second = (processor.prompt("See <image>.", [picture(40, 40, seed=seed)]) for seed in (1, 2))
    assert first.ids == second.ids
    place, last = (int(first.images[0].places[n]) for n in (0, -1))
    whole = {prompt: model(prompt.ids, images=prompt.images) for prompt in (first, second)}
    for within in (place + 1, last):
        cache = model.new_cache()
        model(first.ids, cache=cache, images=first.images)
        cache.truncate(within)
        message = rf"ends at token {within}, .*truncate\({place}\)"
        with pytest.raises(InputError, match=message):
            model(second.ids[within:], cache=cache, images=second.images)
        assert cache.lengths.tolist() == [within]
        same = model(first.ids[within:], cache=cache, images=first.images)  # it is read again
        np.testing.assert_allclose(same, whole[first][within:], atol=1e-4)
        cache.truncate(place)
        other = model(second.ids[place:], cache=cache, images=second.images)
        np.testing.assert_allclose(other, whole[second][place:], atol=1e-4)


def test_what_cannot_be(seeing: tuple, talking_model: Path, tmp_path: Path) -> None:
    model, processor, *_ = seeing
    image, blind = picture(20, 20), ts.load(talking_model)
    for text, images, message in (
        ("<image> and <image>", [image], "places for 2 images .*, but 1 image was given"),
        ("<image>", [], "places for 1 image .*, but 0 images were given"),
        ("<image>", [image, image], "places for 1 image .*, but 2 images were given"),
        ("Hi", [tmp_path / "no.png"], "no.png"),
        ("Hi", [np.zeros((0, 3, 3), np.uint8)], "0"),
        ("Hi", "cat.jpg", "must be a list"),
        ("Hi", [None], "image"),
    ):
        with pytest.raises(InputError, match=message):
            ts.generate(model, processor, text, images=images)
    with pytest.raises(InputError, match="a list for each of the 2 prompts"):
        ts.generate(model, processor, ["a", "b"], images=[[image]])
    with pytest.raises(InputError, match="reads text alone"):
        ts.generate(*blind, "Hi", images=[image])
    with pytest.raises(InputError, match="reads text alone"):
        blind[0]([1, 2], images=processor.prompt("<image>", [image]).images)
    prompt = processor.prompt("a <image>", [image])
    with pytest.raises(InputError, match="not the image token"):
        model(prompt.ids[1:], images=prompt.images)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no jpeg")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        ts.generate(model, processor, "Hi", images=[tmp_path / "broken.jpg"])


def test_an_image_is_read_once(seeing: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor, *_ = seeing
    counted = []
    encode = type(model.vision).of_tiles
    monkeypatch.setattr(
        type(model.vision), "of_tiles", lambda self, tiles: counted.append(len(tiles)) or encode(self, tiles)
    )
    prompt = processor.prompt("<image>" + "a" * 700, [picture(20, 20)])
    ts.generate(model, processor, "<image>" + "a" * 700, images=[picture(20, 20)], max_new_tokens=2)
    assert len(prompt.ids) > 512 + VECTORS  # so that it is read in two pieces
    assert sum(counted) == len(prompt.images[0].pixels.tiles)


def test_the_processor_is_a_tokenizer(seeing: tuple) -> None:
    _, processor, _, theirs = seeing
    assert isinstance(processor, Processor)
    assert processor.encode("Hello") == theirs.tokenizer("Hello")["input_ids"]
    assert processor.decode(processor.encode("Hello")) == "Hello"
    assert processor.prompt("Hello").ids == processor.encode("Hello")


def test_settings_within_the_newer_file(tmp_path: Path) -> None:
    """Where processor_config.json has them, an older file beside it counts for nothing."""
    small_seeing_model(tmp_path)
    older = tmp_path / "preprocessor_config.json"
    settings = json.loads(older.read_text())
    expected = ts.load(tmp_path)[1].form
    vectors = settings.pop("image_seq_len")
    newer = {"processor_class": "Idefics3Processor", "image_seq_len": vectors, "image_processor": settings}
    (tmp_path / "processor_config.json").write_text(json.dumps(newer))
    older.write_text(
        json.dumps({"image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 7}})
    )
    assert ts.load(tmp_path)[1].form == expected
    older.unlink()
    assert ts.load(tmp_path)[1].form == expected


def test_every_model_that_sees_has_a_way_to_prepare_images() -> None:
    assert {*FORMS} == {*VISION_ARCHITECTURES, *EMBEDDING_ARCHITECTURES}
    for name in {name for known in FORMS.values() for name in known.values()}:
        module, _, kind = name.partition(".")
        assert hasattr(import_module(f"tinystar_np.vision.{module}"), kind)


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"image_processor_type": "Idefics3ImageProcessorFast"},
        {"image_processor_type": "SmolVLMImageProcessorPil"},
        {"image_processor_type": "Idefics3FeatureExtractor"},
        {"feature_extractor_type": "Idefics3FeatureExtractor"},
    ],
    ids=str,
)
def test_names_of_one_image_processor(named: dict[str, str], tmp_path: Path) -> None:
    small_seeing_model(tmp_path)
    expected = ts.load(tmp_path)[1].form
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    del settings["image_processor_type"]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | named))
    assert ts.load(tmp_path)[1].form == expected


@pytest.mark.parametrize("name", ["LlavaNextImageProcessor", "CLIPImageProcessor", "ViTImageProcessor"])
def test_the_image_processor_of_another_model_is_refused(name: str, tmp_path: Path) -> None:
    """Its tiles would not be those that this model was trained on, even where they fit."""
    small_seeing_model(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_processor_type": name}))
    with pytest.raises(ConfigError, match=f"preprocessor_config.json: .*'{name}' is not implemented for"):
        ts.load(tmp_path)


@pytest.mark.parametrize("with_processor", [True, False])
def test_a_directory_that_does_not_say_how_images_are_prepared(with_processor: bool, tmp_path: Path) -> None:
    """As fine-tuned models are saved without their processor: the defaults of its class are others."""
    small_seeing_model(tmp_path)
    model, processor = ts.load(tmp_path)
    expected = ts.generate(model, processor, "Who?", max_new_tokens=5, temperature=0.0)
    for name in ("preprocessor_config.json", *(() if with_processor else ("processor_config.json",))):
        (tmp_path / name).unlink(missing_ok=True)
    model, processor = ts.load(tmp_path)
    assert ts.generate(model, processor, "Who?", max_new_tokens=5, temperature=0.0) == expected
    with pytest.raises(CheckpointError, match=r"has no preprocessor_config\.json, which says how"):
        ts.generate(model, processor, "<image>Who?", images=[picture(20, 20)])
    with pytest.raises(CheckpointError, match=r"has no preprocessor_config\.json, which says how"):
        list(ts.Conversation(model, processor).say("Who?", images=[picture(20, 20)]))


def test_the_text_part_of_a_model_that_sees(tmp_path: Path) -> None:
    small_seeing_model(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    text = {name: tensor for name, tensor in tensors.items() if not re.search("vision|connector", name)}
    assert len(text) < len(tensors)
    save_file(text, tmp_path / "model.safetensors")
    model, tokenizer = ts.load(tmp_path)
    assert ts.generate(model, tokenizer, "Who?", max_new_tokens=3)
    with pytest.raises(InputError, match=r"text alone: it cannot .*\n.* without the encoder of images: use"):
        ts.generate(model, tokenizer, "Who?", images=[picture(20, 20)])


def test_images_that_are_given_as_something_else(seeing: tuple) -> None:
    """A sentence for each, and no error of Python's."""
    model, processor, *_ = seeing
    image = picture(40, 40)
    prompt = processor.prompt("See <image>", [image])
    for images in (
        None,
        prompt.images[0],
        [image],
        [processor.pixels(image)],
        "cat.jpg",
        ["cat.jpg"],
        image,
        7,
    ):
        with pytest.raises(InputError, match="images"):
            model(prompt.ids, images=images)
        with pytest.raises(InputError, match="images"):
            model([prompt.ids], images=images)
    for texts, given in (
        (["x", "y"], ["a.png", "b.png"]),
        (["x"], ["a.png"]),
        (["x", "y"], [[image]]),
        (["x", "y"], [[image], None]),
        (["x"], image),
    ):
        with pytest.raises(InputError, match=f"a list for each of the {len(texts)} prompts"):
            ts.generate(model, processor, texts, images=given)
    for odd in (None, image, "a.png", iter([image])):
        with pytest.raises(InputError, match="images must be a list"):
            ts.generate(model, processor, "x", images=odd)
        with pytest.raises(InputError, match="images must be a list"):
            ts.stream(model, processor, "x", images=odd)
