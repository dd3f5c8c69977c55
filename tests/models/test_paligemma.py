"""PaliGemma and PaliGemma 2 against transformers, with images."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, check, random_ids, save
from safetensors.numpy import load_file, save_file
from transformers import PaliGemmaConfig, PreTrainedModel
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

from tinystar_np.errors import ConfigError, InputError
from tinystar_np.generation import loop
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.loading import load
from tinystar_np.models.paligemma import PaliGemmaConfig as OurConfig

WINDOW = 5
TEXTS: dict[str, dict[str, Any]] = {
    "gemma": {"model_type": "gemma", "num_key_value_heads": 1},
    "gemma2": {"model_type": "gemma2", "sliding_window": WINDOW, "query_pre_attn_scalar": 8},
}

SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "model_type": "siglip_vision_model",
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "num_image_tokens": 256,
    "patch_size": 14,
    "vision_use_head": False,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "google/paligemma-3b-pt-224": {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "bos_token_id": 2,
        "eos_token_id": 1,
        "hidden_size": 2048,
        "ignore_index": -100,
        "image_token_index": 257152,
        "model_type": "paligemma",
        "pad_token_id": 0,
        "projection_dim": 2048,
        "text_config": {
            "hidden_size": 2048,
            "intermediate_size": 16384,
            "model_type": "gemma",
            "num_attention_heads": 8,
            "num_hidden_layers": 18,
            "num_image_tokens": 256,
            "num_key_value_heads": 1,
            "torch_dtype": "float32",
            "vocab_size": 257216,
        },
        "torch_dtype": "bfloat16",
        "transformers_version": "4.41.0.dev0",
        "vision_config": {**SO400M, "projection_dim": 2048, "projector_hidden_act": "gelu_fast"},
    },
    "google/paligemma2-3b-pt-224": {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "bos_token_id": 2,
        "eos_token_id": 1,
        "hidden_size": 2304,
        "image_token_index": 257152,
        "model_type": "paligemma",
        "num_hidden_layers": 26,
        "pad_token_id": 0,
        "projection_dim": 2304,
        "text_config": {
            "architectures": ["Gemma2ForCausalLM"],
            "attn_logit_softcapping": 50.0,
            "cache_implementation": "hybrid",
            "eos_token_id": [1, 107],
            "final_logit_softcapping": 30.0,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "model_type": "gemma2",
            "num_hidden_layers": 26,
            "num_image_tokens": 256,
            "num_key_value_heads": 4,
            "query_pre_attn_scalar": 256,
            "sliding_window": 4096,
            "torch_dtype": "bfloat16",
            "vocab_size": 257216,
        },
        "torch_dtype": "bfloat16",
        "transformers_version": "4.47.0.dev0",
        "vision_config": {**SO400M, "num_positions": 256, "projection_dim": 2304},
    },
}


def small_config(
    kind: str, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **settings: Any
) -> PaliGemmaConfig:
    """The config of a small model whose images take 16 places."""
    of_text = {**TEXT, **TEXTS[kind], **(text or {})}
    of_vision = {**VISION, "model_type": "siglip_vision_model", "vision_use_head": False, **(vision or {})}
    given = {"image_token_index": IMAGE, "projection_dim": TEXT["hidden_size"], **settings}
    return PaliGemmaConfig(text_config=of_text, vision_config=of_vision, **given)


def theirs(rows: Sequence[Row], prefix: int | None = None) -> dict[str, torch.Tensor]:
    """All images of all rows one after the other; 0 marks the tokens of the prefix."""
    kinds = np.zeros((len(rows), len(rows[0][0])), dtype=np.int64)
    kinds[:, prefix:] = prefix is not None
    # Without an image a text is causal.
    kinds[[not images for _, images in rows]] = 1
    return {**images_in_turn(rows), "token_type_ids": torch.tensor(kinds)}


def small_rows(vectors: int = 16, channels: int = 3, side: int = 28) -> list[Row]:
    one, two = (random_pixels(1, channels, side, side, seed=seed) for seed in range(2))
    v = vectors
    return [
        row_of((one, v), 12 + v),
        row_of(3, (one, v), 2, (two, v), 7),
        row_of((two, v), (one, v), 12),
        row_of(12 + 2 * v),
    ]


@pytest.mark.parametrize("kind", TEXTS)
def test_images(kind: str, tmp_path: Path) -> None:
    reference = whole_model(small_config(kind))
    check_images(reference, save(reference, tmp_path), small_rows(), theirs, in_pieces=False)


@pytest.mark.parametrize("kind", TEXTS)
def test_prefixes_that_are_attended_to_in_blocks(kind: str, tmp_path: Path) -> None:
    text = {"max_position_embeddings": 2048, **({"sliding_window": 40} if kind == "gemma2" else {})}
    reference = whole_model(small_config(kind, {"image_size": 112}, text))
    model, _ = load(save(reference, tmp_path), dtype="float32")
    one, two = (random_pixels(1, 3, 112, 112, seed=seed) for seed in range(2))
    rows = [row_of((one, 256), 300), row_of(9, (two, 256), (one, 256), 35)]
    new = random_ids(2, 90, vocabulary=IMAGE)
    whole = [([*ids, *new[b]], images) for b, (ids, images) in enumerate(rows)]
    with torch.no_grad():
        given = theirs(whole, prefix=556)
        expected = reference(torch.tensor([ids for ids, _ in whole]), **given).logits.numpy()
    cache = model.new_cache(2)
    found = [model([ids for ids, _ in rows], cache=cache, images=[images for _, images in rows])]
    found.append(model(new, cache=cache))
    assert_close(np.concatenate(found, axis=1), expected)


@pytest.mark.parametrize("kind", TEXTS)
def test_what_follows_a_prefix_is_causal(kind: str, tmp_path: Path) -> None:
    reference = whole_model(small_config(kind))
    model, _ = load(save(reference, tmp_path), dtype="float32")
    rows = small_rows()
    suffix = random_ids(len(rows), 11, vocabulary=IMAGE)
    whole = [([*ids, *suffix[b]], images) for b, (ids, images) in enumerate(rows)]
    length = len(rows[0][0])
    with torch.no_grad():
        given = theirs(whole, prefix=length)
        expected = reference(torch.tensor([ids for ids, _ in whole]), **given).logits.numpy()
    cache = model.new_cache(batch_size=len(rows))
    found = [model([ids for ids, _ in rows], cache=cache, images=[images for _, images in rows])]
    found += [model(suffix[:, a:b], cache=cache) for a, b in ((0, 1), (1, 2), (2, 11))]
    assert_close(np.concatenate(found, axis=1), expected)


@pytest.mark.parametrize("kind", TEXTS)
def test_without_images_it_is_its_text_part(kind: str, tmp_path: Path) -> None:
    reference = whole_model(small_config(kind))
    model = check(reference, save(reference, tmp_path), length=40)
    assert type(model).__module__ == f"tinystar_np.models.{kind}"


def check_row(reference: PreTrainedModel, directory: Path, row: Row) -> None:
    """Logits of one row."""
    model, _ = load(directory, dtype="float32")
    expected = logits_with_images(reference, [row], theirs)[0]
    assert_close(model(row[0], images=row[1]), expected)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"vision": {"image_size": 37}}, 25),  # 2 pixels of which no patch has any
        ({"vision": {"layer_norm_eps": 0.1}}, 16),
        ({"vision": {"hidden_act": "gelu"}}, 16),
        ({"vision": {"hidden_size": 36, "num_attention_heads": 4, "intermediate_size": 20}}, 16),
        ({"vision": {"num_hidden_layers": 3, "num_channels": 1}}, 16),
        ({"vision": {"vision_use_head": True}}, 16),
        ({"vision": {"patch_size": 14}}, 4),
        ({"text": {"use_bidirectional_attention": None}}, 16),
        ({"text": {"use_bidirectional_attention": False}}, 16),
        ({"text": {"use_bidirectional_attention": True}}, 16),
        ({"tie_word_embeddings": False}, 16),
        ({"hidden_size": 99, "vocab_size": 98}, 16),  # say nothing beside the text part's
    ],
    ids=str,
)
def test_every_switch(settings: dict[str, Any], count: int, tmp_path: Path) -> None:
    reference = whole_model(small_config("gemma", **settings))
    vision = reference.config.vision_config
    C, side = vision.num_channels, vision.image_size
    row = row_of((random_pixels(1, C, side, side, seed=2), count), 4)
    check_row(reference, save(reference, tmp_path), row)


@pytest.mark.parametrize(
    "text",
    [
        {"sliding_window": 3},
        {"layer_types": ["sliding_attention"] * 3},
        {"final_logit_softcapping": 0.7, "attn_logit_softcapping": 0.3},
    ],
    ids=str,
)
def test_switches_of_gemma2(text: dict[str, Any], tmp_path: Path) -> None:
    """A window hides nothing of a prefix; the whole model caps its logits as the text part does."""
    reference = whole_model(small_config("gemma2", text=text))
    check_images(reference, save(reference, tmp_path), small_rows()[:2], theirs, in_pieces=False)


@pytest.mark.parametrize("kind", ["of 2024", "of transformers 5"])
@pytest.mark.parametrize("tied", [True, False])
def test_names_of_tensors(kind: str, tied: bool, tmp_path: Path) -> None:
    reference = whole_model(small_config("gemma", tie_word_embeddings=tied))
    path = save(reference, tmp_path) / "model.safetensors"
    named = renamed_as(kind, load_file(path))
    head = "language_model.lm_head.weight" if kind == "of 2024" else "lm_head.weight"
    assert (head in named) == (not tied)
    beginning = "" if kind == "of 2024" else "model."
    assert f"{beginning}multi_modal_projector.linear.weight" in named
    save_file(named, path)
    check_row(reference, tmp_path, small_rows()[0])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs(name: str, tmp_path: Path) -> None:
    """Their keys with smaller sizes; the sizes themselves where no weights are needed."""
    published = PUBLISHED[name]
    ours = OurConfig.from_dict({**published, "text_width": published["hidden_size"]})
    assert (ours.vision.side, ours.vision.sizes["K"], ours.image_token_index) == (16, 72, 257152)
    text = {**published["text_config"], "vocab_size": 211, "hidden_size": 48, "intermediate_size": 80}
    text |= {"num_hidden_layers": 2, "head_dim": 8}
    small = {"text_config": text, "vision_config": {**published["vision_config"], **VISION}}
    config = {**published, **small, "projection_dim": 48, "image_token_index": IMAGE}
    reference = whole_model(PaliGemmaConfig(**json.loads(json.dumps(config))))
    save(reference, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    check_row(reference, tmp_path, small_rows()[0])


def test_a_config_of_today(tmp_path: Path) -> None:
    reference = whole_model(small_config("gemma"))
    save(reference, tmp_path, image_token_index=None, image_token_id=IMAGE)
    check_row(reference, tmp_path, small_rows()[0])


def test_defaults_are_those_of_transformers() -> None:
    usual, ours = PaliGemmaConfig(), OurConfig.from_dict({"text_width": 2048})
    assert vars(ours.vision) == {name: getattr(usual.vision_config, name) for name in vars(ours.vision)}
    assert ours.projection_dim == usual.projection_dim
    assert ours.image_token_index == usual.image_token_index


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"projection_dim": 40}, "projection_dim = 40, but the text part's hidden_size = 48"),
        ({"image_token_index": -1}, "image_token_index = -1 must be at least 0"),
        ({"vision_config": {"model_type": "clip_vision_model"}}, "vision_config.model_type = 'clip_vision"),
        ({"vision_config": {**VISION, "patch_size": 29}}, "config.json, vision_config: patch_size = 29 must"),
        (
            {"text_config": {"model_type": "gemma3_text"}},
            "'gemma3_text', but paligemma has 'gemma' or 'gemma2'",
        ),
    ],
    ids=str,
)
def test_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**small_config("gemma").to_dict(), **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_generation_reads_a_long_prefix_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after other tokens in a cache; a text without images is read in pieces as elsewhere."""
    reference = whole_model(small_config("gemma2"))
    model, _ = load(save(reference, tmp_path), dtype="float32")
    assert model.vision is not None
    monkeypatch.setattr(loop, "PREFILL", 6)
    lengths: list[int] = []

    def read(ids: np.ndarray, **how: Any) -> np.ndarray:
        lengths.append(ids.shape[-1])
        return model(ids, **how)

    ids, images = small_rows()[1]
    expected = logits_with_images(reference, [(ids, images)], theirs)[0]
    told: list[tuple[int, int]] = []
    found = loop.prefill(
        read, ids, model.new_cache(), lambda *counts: told.append(counts), model.vision.see(images)
    )
    assert_close(found, expected[-1:])
    assert lengths == [len(ids)]
    assert told == [(0, len(ids)), (len(ids), len(ids))]
    loop.prefill(read, ids[:3], cache := model.new_cache())
    lengths.clear()
    later = [image.moved(3) for image in model.vision.see(images)]
    loop.prefill(read, ids, cache, images=later)
    assert lengths == [len(ids)]
    lengths.clear()
    loop.prefill(read, [5] * 13, model.new_cache())
    assert lengths == [6, 6, 1]


