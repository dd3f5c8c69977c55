"""Looking at a model that reads images: on the page, in the terminal, by recordings and interventions."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image
from small_seeing import picture, small_seeing_model, their_answer

import tinystar_np as ts
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.seeing.glance import glance
from tinystar_np.seeing.images import ImageInText
from tinystar_np.seeing.look import Seen
from tinystar_np.seeing.page.images import add_images
from tinystar_np.vision.boxes import cells

CAT, STRIP = picture(60, 90), picture(30, 100, seed=1)
TWO = "See <image>this and <image>that?"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("seeing")
    small_seeing_model(found)
    return found


@pytest.fixture(scope="module")
def loaded(directory: Path) -> tuple[Any, Any]:
    return ts.load(directory)


@pytest.fixture(scope="module")
def seen(loaded: tuple[Any, Any]) -> Seen:
    return ts.look(*loaded, TWO, images=[CAT, STRIP], max_new_tokens=4, temperature=0.0)


def test_it_writes_what_generate_does_and_records_one_pass(
    directory: Path, loaded: tuple[Any, Any], seen: Seen, tmp_path: Path
) -> None:
    model, processor = loaded
    reference, theirs = small_seeing_model(tmp_path)
    ids, _ = their_answer(reference, theirs, TWO, [CAT, STRIP], 4)
    assert list(seen.ids[: seen.prompt_length]) == ids
    text = ts.generate(model, processor, TWO, images=[CAT, STRIP], max_new_tokens=4, temperature=0.0)
    assert processor.decode(seen.ids[seen.prompt_length :]) == text
    prompt = processor.prompt(TWO, [CAT, STRIP])
    logits = model(np.array(seen.ids), images=prompt.images)
    assert_allclose(seen.recording["logits"][0], logits, rtol=1e-4, atol=1e-5)
    assert not any(path.startswith("images.") for path in seen.recording)  # an encoder's would be gigabytes
    vectors = seen.recording["embedding.images"][0, seen.images[0].places]
    assert_array_equal(vectors, model.vision.see(prompt.images)[0].vectors)
    for image, given in zip(seen.images, prompt.images, strict=True):
        assert_array_equal(image.places, given.places)
        assert image.boxes.shape == (len(given.places), 4)
    assert_array_equal(seen.images[0].picture, CAT)
    assert [len(image.looks) for image in seen.images] == [2, 2]


def test_a_chat_template_writes_the_prompt(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    seen = ts.look(model, processor, "What?", images=[CAT], chat=True, max_new_tokens=2, temperature=0.0)
    rendered = processor.chat_template.render(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}],
        add_generation_prompt=True,
    )
    expected = processor.prompt(rendered, [CAT], add_special_tokens=False).ids
    assert list(seen.ids[: seen.prompt_length]) == expected


def test_marks_in_a_message_are_places_as_in_a_conversation(loaded: tuple[Any, Any]) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 3, "temperature": 0.0}
    looked = ts.look(*loaded, TWO, images=[CAT, STRIP], chat=True, **settings)
    talk = ts.Conversation(*loaded)
    list(talk.say(TWO, images=[CAT, STRIP], **settings))
    prompt = list(looked.ids[: looked.prompt_length])
    assert talk.read.ids[: len(prompt)] == prompt
    assert [image.places.tolist() for image in talk.read.cache.images[0]] == [
        image.places.tolist() for image in looked.images
    ]


def test_nine_parts_of_a_picture() -> None:
    """By hand: 2 × 2 vectors, and one of the whole, whose weight is spread over all nine."""
    boxes = np.concatenate([cells((0, 0, 1, 1), 2, 2), [[0, 0, 1, 1], [np.nan] * 4]])
    image = ImageInText(CAT, np.arange(1, 7), boxes)
    weights = np.array([9.0, 0.0, 0.4, 0.0, 0.0, 0.9, 5.0, 9.0])
    found = image.by_thirds(weights)
    # A quarter's weight: 4/9 in its corner, 2/9 in each neighbour, 1/9 in the middle.
    expected = 0.4 * np.array([[0, 2, 4], [0, 1, 2], [0, 0, 0]]) / 9 + 0.1
    assert_allclose(found, expected)
    assert image.most_at(weights) == "upper right"
    assert image.span == (1, 7)


def test_the_terminal(directory: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "cat.png"
    Image.fromarray(CAT).save(file)
    command = ["look", "-m", str(directory), "--image", str(file), "What is it?"]
    assert tinystar(command) == 0
    out = capsys.readouterr().out
    assert "[image]" in out
    assert "<image>" not in out
    start = out.index("Where it looks on the image")
    rows = [line for line in out[start:].splitlines() if line.startswith("layer ")][:3]
    assert len(rows) == 3
    assert tinystar([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["images"]) == 3
    for row, look in zip(rows, found["images"], strict=True):
        assert row.split("%")[1].strip() == look["most_at"]
    assert tinystar(["look", "--ids", "1,2", "--image", str(file), "-m", str(directory)]) == 2


def test_shares_of_the_terminal_are_those_of_the_recording(seen: Seen) -> None:
    found = glance(seen)
    p = found.position
    assert len(found.texts) == p + 1
    assert "".join(found.texts).count("[image 1]") == "".join(found.texts).count("[image 2]") == 1
    for look in found.images:
        weights = seen.attention(look.layer)[:, p].mean(axis=0)
        assert_allclose(look.weight, weights[seen.images[look.image].places].sum(), rtol=1e-5)
    for writer in found.writers:
        for link in writer.links:
            if not link.is_image:
                continue
            layer, head = map(int, re.findall(r"\d+", writer.name))
            number = int(link.text.removeprefix("image ")[0]) - 1
            weights = seen.attention(layer)[head, p, seen.images[number].places]
            assert_allclose(link.weight, weights.sum(), rtol=1e-5)
            assert link.position == seen.images[number].places[weights.argmax()]


def data_of(seen: Seen) -> dict[str, Any]:
    text = seen.page().split('type="application/json">')[1].split("</script>")[0]
    return dict(json.loads(text))


def test_pictures_on_the_page(seen: Seen) -> None:
    images = data_of(seen)["images"]
    assert [image["size"] for image in images] == [[60, 90], [30, 100]]
    assert [image["vectors"] for image in images] == [len(image.places) for image in seen.images]
    assert [[look["kind"] for look in image["looks"]] for image in images] == [["tiles", "overview"]] * 2
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(images[0]["jpeg"]))))
    assert shown.shape == (60, 90, 3)
    assert np.abs(shown.astype(int) - CAT).mean() < 12


def test_too_many_weights_become_means(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kept:
        def __init__(self) -> None:
            self.arrays: dict[str, NDArray] = {}

        def add(self, name: str, array: NDArray) -> None:
            self.arrays[name] = array

        add_signed = add

    whole, means = Kept(), Kept()
    assert add_images(whole, seen, 5)  # type: ignore[arg-type]
    monkeypatch.setattr("tinystar_np.seeing.page.images.MOST_BYTES", 1000)
    assert not add_images(means, seen, 5)  # type: ignore[arg-type]
    name = "image.1.attention.2"
    assert_allclose(whole.arrays[name], seen.attention(2)[:, 5:][..., seen.images[1].places])
    assert_allclose(means.arrays[name], whole.arrays[name].mean(axis=0, keepdims=True))


def test_a_long_prompt(loaded: tuple[Any, Any]) -> None:
    """Of many tokens attention's scores are not kept, and activations only after the last image."""
    prompt = "<image>" * 8 + "Which?"
    seen = ts.look(*loaded, prompt, images=[CAT] * 8, max_new_tokens=2, temperature=0.0)
    assert len(seen.ids) > 300
    assert not any(path.endswith("scores") for path in seen.recording)
    with pytest.raises(KeyError, match="left out of this recording"):
        seen.recording["blocks.0.attention.scores"]
    data = data_of(seen)
    assert data["first"] >= seen.images[-1].span[1]
    nodes = {node["name"]: node["reads"] for node in data["pictures"]["kinds"][0]}
    assert nodes["attention.probabilities"] == ["attention.q_rotated", "attention.k_rotated"]
    rows = len(seen.ids) - data["first"]
    assert data["places"]["taps.statistics"]["shape"][1] == rows
    assert data["places"]["image.7.attention.2"]["shape"][1:] == [rows, len(seen.images[7].places)]


