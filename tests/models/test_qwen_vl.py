"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL against transformers, with images."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, edit_config, random_ids, save
from qwen_vl_parity import CONFIGS, SECTIONS, pixels_of, small_config, small_rows, theirs_of
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM
from vision_parity import (
    IMAGE,
    TEXT,
    Row,
    check_images,
    logits_with_images,
    random_pixels,
    row_of,
    whole_model,
)

import tinystar_np as ts
from tinystar_np.errors import CheckpointError, ConfigError, InputError
from tinystar_np.loading import load
from tinystar_np.models import Decoder
from tinystar_np.models.vision.pixels import ImageInput

QWEN2, QWEN25, QWEN3, EXPERTS = CONFIGS
Keys = dict[str, Any]


def axial(theta: float) -> Keys:
    return {"rope_parameters": {"rope_type": "axial", "rope_theta": theta}}


def in_sections(*sizes: int, **rope: Any) -> Keys:
    return {"rope_parameters": {**SECTIONS, "mrope_section": list(sizes), **rope}}


def rows_for(config: Any) -> list[Row]:
    """Two images between words, of vectors of whatever size the config makes them."""
    vision = config.vision_config
    side, C = vision.patch_size * vision.spatial_merge_size, vision.in_channels
    images = [(pixels_of(3, 5, side, C), 15), (pixels_of(2, 1, side, C, seed=1), 2)]
    return [row_of(4, images[0], 3, images[1], 6)]


def check_whole_prompt(config: Any, directory: Path, scale: float = 1.0) -> Decoder:
    """Hold the logits of a prompt with two images against transformers'; return our model.

    scale  of the weights
    """
    reference = whole_model(config)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.mul_(scale)
    model, _ = load(save(reference, directory), dtype="float32")
    rows = rows_for(config)
    assert_close(
        model(rows[0][0], images=rows[0][1]), logits_with_images(reference, rows, theirs_of(config))[0]
    )
    return model


@pytest.mark.parametrize("kind", CONFIGS)
def test_images(kind: str, tmp_path: Path) -> None:
    config = small_config(kind)
    reference = whole_model(config)
    check_images(reference, save(reference, tmp_path), small_rows(), theirs_of(config))


OF_ENCODERS: list[tuple[str, Keys]] = [
    (QWEN2, {"embed_dim": 48}),
    (QWEN2, {"hidden_act": "gelu"}),
    (QWEN2, {"mlp_ratio": 3}),
    (QWEN25, {"hidden_size": 48}),
    (QWEN25, {"hidden_act": "gelu_pytorch_tanh"}),
    (QWEN25, {"intermediate_size": 20}),
    (QWEN25, {"window_size": 8}),
    (QWEN25, {"window_size": 23}),  # as 16: windows are of whole vectors
    (QWEN25, {"window_size": 24}),
    (QWEN25, {"window_size": 1000}),
    (QWEN25, {"fullatt_block_indexes": []}),
    (QWEN25, {"fullatt_block_indexes": [0, 2]}),
    (QWEN25, {"fullatt_block_indexes": [31]}),
    (QWEN25, {"window_size": 16, "spatial_merge_size": 4}),
    (QWEN3, {"hidden_size": 48}),
    (QWEN3, {"hidden_act": "quick_gelu"}),
    (QWEN3, {"intermediate_size": 20}),
    (QWEN3, {"num_position_embeddings": 9}),
    (QWEN3, {"num_position_embeddings": 30}),  # 5 × 5, and five that nothing reads
    (QWEN3, {"num_position_embeddings": 1}),
    (QWEN3, {"deepstack_visual_indexes": []}),
    (QWEN3, {"deepstack_visual_indexes": [1]}),
    (QWEN3, {"deepstack_visual_indexes": [0, 1, 2]}),
    (QWEN3, {"deepstack_visual_indexes": [2, 0]}),  # the first merger reads the later block
]
OF_ALL: list[Keys] = [
    {"depth": 1, "deepstack_visual_indexes": [0]},
    {"num_heads": 2},
    {"in_channels": 1},
    {"patch_size": 6, "window_size": 24},
    {"spatial_merge_size": 1},
    {"spatial_merge_size": 3, "window_size": 24},
    {"temporal_patch_size": 1},
    {"temporal_patch_size": 3},
    axial(10.0),
]