def test_a_later_image_is_a_prefix_again(tmp_path: Path) -> None:
    """As by a mask for transformers: what the second call has sees all of itself, and what came before."""
    reference = whole_model(small_config("gemma"))
    model, _ = load(save(reference, tmp_path), dtype="float32")
    first, second = small_rows()[0], small_rows()[2]
    answer = random_ids(4, vocabulary=IMAGE).tolist()
    ids = [*first[0], *answer, *second[0]]
    start = len(first[0]) + len(answer)
    images = [*first[1], *(type(image)(image.pixels, image.places + start) for image in second[1])]
    places = np.arange(len(ids))
    seen = places[:, None] >= places
    seen[: len(first[0]), : len(first[0])] = seen[start:, start:] = True
    pixels = torch.tensor(np.concatenate([image.pixels.tiles for image in images]))
    with torch.no_grad():
        mask = torch.tensor(np.where(seen, np.float32(0), np.finfo(np.float32).min))[None, None]
        expected = reference(torch.tensor([ids]), pixel_values=pixels, attention_mask=mask).logits[0].numpy()
    cache = model.new_cache()
    found = [model(first[0], cache=cache, images=images), model(answer, cache=cache, images=images)]
    found += [model(second[0], cache=cache, images=images)]
    assert_close(np.concatenate(found), expected)


