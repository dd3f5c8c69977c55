"""Texts that are cut within an image whose tokens see one another: Gemma 3's, in every use of a cache."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, random_ids, save
from safetensors.numpy import load_file, save_file
from test_gemma3 import small_config, small_rows, theirs, with_crops
from vision_parity import IMAGE, logits_with_images, whole_model

import tinystar_np as ts
from tinystar_np.cache import Cache, join_caches
from tinystar_np.errors import InputError
from tinystar_np.generation import loop
from tinystar_np.loading import load
from tinystar_np.models import Decoder

Known = tuple[Decoder, Any]


def known(directory: Path, **settings: Any) -> Known:
    """A small Gemma 3 whose images are longer than its window, and transformers'."""
    reference = whole_model(small_config(mm_tokens_per_image=16, **settings))
    model, _ = load(save(reference, directory), dtype="float32")
    return model, reference


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Known:
    return known(tmp_path_factory.mktemp("gemma3"))


ROWS = small_rows(16)
IDS, IMAGES = ROWS[0]  # images at 3 to 18 and at 21 to 36
# How many tokens of which row are read first: before, within and after an image; within and between
# neighbours; within an image at the beginning of a text.
FIRST = (0, 2), (0, 8), (0, 19), (0, 30), (1, 30), (1, 42), (2, 8)


def uses(directory: Path, model: Decoder) -> dict[str, Callable[[Cache], Cache]]:
    """What may be done to a cache before it goes on."""

    def saved(cache: Cache) -> Cache:
        cache.save(directory / "it.cache")
        return model.load_cache(directory / "it.cache")

    return {
        "copied": lambda cache: cache.copy(),
        "selected": lambda cache: cache.select([0]),
        "joined": lambda cache: join_caches([cache]),
        "saved": saved,
        "saved as a copy": lambda cache: saved(cache.copy()),
    }


@pytest.mark.parametrize("use", uses(Path(), None))  # type: ignore[arg-type]
@pytest.mark.parametrize("first", FIRST)
def test_a_cache_that_is_held_within_an_image(
    use: str, first: tuple[int, int], small: Known, tmp_path: Path
) -> None:
    model, reference = small
    assert model.vision is not None
    (ids, images), before = ROWS[first[0]], first[1]
    expected = logits_with_images(reference, [(ids, images)], theirs)[0]
    seen = model.vision.see(images)
    cache = model.new_cache()
    assert_close(model(ids[:before], cache=cache, images=seen), expected[:before])
    assert "1 row" in repr(cache)
    other = uses(tmp_path, model)[use](cache)
    for each in (cache, other):
        assert each.lengths.tolist() == [before]
        # What a cache holds of a group it knows: only images of further ones must be given again.
        further = [image for image in seen if image.groups[0].first >= before]
        found = [model(ids[before : before + 1], cache=each, images=further, last_only=True)]
        found.append(model(ids[before + 1 :], cache=each, images=further))
        assert_close(np.concatenate(found), expected[before:])
        assert each.lengths.tolist() == [len(ids)]


def test_rows_that_stand_within_images_and_between(small: Known) -> None:
    model, reference = small
    assert model.vision is not None
    caches, seen = [], []
    for before, (ids, images) in zip((8, 2, 16, 30), ROWS, strict=True):
        seen.append(model.vision.see(images))
        caches.append(model.new_cache())
        model(ids[:before], cache=caches[-1], images=seen[-1])
    joined = join_caches(caches)
    starts = joined.lengths.tolist()
    expected = [logits_with_images(reference, [row], theirs)[0] for row in ROWS]
    for count in (1, 3, 9, 11):
        new = np.array([ids[start : start + count] for (ids, _), start in zip(ROWS, starts, strict=True)])
        found = model(new, cache=joined, images=seen)
        part = [e[start : start + count] for e, start in zip(expected, starts, strict=True)]
        assert_close(found, np.stack(part))
        starts = [start + count for start in starts]
        assert joined.lengths.tolist() == starts