def test_recorded_taps_of_an_image(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    prompt = processor.prompt(TWO, [CAT, STRIP])
    with ts.record() as caught:
        model(np.array(prompt.ids), images=prompt.images)
    N = len(prompt.images[1].places)
    assert caught["images.1.vectors"].shape == (N, 48)
    tiles = len(prompt.images[1].pixels.tiles)
    assert caught["images.1.encoder.blocks.1.attention.probabilities"].shape == (tiles, 3, 16, 16)
    assert caught["images.1.encoder.final_norm"].shape[0] == tiles
    assert_array_equal(caught["embedding.images"][0, prompt.images[1].places], caught["images.1.vectors"])


def test_images_belong_to_the_call_that_follows(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    with ts.record("images.*.vectors", "logits", every_call=True) as caught:
        ts.generate(model, processor, TWO, images=[CAT, STRIP], max_new_tokens=3, temperature=0.0)
    assert [set(call) for call in caught.calls] == [
        {"images.0.vectors", "images.1.vectors", "logits"}, {"logits"}, {"logits"}
    ]  # fmt: skip


def test_lens_and_attribution(seen: Seen) -> None:
    """At the image's own places too: there the embedding's part is the image's vector."""
    lens = seen.logit_lens(3)
    logits = seen.recording["logits"][0]
    assert_array_equal(lens.top_ids[-1, :, 0], logits.argmax(-1))
    for position in (int(seen.images[0].places[3]), len(seen.ids) - 1):
        found = seen.attributions(position, token=7)
        assert_allclose(found.values.sum(), logits[position, 7], rtol=1e-4, atol=1e-5)


def test_without_a_part_the_images_stay(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    prompt = processor.prompt("<image>What?", [CAT])
    ids = np.array(prompt.ids)
    found = ts.without(model, ids, "blocks.1.attention head 2", images=prompt.images)
    with ts.ablate("blocks.1.attention.mixed", heads=[2]):
        expected = model(ids, images=prompt.images)
    assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found - ts.without(model, ids, "blocks.1.attention head 2")).max() > 0.01


def test_patching_one_picture_into_another(loaded: tuple[Any, Any]) -> None:
    """The same words about two pictures; against a run in which one position is patched by hand."""
    model, processor = loaded
    clean, corrupted = (processor.prompt("<image>What?", [picture(60, 90, seed)]) for seed in (3, 4))
    assert clean.ids == corrupted.ids
    ids = np.array(clean.ids)
    found = ts.patching(
        model, ids, ids, answer=(5, 9), taps=["residual", "attention.v"],
        images=clean.images, corrupted_images=corrupted.images,
    )  # fmt: skip

    def measured(logits: NDArray) -> float:
        return float(logits[-1, 5] - logits[-1, 9])

    low = measured(model(ids, images=corrupted.images))
    high = measured(model(ids, images=clean.images))
    assert_allclose([found.corrupted, found.clean], [low, high], rtol=1e-4)
    with ts.record("blocks.*.residual", "blocks.*.attention.v") as run:
        model(ids, images=clean.images)
    place = int(clean.images[0].places[5])
    for n, tap in enumerate(("residual", "attention.v")):
        for position in (place, len(ids) - 1):
            with ts.patch(run, f"blocks.1.{tap}", positions=[position]):
                changed = measured(model(ids, images=corrupted.images))
            expected = (changed - low) / (high - low)
            assert_allclose(found.values[n, 1, position], expected, rtol=1e-3, atol=1e-4)


def test_what_is_refused(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    with pytest.raises(InputError, match="places for 2 images"):
        ts.look(model, processor, TWO, images=[CAT])
    with pytest.raises(InputError, match="must be a list"):
        ts.look(model, processor, "What?", images=CAT)
    with pytest.raises(InputError, match="a prompt that is a text"):
        ts.look(model, processor, [1, 2], images=[CAT])
    with pytest.raises(InputError, match="no such file"):
        ts.look(model, processor, "What?", images=["nowhere.png"])
    text_model, tokenizer = ts.load("stories")
    with pytest.raises(InputError, match="reads text alone"):
        ts.look(text_model, tokenizer, "What?", images=[CAT])
    with pytest.raises(TokenizerError, match="no chat template"):
        ts.look(text_model, tokenizer, "What?", chat=True)


def test_a_head_of_the_encoder_taken_out(directory: Path, loaded: tuple[Any, Any]) -> None:
    """In a model whose weights of that head's output are zeros, nothing else is different."""
    model, processor = loaded
    prompt = processor.prompt("<image>What?", [CAT])
    ids = np.array(prompt.ids)
    path = "images.*.encoder.blocks.1.attention.mixed"
    with ts.ablate(path, heads=[2]), ts.record("images.0.vectors", "logits") as found:
        model(ids, images=prompt.images)
    changed, _ = ts.load(directory, dtype="float32")
    out = changed.vision.encoder.blocks[1].attention.out
    weight = out.weight.copy()  # (D, D): rows are of heads, 8 numbers each
    weight[16:24] = 0
    out.weight = weight
    with ts.record("images.0.vectors", "logits") as expected:
        changed(ids, images=prompt.images)
    for name in expected:
        assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
    with ts.record("images.0.vectors") as whole:
        model(ids, images=prompt.images)
    assert np.abs(whole["images.0.vectors"] - found["images.0.vectors"]).max() > 0.01
    with pytest.raises(InputError, match="No model has a tap"), ts.ablate("images.0.encoder.blocks.1.mixt"):
        pass


def test_an_encoders_blocks_are_one_row_of_a_recording(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    prompt = processor.prompt(TWO, [CAT, STRIP])
    with ts.record("*.residual") as caught:
        model(prompt.ids, images=prompt.images)
    assert [line.split()[0] for line in repr(caught).splitlines()[1:]] == [
        "images.0.encoder.blocks.{0…1}.residual",
        "images.1.encoder.blocks.{0…1}.residual",
        "blocks.{0…2}.residual",
    ]
    residual = "images.0.encoder.blocks.0.residual"
    with pytest.raises(InputError, match="knows no positions"), ts.ablate(residual, positions=[5]):
        model(prompt.ids, images=prompt.images)


def test_the_examples_of_the_docs(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run, with a small model and small pictures in the places of those that they name."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("cat.jpg", 3), ("dog.jpg", 4)):
        Image.fromarray(picture(60, 90, seed)).save(name)
    docs = Path(__file__).parents[2] / "docs"
    blocks = re.findall(r"```py\n(.*?)```\n", (docs / "looking_inside.md").read_text(), re.DOTALL)
    blocks += re.findall(r"```python\n(.*?)```\n", (docs / "taps.md").read_text(), re.DOTALL)
    examples = [block for block in blocks if "jpg" in block]
    assert len(examples) == 3
    names: dict[str, Any] = {"ts": ts, "np": np}
    for block in examples:
        small = block.replace("HuggingFaceTB/SmolVLM-256M-Instruct", str(directory))
        exec(small.replace('" cat", " dog"', '"c", "d"'), names)  # its tokens are letters
    assert (tmp_path / "page.html").stat().st_size > 100_000


def test_a_file_of_several_pictures_is_noted(directory: Path, tmp_path: Path, capsys: Any) -> None:
    frames = [Image.fromarray(picture(30, 40, seed)) for seed in (1, 2)]
    file = tmp_path / "film.gif"
    frames[0].save(file, save_all=True, append_images=frames[1:])
    assert tinystar(["look", "-m", str(directory), "--image", str(file), "What?"]) == 0
    assert "has several pictures; the first is used" in capsys.readouterr().err