def test_where_a_prefix_cannot_be_cut(tmp_path: Path) -> None:
    reference = whole_model(small_config("gemma"))
    model, _ = load(save(reference, tmp_path), dtype="float32")
    ids, images = small_rows()[1]  # images at 3 to 18 and at 21 to 36
    cache = model.new_cache()
    with pytest.raises(InputError, match=r"ends at token 10, within an image of 16 tokens.* in one call"):
        model(ids[:10], cache=cache, images=images)
    assert (cache.lengths.tolist(), cache.images) == ([0], None)
    model(ids, cache=cache, images=images)
    model(answer := [7, 8, 9], cache=cache)
    held = len(ids)
    for length in (1, 20, held - 1):
        assert not cache.truncates_to(length)
        with pytest.raises(InputError, match=f"tokens 0 to {held - 1} were read as one prompt"):
            cache.truncate(length)
    cache.truncate(held + 1)
    expected = logits_with_images(reference, [([*ids, *answer], images)], lambda rows: theirs(rows, held))[0]
    assert_close(model(answer[1:], cache=cache), expected[-2:])
    cache.truncate(held)
    assert_close(model(answer, cache=cache), expected[-3:])
    cache.lengths = np.array([5])  # set by hand: the cache does not know what to make of it
    with pytest.raises(
        InputError, match=f"tokens 0 to {held - 1} are one prompt.*End the call at token 0 or"
    ):
        model(ids[5:], cache=cache, images=images)
    cache.truncate(0)
    assert cache.images is None