@pytest.mark.parametrize(
    ("kind", "vision"), [*OF_ENCODERS, *((kind, keys) for kind in CONFIGS for keys in OF_ALL)], ids=str
)
def test_the_encoders_keys(kind: str, vision: Keys, tmp_path: Path) -> None:
    has = vars(CONFIGS[kind]().vision_config)
    check_whole_prompt(small_config(kind, {key: vision[key] for key in vision if key in has}), tmp_path)


OF_TEXTS: list[tuple[str, Keys]] = [
    *((QWEN2, in_sections(*sizes)) for sizes in ((2, 1, 1), (0, 2, 2), (4, 0, 0), (1, 1, 1, 1), (1, 3))),
    (QWEN2, {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
    *((QWEN3, in_sections(*sizes)) for sizes in ((4, 0, 0), (0, 4, 4), (9, 1, 0), (0, 0, 1))),
    (QWEN3, {**in_sections(2, 2, 2), "head_dim": 12}),
    *((kind, in_sections(1, 2, 1, rope_type="linear", factor=3.0)) for kind in CONFIGS),
    *(
        (kind, in_sections(1, 2, 1, rope_type="yarn", factor=4.0, original_max_position_embeddings=16))
        for kind in CONFIGS
    ),
]


@pytest.mark.parametrize(("kind", "text"), OF_TEXTS, ids=str)
def test_the_decoders_keys_where_there_are_images(kind: str, text: Keys, tmp_path: Path) -> None:
    check_whole_prompt(small_config(kind, text=text), tmp_path)


def test_sections_as_published(tmp_path: Path) -> None:
    """Heads of 128, without a word about sections.

    Weights are smaller: with so many, softmax is so sharp that it magnifies rounding.
    """
    wide = {"hidden_size": 256, "num_attention_heads": 2, "rope_parameters": {"rope_theta": 100.0}}
    for kind, width in ((QWEN2, {"hidden_size": 256}), (QWEN3, {"out_hidden_size": 256})):
        text = {**wide, **({"head_dim": 128} if kind == QWEN3 else {})}
        check_whole_prompt(small_config(kind, width, text), tmp_path / kind, scale=0.5)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_whole_models_keys(kind: str, tmp_path: Path) -> None:
    model = check_whole_prompt(small_config(kind, tie_word_embeddings=True), tmp_path)
    assert model.config.tie_word_embeddings
    edit_config(tmp_path, image_token_id=17)
    model, _ = load(tmp_path)
    (ids, images), *_ = rows_for(small_config(kind))
    model(np.where(np.array(ids) == IMAGE, 17, ids), images=images)
    with pytest.raises(InputError, match="is 210 and not the image token 17"):
        model(ids, images=images)


def first_files(directory: Path) -> None:
    """Write names and config as Qwen published them: Qwen2-VL and Qwen2.5-VL."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    renamed = {
        name.replace("model.visual.", "visual.").replace("model.language_model.", "model."): tensors[name]
        for name in tensors
    }
    save_file(renamed, path)
    raw = json.loads((directory / "config.json").read_text())
    text, vision = raw.pop("text_config"), raw.pop("vision_config")
    rope = text.pop("rope_parameters")
    flat = {key: value for key, value in text.items() if key not in ("model_type", "dtype")}
    vision |= {"model_type": raw["model_type"], "in_chans": vision.pop("in_channels")}
    vision |= {"spatial_patch_size": vision["patch_size"]}
    flat |= {"rope_theta": rope["rope_theta"], "rope_scaling": {"type": "mrope", "mrope_section": [1, 2, 1]}}
    (directory / "config.json").write_text(json.dumps({**flat, **raw, "vision_config": vision}))


@pytest.mark.parametrize("kind", [QWEN2, QWEN25])
@pytest.mark.parametrize("tied", [False, True])
def test_first_files(kind: str, tied: bool, tmp_path: Path) -> None:
    config = small_config(kind, tie_word_embeddings=tied)
    reference = whole_model(config)
    first_files(save(reference, tmp_path))
    check_images(reference, tmp_path, small_rows(), theirs_of(config))
    again = type(reference).from_pretrained(tmp_path, attn_implementation="eager").eval()
    rows = small_rows()[:1]
    expected = logits_with_images(reference, rows, theirs_of(config))
    assert_close(logits_with_images(again, rows, theirs_of(again.config)), expected, what="the files are so")


@pytest.mark.parametrize("kind", CONFIGS)
def test_spellings_of_the_encoders_keys(kind: str, tmp_path: Path) -> None:
    """Other names of two keys, the base outside of the rotations' parameters, the first model_type."""
    config = small_config(kind, axial(10.0))
    reference = whole_model(config)
    vision = json.loads((save(reference, tmp_path) / "config.json").read_text())["vision_config"]
    vision |= {"num_attention_heads": vision.pop("num_heads"), "num_hidden_layers": vision.pop("depth")}
    vision |= {"rope_parameters": None, "rope_theta": 10.0, "model_type": kind}
    edit_config(tmp_path, vision_config=vision)
    rows = rows_for(config)
    expected = logits_with_images(reference, rows, theirs_of(config))[0]
    assert_close(load(tmp_path)[0](rows[0][0], images=rows[0][1]), expected)
    again = type(reference).from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert_close(
        logits_with_images(again, rows, theirs_of(config))[0], expected, what="transformers reads so"
    )


@pytest.mark.parametrize("kind", [QWEN2, QWEN25])
def test_tied_where_only_the_text_part_says_so(kind: str, tmp_path: Path) -> None:
    config = small_config(kind, tie_word_embeddings=True)
    reference = whole_model(config)
    raw = json.loads((save(reference, tmp_path) / "config.json").read_text())
    edit_config(
        tmp_path,
        tie_word_embeddings=False,
        text_config={**raw["text_config"], "tie_word_embeddings": True},
    )
    rows = rows_for(config)
    expected = logits_with_images(reference, rows, theirs_of(config))[0]
    assert_close(load(tmp_path)[0](rows[0][0], images=rows[0][1]), expected)


@pytest.mark.parametrize("width", [20, 24])  # 24 makes the larger tensors square
def test_experts_as_published(width: int, tmp_path: Path) -> None:
    """The published files have each expert's matrices (in, out), those of transformers 5 (out, in)."""
    config = small_config(EXPERTS, text={"moe_intermediate_size": width})
    reference = whole_model(config)
    rows = rows_for(config)
    expected = logits_with_images(reference, rows, theirs_of(config))[0]
    path = save(reference, tmp_path) / "model.safetensors"
    assert_close(load(tmp_path)[0](rows[0][0], images=rows[0][1]), expected)
    tensors = load_file(path)
    for name in tensors:
        if ".experts." in name:
            tensors[name] = np.ascontiguousarray(tensors[name].swapaxes(1, 2))
    save_file(tensors, path)
    edit_config(tmp_path, text_config={**config.text_config.to_dict(), "norm_topk_prob": True})
    assert_close(load(tmp_path)[0](rows[0][0], images=rows[0][1]), expected)
    if width != 24:  # there transformers cannot tell the two
        again = type(reference).from_pretrained(tmp_path, attn_implementation="eager").eval()
        assert_close(logits_with_images(again, rows, theirs_of(config))[0], expected, what="they are so")


MODELS_OF_TEXT: Mapping[str, tuple[Any, type[PreTrainedModel]]] = {
    QWEN2: (Qwen2Config, Qwen2ForCausalLM),
    QWEN3: (Qwen3Config, Qwen3ForCausalLM),
}


@pytest.mark.parametrize("kind", MODELS_OF_TEXT)
def test_without_images_it_is_the_model_of_text(kind: str, tmp_path: Path) -> None:
    config_class, model_class = MODELS_OF_TEXT[kind]
    config = small_config(kind)
    whole = whole_model(config)
    theirs = model_class(
        config_class(
            **{**TEXT, "rms_norm_eps": config.text_config.rms_norm_eps, "tie_word_embeddings": False}
        )
    ).eval()
    theirs.config.rope_parameters.update(rope_theta=100.0)
    theirs = model_class(theirs.config).eval()
    theirs.model.load_state_dict(whole.model.language_model.state_dict())
    theirs.lm_head.load_state_dict(whole.lm_head.state_dict())
    ids = random_ids(2, 30, vocabulary=IMAGE)
    with torch.no_grad():
        expected = theirs(torch.tensor(ids)).logits.numpy()
    assert_close(load(save(whole, tmp_path))[0](ids), expected)


@pytest.mark.parametrize("kind", CONFIGS)
def test_caches(kind: str, tmp_path: Path) -> None:
    """Cut back before an image, within it and after it, saved, copied: what follows is as without a cache."""
    config = small_config(kind)
    reference = whole_model(config)
    model, _ = load(save(reference, tmp_path), dtype="float32")
    assert model.vision is not None
    (ids, images), *_ = rows = rows_for(config)
    seen = model.vision.see(images)
    expected = logits_with_images(reference, rows, theirs_of(config))[0]
    for cut in (2, 4, 9, 19, 20, 23, 26):
        cache = model.new_cache()
        model(ids, cache=cache, images=seen)
        cache.truncate(cut)
        assert_close(model(ids[cut:], cache=cache, images=seen), expected[cut:], what=f"cut back to {cut}")
    for cut in (9, 19, 26):
        cache = model.new_cache()
        model(ids[:cut], cache=cache, images=seen)
        cache.save(tmp_path / "cache")
        for other in (model.load_cache(tmp_path / "cache"), cache.copy()):
            rest = seen if cut < 24 else ()
            assert_close(model(ids[cut:], cache=other, images=rest), expected[cut:], what=f"saved at {cut}")
        one = [model(ids[i : i + 1], cache=cache, images=seen, last_only=True) for i in range(cut, len(ids))]
        assert_close(np.concatenate(one), expected[cut:], what=f"one by one from {cut}")


@pytest.mark.parametrize("kind", CONFIGS)
def test_images_are_given_in_any_order(kind: str, tmp_path: Path) -> None:
    """Positions after an image depend on those before it, wherever they stand in a list, or how often."""
    config = small_config(kind)
    reference = whole_model(config)
    model, _ = load(save(reference, tmp_path), dtype="float32")
    (ids, (first, second)), *_ = rows = rows_for(config)
    expected = logits_with_images(reference, rows, theirs_of(config))[0]
    for images in ([second, first], [first, second, first]):
        assert_close(model(ids, images=images), expected)
        cache = model.new_cache()
        found = [model(ids[:21], cache=cache, images=images), model(ids[21:], cache=cache, images=images)]
        assert_close(np.concatenate(found), expected)


def test_windows_are_alike_whether_watched_or_not(tmp_path: Path) -> None:
    """Where somebody listens, all scores are there, and patches beyond the window weigh nothing."""
    model, _ = load(save(whole_model(small_config(QWEN25)), tmp_path), dtype="float32")
    assert model.vision is not None
    image = ImageInput(pixels_of(3, 5), np.arange(15))
    vectors = model.vision.see([image])[0].vectors
    with ts.record("*.attention.probabilities", "*.attention.mixed") as watched:
        again = model.vision.see([image])[0].vectors
    assert_close(again, vectors)
    with ts.record("*.attention.mixed") as mixed:
        model.vision.see([image])
    for i in range(3):
        path = f"images.0.encoder.blocks.{i}.attention"
        assert_close(mixed[f"{path}.mixed"], watched[f"{path}.mixed"])
        row, column = np.indices((6, 10)).reshape(2, -1) // 4
        inside = (row[:, None] == row) & (column[:, None] == column)  # windows of 16 pixels, patches of 4
        outside = watched[f"{path}.probabilities"][:, :, ~inside]
        assert (outside > 0).all() if i == 1 else (outside == 0).all()


WRONG: list[tuple[str, Keys, Keys, str]] = [
    *((kind, {"vision_config": {"head_dim": 8}}, {}, "head_dim = 8 is not implemented") for kind in CONFIGS),
    *(
        (kind, {"vision_config": {"model_type": "siglip"}}, {}, "vision_config.model_type = 'siglip'")
        for kind in CONFIGS
    ),
    *(
        (kind, {"vision_config": {"num_heads": 5}}, {}, "cannot be divided among num_heads = 5")
        for kind in CONFIGS
    ),
    *((kind, {"vision_config": {"num_heads": 4}}, {}, "heads of width 6") for kind in CONFIGS),
    *(
        (kind, {"vision_config": {"rope_parameters": {"rope_type": "yarn"}}}, {}, "rope_type = 'yarn'")
        for kind in CONFIGS
    ),
    *(
        (kind, {"vision_config": {"patch_size": [4, 4]}}, {}, "patch_size = .*must be int")
        for kind in CONFIGS
    ),
    *((kind, {"vision_config": {"hidden_act": "squish"}}, {}, "hidden_act = 'squish'") for kind in CONFIGS),
    (QWEN2, {"vision_config": {"hidden_size": 40}}, {}, "hidden_size = 40, but the text part's"),
    (QWEN25, {"vision_config": {"out_hidden_size": 40}}, {}, "out_hidden_size = 40, but the text part's"),
    (QWEN3, {"vision_config": {"out_hidden_size": 40}}, {}, "out_hidden_size = 40, but the text part's"),
    (QWEN2, {"vision_config": {"mlp_ratio": 0}}, {}, "mlp_ratio = 0 must be at least 1"),
    (QWEN25, {"vision_config": {"window_size": 7}}, {}, "window_size = 7 is less than patch_size = 4 times"),
    (QWEN3, {"vision_config": {"deepstack_visual_indexes": [1, 1]}}, {}, "must be different ones of the 3"),
    (QWEN3, {"vision_config": {"deepstack_visual_indexes": [3]}}, {}, "must be different ones of the 3"),
    (QWEN2, {}, in_sections(1, 2), "are 3 pairs, but a head of 8 numbers has 4"),
    (QWEN2, {}, in_sections(1, -1, 4), "a list of whole numbers, at least 0"),
    (QWEN2, {}, {"rope_parameters": {"rope_theta": 10.0}}, r"\[16, 24, 24\] are 64 pairs"),
    (QWEN3, {}, in_sections(1, 2), "there are three axes"),
    (QWEN3, {}, {"rope_parameters": {**SECTIONS, "mrope_section": 4}}, "a list of whole numbers"),
    (QWEN2, {}, in_sections(1, 2, 1, mrope_interleaved=True), "sections lie one after the other"),
    (QWEN3, {}, in_sections(1, 2, 1, mrope_interleaved=False), "sections lie in turns"),
    (QWEN3, {}, in_sections(1, 2, 1, rope_type="mrope"), "rope_type = 'mrope' is not known here"),
    *(
        (kind, {}, in_sections(1, 2, 1, rope_type="dynamic", factor=2.0), "'dynamic' is not implemented")
        for kind in CONFIGS
    ),
    (EXPERTS, {}, {"norm_topk_prob": False}, "norm_topk_prob = False is not implemented"),
    (EXPERTS, {}, {"use_sliding_window": True}, "use_sliding_window = True is not implemented"),
    (QWEN2, {}, {"head_dim": 12}, "head_dim = 12, but hidden_size = 48"),
    (QWEN2, {"text_config": {"model_type": "llama"}}, {}, "text_config.model_type = 'llama'"),
    (QWEN3, {"text_config": None}, {}, "text_config = None, but in qwen3_vl it must be an object"),
]


@pytest.mark.parametrize(("kind", "whole", "text", "said"), WRONG, ids=lambda value: str(value)[:60])
def test_refused(kind: str, whole: Keys, text: Keys, said: str, tmp_path: Path) -> None:
    raw = small_config(kind).to_dict()
    raw["text_config"] |= text
    for key, value in whole.items():
        raw[key] = value if value is None else {**raw[key], **value}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    save_file({"nothing": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=said):
        load(tmp_path)


def test_sections_that_are_said_to_lie_as_they_do(tmp_path: Path) -> None:
    rope = {
        "rope_type": "default",
        "mrope_section": [1, 2, 1],
        "mrope_interleaved": True,
        "rope_theta": 100.0,
    }
    config = small_config(QWEN3)
    reference = whole_model(config)
    raw = json.loads((save(reference, tmp_path) / "config.json").read_text())
    raw["text_config"].pop("rope_parameters")
    text = {**raw["text_config"], "rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    edit_config(tmp_path, text_config=text)
    check_images(reference, tmp_path, small_rows(), theirs_of(config))


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_missing_tensor_is_named(kind: str, tmp_path: Path) -> None:
    path = save(whole_model(small_config(kind)), tmp_path) / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("blocks.1.attn.proj.bias"))
    save_file({other: tensors[other] for other in tensors if other != name}, path)
    with pytest.raises(CheckpointError, match=r"blocks\.1\.attn\.proj\.bias"):
        load(tmp_path)


@pytest.mark.parametrize("kind", CONFIGS)
def test_images_that_do_not_fit(kind: str, tmp_path: Path) -> None:
    model, _ = load(save(whole_model(small_config(kind)), tmp_path))
    assert model.vision is not None
    for shape in ((1, 3, 16, 20), (2, 3, 16, 16), (1, 3, 0, 16)):
        with pytest.raises(InputError, match=r"with h and w multiples of 8"):
            model.vision.see([ImageInput(random_pixels(*shape), np.arange(4))])
    with pytest.raises(InputError, match="places apart from one another"):
        model.vision.see([ImageInput(pixels_of(2, 2), np.array([0, 1, 3, 4]))])
    with pytest.raises(InputError, match="3 places in the prompt, but 4 vectors"):
        model.vision.see([ImageInput(pixels_of(2, 2), np.arange(3))])