def test_an_interrupted_call_leaves_the_cache(small: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    model, reference = small
    expected = logits_with_images(reference, [(IDS, IMAGES)], theirs)[0]
    cache = model.new_cache()
    model(IDS[:1], cache=cache, images=IMAGES)
    whole = type(model).from_block
    calls = 0

    def interrupted(self: Decoder, *arguments: Any) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 2:  # in the image, after the tokens before it
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(type(model), "from_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model(IDS[1:8], cache=cache, images=IMAGES)
    monkeypatch.undo()
    assert calls == 2
    assert (cache.lengths.tolist(), cache.images) == ([1], None)
    assert_close(model(IDS[1:], cache=cache, images=IMAGES), expected[1:])


def test_truncated_within_an_image(tmp_path: Path) -> None:
    """Where all layers keep everything, so that nothing but the image must be read again."""
    model, reference = known(tmp_path, text={"layer_types": ["full_attention"] * 3})
    expected = logits_with_images(reference, [(IDS, IMAGES)], theirs)[0]
    for length in (2, 5, 21, 30):
        cache = model.new_cache()
        model(IDS, cache=cache, images=IMAGES)
        assert cache.truncates_to(length)
        cache.truncate(length)
        assert_close(model(IDS[length:], cache=cache, images=IMAGES), expected[length:])


def test_generation_cuts_prompts_between_images(small: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    model, reference = small
    assert model.vision is not None
    monkeypatch.setattr(loop, "PREFILL", 7)
    for row, pieces in (
        (ROWS[0], [3, 16, 2, 16, 7, 7, 7]),
        (ROWS[1], [7, 7, 7, 5, 32]),
        (with_crops(16), [3, 16, 2, 32, 6]),
    ):
        ids, images = row
        lengths: list[int] = []

        def read(ids: np.ndarray, lengths: list[int] = lengths, **how: Any) -> np.ndarray:
            lengths.append(ids.shape[-1])
            return model(ids, **how)

        found = loop.prefill(read, ids, model.new_cache(), images=model.vision.see(images))
        assert_close(found, logits_with_images(reference, [row], theirs)[0][-1:])
        assert lengths == pieces


def test_later_images_continue_a_text(small: Known) -> None:
    """A conversation: a turn with an image, an answer, a turn with another."""
    model, reference = small
    expected = logits_with_images(reference, [(IDS, IMAGES)], theirs)[0]
    cache, found = model.new_cache(), []
    for start, end, images in ((0, 19, IMAGES[:1]), (19, 20, ()), (20, 40, IMAGES[1:]), (40, len(IDS), ())):
        found.append(model(IDS[start:end], cache=cache, images=images))
    assert_close(np.concatenate(found), expected)


def test_interventions_hold_however_a_text_is_cut(small: Known) -> None:
    model, _ = small
    direction = np.random.default_rng(0).normal(size=48).astype(np.float32)

    def logits(*ends: int) -> np.ndarray:
        cache, found = model.new_cache(), []
        with ts.steer("blocks.1.residual", direction, positions=[2, 5, 12, 22]):
            for start, end in zip((0, *ends), (*ends, len(IDS)), strict=True):
                found.append(model(IDS[start:end], cache=cache, images=IMAGES))
        return np.concatenate(found)

    whole = logits()
    assert np.abs(whole - model(IDS, images=IMAGES)).max() > 0.1
    assert_close(logits(8), whole)
    assert_close(logits(1, 4, 5, 6, 20, 30), whole)


def test_recordings_of_calls_that_are_cut(small: Known) -> None:
    model, _ = small
    cache = model.new_cache()
    message = r"image of the tokens 3 to 18, .* End the call at token 3 or at 19"
    with pytest.raises(InputError, match=message), ts.record("logits"):
        model(IDS[:8], cache=cache, images=IMAGES)
    assert cache.lengths.tolist() == [0]
    with ts.record("blocks.*.attention.probabilities", every_call=True) as caught:
        model(IDS[:19], cache=cache, images=IMAGES)
        model(IDS[19:], cache=cache, images=IMAGES)
    first = caught.calls[0]["blocks.1.attention.probabilities"]  # of a layer that sees everything
    assert (first[0, :, 3, 3:19] > 0).all()
    assert (first[0, :, 2, 3:] == 0).all()


def dynamic(trained: int) -> dict[str, Any]:
    far = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    near = {"rope_type": "default", "rope_theta": 1e4}
    return {
        "max_position_embeddings": trained,
        "rope_parameters": {"full_attention": far, "sliding_attention": near},
    }


def test_rotations_by_the_length_of_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is read again is cut between its images; a call may not end within one."""
    from tinystar_np.models import caches

    model, reference = known(tmp_path, text=dynamic(trained=24))
    expected = logits_with_images(reference, [(IDS, IMAGES)], theirs)[0]
    assert_close(model(IDS, images=IMAGES), expected)
    monkeypatch.setattr(caches, "PREFILL", 7)
    cache = model.new_cache()
    model(IDS[:40], cache=cache, images=IMAGES)
    assert_close(model(IDS[40:], cache=cache), expected[40:])
    cache = model.new_cache()
    with pytest.raises(
        InputError, match=r"rotations depend on the length .* End the call at token 3 or at 19"
    ):
        model(IDS[:8], cache=cache, images=IMAGES)
    assert cache.lengths.tolist() == [0]
    assert model.vision is not None
    monkeypatch.setattr(loop, "PREFILL", 7)
    assert_close(loop.prefill(model, IDS, cache, images=model.vision.see(IMAGES)), expected[-1:])


def test_greedy_continuations_of_a_cut_text(small: Known) -> None:
    """Tokens after an image that a cache holds in part."""
    model, reference = small
    prompt, images = IDS[:30], IMAGES  # ends within the second image
    cache = model.new_cache()
    model(prompt, cache=cache, images=images)
    rest = [*IDS[30:], *random_ids(3, vocabulary=IMAGE).tolist()]
    found = model(rest, cache=cache)
    assert_close(found, logits_with_images(reference, [([*prompt, *rest], images)], theirs)[0][30:])


def test_a_cache_of_a_model_that_sees_in_one_that_does_not(small: Known, tmp_path: Path) -> None:
    """The text part alone goes on after an image, as its vectors are in the cache; not from within one."""
    model, reference = small
    ids, images = ROWS[2]  # an image, and text
    save(reference, tmp_path)
    file = tmp_path / "model.safetensors"
    text = {n: t for n, t in load_file(file).items() if "vision_tower" not in n and "projector" not in n}
    save_file(text, file)
    blind, _ = load(tmp_path, dtype="float32")
    assert blind.vision is None
    expected = logits_with_images(reference, [ROWS[2]], theirs)[0]
    for before in (8, 20):
        cache = model.new_cache()
        model(ids[:before], cache=cache, images=images)
        cache.save(tmp_path / "it.cache")
        loaded = blind.load_cache(tmp_path / "it.cache")
        if before == 20:
            assert_close(blind(ids[before:], cache=loaded), expected[before:])
        else:
            with pytest.raises(InputError, match="loaded without what reads images"):
                blind(ids[before:], cache=loaded)