def test_a_cache_of_a_prefix_is_saved_with_it(tmp_path: Path) -> None:
    reference = whole_model(small_config("gemma2"))
    model, _ = load(save(reference, tmp_path), dtype="float32")
    rows = small_rows()
    cache = model.new_cache(len(rows))
    model([ids for ids, _ in rows], cache=cache, images=[images for _, images in rows])
    cache.save(tmp_path / "saved.cache")
    loaded = model.load_cache(tmp_path / "saved.cache")
    for one, other in zip(cache.images or (), loaded.images or (), strict=True):
        assert [image.groups for image in one] == [image.groups for image in other]
    new = random_ids(len(rows), 7, vocabulary=IMAGE)
    assert_close(model(new, cache=loaded), model(new, cache=cache))


def test_guesses_after_a_prefix(tmp_path: Path) -> None:
    """Wrong guesses are taken back from the answer, never from the prefix."""
    reference = whole_model(small_config("gemma"))
    model, _ = load(save(reference, tmp_path), dtype="float32")
    assert model.vision is not None
    ids, images = small_rows()[0]
    texts = []
    for guesses in (0, 4):
        options = SamplingOptions(max_new_tokens=30, temperature=0.0, prompt_lookup_num_tokens=guesses)
        pieces = list(loop.run(model, [ids], None, options, images=[model.vision.see(images)]))
        texts.append([piece.token_id for piece in pieces])
    assert any(piece.guessed for piece in pieces)
    assert texts[0] == texts[1]
