"""Taps of images: the names and shapes that docs/taps.md promises, and that each can be changed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, randomise, save
from qwen_vl_parity import pixels_of
from qwen_vl_parity import small_config as small_qwen
from small_seeing import picture, small_seeing_model
from transformers import (
    CLIPConfig,
    CLIPModel,
    Gemma3Config,
    Idefics3Config,
    Llama4Config,
    LlavaConfig,
    LlavaNextConfig,
    Mistral3Config,
    PaliGemmaConfig,
    SiglipConfig,
    SiglipModel,
    SmolVLMConfig,
    VipLlavaConfig,
)
from vision_parity import IMAGE, TEXT, VISION, random_pixels, row_of, whole_model

import tinystar_np as ts
from tinystar_np.errors import InputError
from tinystar_np.models.vision.pixels import ImageInput, Pixels

DOCUMENT = Path(__file__).parents[2] / "docs" / "taps.md"
ROWS = re.findall(r"^\| `(.+?)` \| \((.+?)\) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
CLIP, SIGLIP = {"model_type": "clip_vision_model"}, {"model_type": "siglip_vision_model"}
LLAMA = {**TEXT, "model_type": "llama"}
D, F, O = VISION["hidden_size"], VISION["intermediate_size"], TEXT["hidden_size"]  # noqa: E741 — widths
SIDE = VISION["image_size"] // VISION["patch_size"]
SQUARE, TILES = random_pixels(1, 3, 28, 28), random_pixels(3, 3, 28, 28)


def index_of(config: type, text: Mapping[str, Any] = LLAMA, **settings: Any) -> Any:
    """The config of a small model that spells the image token as the first ones did."""
    return config(text_config=dict(text), image_token_index=IMAGE, **settings)


def llama4() -> Any:
    """Llama 4, in whose encoder widths depend on one another."""
    vision = {**VISION, "intermediate_size": 4 * D, "num_attention_heads": 2}
    vision |= dict.fromkeys(("projector_input_dim", "projector_output_dim", "vision_output_dim"), 20)
    text = {**TEXT, "attention_chunk_size": 17, "num_local_experts": 3, "intermediate_size_mlp": 64}
    return index_of(Llama4Config, text, vision_config=vision)


def idefics3(config: type) -> Any:
    """Idefics3 and SmolVLM, which merge squares of 2 × 2 patches."""
    return config(
        text_config=LLAMA, vision_config=VISION, scale_factor=2, image_token_id=IMAGE, pad_token_id=0
    )


def pixtral(config: type, **settings: Any) -> Any:
    """Pixtral's encoder before Mistral."""
    vision = {**VISION, "model_type": "pixtral", "num_attention_heads": 2}
    text = {**TEXT, "model_type": "mistral", "sliding_window": None, "rms_norm_eps": 1e-5}
    return index_of(config, text, vision_config=vision, vision_feature_layer=-1, **settings)


# An image of each, how many vectors stand for it, and the widths of what stands after the encoder.
MODELS: dict[str, tuple[Any, Pixels, int, set[int]]] = {
    "smolvlm": (idefics3(SmolVLMConfig), TILES, 12, {4 * D}),
    "idefics3": (idefics3(Idefics3Config), SQUARE, 4, {4 * D}),
    "llava": (index_of(LlavaConfig, vision_config={**CLIP, **VISION}), SQUARE, 16, set()),
    "llava, siglip": (
        index_of(LlavaConfig, vision_config={**SIGLIP, **VISION}, vision_feature_select_strategy="full"),
        *(SQUARE, 16, set()),
    ),
    "llava, pixtral": (
        pixtral(LlavaConfig, vision_feature_select_strategy="full"),
        *(random_pixels(1, 3, 14, 35), 10, set()),
    ),
    "llava_next": (
        index_of(
            LlavaNextConfig, vision_config={**CLIP, **VISION}, image_grid_pinpoints=[[28, 56], [56, 28]]
        ),
        random_pixels(3, 3, 28, 28, size=(28, 56), grid=(1, 2)),
        *(16 + 4 * 9, set()),
    ),
    "vipllava": (
        index_of(VipLlavaConfig, vision_config={**CLIP, **VISION}, vision_feature_layers=[-1, 0, -2]),
        *(SQUARE, 16, {3 * D}),
    ),
    "gemma3": (
        index_of(
            Gemma3Config,
            {**TEXT, "sliding_window": 6, "sliding_window_pattern": 2},
            vision_config=VISION,
            mm_tokens_per_image=4,
        ),
        *(TILES, 12, set()),
    ),
    "paligemma": (
        index_of(
            PaliGemmaConfig,
            {**TEXT, "model_type": "gemma"},
            vision_config={**SIGLIP, **VISION, "vision_use_head": False},
            projection_dim=O,
        ),
        *(SQUARE, 16, set()),
    ),
    "mistral3": (pixtral(Mistral3Config), random_pixels(1, 3, 28, 42), 6, set()),
    "llama4": (llama4(), TILES, 12, {4 * D, 20}),
    "qwen2_vl": (small_qwen("qwen2_vl"), pixels_of(2, 5), 10, {4 * D}),
    "qwen2_5_vl": (small_qwen("qwen2_5_vl"), pixels_of(2, 5), 10, {4 * D}),
    "qwen3_vl": (small_qwen("qwen3_vl"), pixels_of(2, 5), 10, {4 * D}),
    "qwen3_vl_moe": (small_qwen("qwen3_vl_moe"), pixels_of(2, 5), 10, {4 * D}),
}


def documented(path: str, shape: tuple[int, ...], sizes: Mapping[str, set[int]]) -> set[tuple[str, str]]:
    """The rows of docs/taps.md that name a tap, and whose letters may have these sizes.

    In an encoder the names of texts hold, and h and w may stand for T.
    """
    name = re.sub(r"\bdeep\.\d+", "deep.{m}", re.sub(r"^images\.\d+", "images.{j}", path))
    inner = re.sub(r"^(images\.\{j\}|image|text)\.(encoder\.)?", "", name)
    inner = re.sub(r"^(merger|deep\.\{m\}|adapter|pooling|projector)\.", "blocks.{i}.", inner)
    names = {
        name,
        re.sub(r"^image\.", "images.{j}.", name),
        name.replace("deep.{m}", "merger"),
        name.replace("encoder.pixel", "pixel"),
    }
    names |= {re.sub(r"^blocks\.\d+", "blocks.{i}", inner)}
    found = set()
    for row in ROWS:
        for letters in (row[1], row[1].replace("T", "h, w", 1)):
            axes = letters.split(", ")
            fits = len(axes) == len(shape) and all(
                size in sizes.get(axis, ()) for axis, size in zip(axes, shape, strict=True)
            )
            if row[0] in names and fits:
                found.add(row)
    return found


def sizes_of(encoder: Any, pixels: Pixels, others: set[int]) -> dict[str, set[int]]:
    """What letters may be: patches before they are merged and after, the widths of encoder and decoder."""
    known, (n, _, height, width) = encoder.config.sizes, pixels.tiles.shape
    h, w = height // known["P"], width // known["P"]
    T = {h * w, h * w + 1, h * w // 4}
    return {
        **{"B": {n}, "T": T, "S": T, "M": {2}},
        **{"h": {h, h // 2, h * pixels.grid[0]}, "w": {w, w // 2, w * pixels.grid[1]}},
        **{"H": {known["H"]}, "G": {known["H"]}, "K": {known["K"]}},
        **{"D": {known["D"], O} | others, "F": {known["F"], O} | others},
    }


def test_names_and_shapes_are_the_documented_ones(tmp_path: Path) -> None:
    """Nothing is caught that is not documented so, and nothing documented that no model has."""
    seen: set[tuple[str, str]] = set()
    for name, (config, pixels, vectors, others) in MODELS.items():
        model, _ = ts.load(save(whole_model(config), tmp_path / name))
        ids, images = row_of(3, (pixels, vectors), 4)
        with ts.record() as caught:
            model(ids, images=images)
        assert next(iter(caught)) == "images.0.encoder.embedding.patches"
        sizes = sizes_of(model.vision.encoder, pixels, others)
        sizes["T"] |= {vectors}
        of_image = {path: array for path, array in caught.items() if path.startswith("images.")}
        assert len(of_image) > 15
        seen |= check_documented(name, of_image, sizes)
        assert_close(model.vision.vectors(pixels), caught["images.0.vectors"], what="vectors by themselves")
        with_images = caught["embedding.images"]
        np.testing.assert_array_equal(with_images[0, images[0].places], caught["images.0.vectors"])
        assert with_images.shape == caught["embedding.tokens"].shape == (1, len(ids), O)
        with ts.intervene(dict.fromkeys(of_image, lambda x: x)):  # each is one that may be changed
            np.testing.assert_array_equal(model(ids, images=images), caught["logits"][0])
    for kind in ("clip", "siglip"):
        seen |= check_documented(kind, *taps_of_embeddings(kind, tmp_path / kind))
    assert {row for row in ROWS if row[0].startswith(("image", "text."))} <= seen


def check_documented(
    name: str, caught: Mapping[str, np.ndarray], sizes: Mapping[str, set[int]]
) -> set[tuple[str, str]]:
    """The rows of all taps, each of which must have one."""
    seen = set()
    for path, array in caught.items():
        fitting = documented(path, array.shape, sizes)
        assert fitting, f"{name}: {path} {array.shape} is not in docs/taps.md"
        assert array.dtype == np.float32
        seen |= fitting
    return seen


def taps_of_embeddings(kind: str, directory: Path) -> tuple[Mapping[str, np.ndarray], dict[str, set[int]]]:
    """What CLIP or SigLIP by itself makes of two texts and two images, and what letters may be."""
    text = {**TEXT, "num_attention_heads": 6, "max_position_embeddings": 12, "eos_token_id": 210}
    parts: dict[str, Any] = {"text_config": text, "vision_config": VISION}
    if kind == "clip":
        reference = CLIPModel._from_config(CLIPConfig(**parts, projection_dim=20))
    else:
        parts["text_config"] = {**text, "projection_size": D}
        reference = SiglipModel._from_config(SiglipConfig(**parts))
    randomise(reference)
    model, _ = ts.load(save(reference, directory))
    pixels = [random_pixels(1, 3, 28, 28, seed=n) for n in range(2)]
    with ts.record() as caught:
        model.embed_text(np.full((2, 12), 210))
        model.embed_image(pixels)
    with ts.ablate("image.encoder.blocks.1.attention.mixed", heads=[2]):
        changed = model.embed_image(pixels)
    assert np.abs(changed - caught["image.vectors"]).max() > 1e-4
    both = Pixels(np.concatenate([each.tiles for each in pixels]), (28, 28))
    sizes = sizes_of(model.encoder, both, {20})
    sizes["F"] |= {TEXT["intermediate_size"]}
    for letter, size in (("T", 12), ("S", 12), ("H", 6), ("G", 6), ("K", O // 6), ("T", 1)):
        sizes[letter] |= {size}
    return caught, sizes


def two_images(tmp_path: Path) -> tuple[Any, list[int], list[ImageInput]]:
    model, _ = ts.load(save(whole_model(MODELS["smolvlm"][0]), tmp_path))
    ids, images = row_of(3, (SQUARE, 4), 2, (TILES, 12), 4)
    return model, ids, images


def test_the_images_of_a_batch_are_counted_row_after_row(tmp_path: Path) -> None:
    model, ids, images = two_images(tmp_path)
    other, (third,) = row_of(len(ids) - 4, (SQUARE, 4))
    with ts.record("images.*.vectors") as caught:
        model(np.array([ids, other]), images=[images, [third]])
    with ts.record("images.0.vectors") as alone:
        model(other, images=[third])
    assert list(caught) == ["images.0.vectors", "images.1.vectors", "images.2.vectors"]
    np.testing.assert_array_equal(caught["images.2.vectors"], alone["images.0.vectors"])


def test_the_images_of_several_prompts_are_counted_prompt_after_prompt(tmp_path: Path) -> None:
    small_seeing_model(tmp_path)
    model, processor = ts.load(tmp_path)
    pictures = [picture(28, 28, seed=seed) for seed in range(3)]
    prompts, given = ["<image>one", "none", "<image> and <image>"], [pictures[:1], [], pictures[1:]]
    with ts.record("images.*.vectors") as caught:
        ts.generate(model, processor, prompts, images=given, max_new_tokens=1)
    assert list(caught) == ["images.0.vectors", "images.1.vectors", "images.2.vectors"]
    for number, image in enumerate(pictures):
        expected = model.vision.vectors(processor.pixels(image))
        assert_close(caught[f"images.{number}.vectors"], expected, what=f"image {number}")


def test_heads_of_an_encoder(tmp_path: Path) -> None:
    """A head's zeros are what its columns of the output's matrix are not multiplied by."""
    model, ids, images = two_images(tmp_path)
    path = "images.1.encoder.blocks.1.attention"
    with ts.record(f"{path}.*") as plain:
        model(ids, images=images)
    with ts.record(f"{path}.out") as caught, ts.ablate(f"{path}.mixed", heads=[1]):
        model(ids, images=images)
    out = model.vision.encoder.blocks[1].attention.out
    K = plain[f"{path}.mixed"].shape[-1]
    of_head = plain[f"{path}.mixed"][:, 1] @ np.asarray(out.weight)[K : 2 * K]
    expected = plain[f"{path}.out"] - of_head
    assert np.abs(caught[f"{path}.out"] - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    "path", ["images.*.vectors", "images.*.pixel_shuffle", "images.*.encoder.blocks.1.residual"]
)
def test_what_an_image_was_read_as_in_another_run(path: str, tmp_path: Path) -> None:
    model, ids, images = two_images(tmp_path)
    with ts.record() as clean:
        model(ids, images=images)
    others = [ImageInput(each.pixels._replace(tiles=-each.pixels.tiles), each.places) for each in images]
    assert np.abs(model(ids, images=others) - clean["logits"][0]).max() > 0.1
    with ts.patch(clean, path):
        np.testing.assert_allclose(model(ids, images=others), clean["logits"][0], atol=1e-4)


def test_what_cannot_be_chosen_of_an_image(tmp_path: Path) -> None:
    model, ids, images = two_images(tmp_path)
    for path, choice, said in (
        ("images.0.encoder.blocks.0.residual", {"positions": [1]}, "knows no positions of a text"),
        ("images.0.vectors", {"rows": [0]}, "is of one image alone"),
        ("images.0.projector", {"heads": [0]}, "has no axis of heads"),
    ):
        with pytest.raises(InputError, match=said), ts.ablate(path, **choice):
            model(ids, images=images)
    with ts.record() as clean:
        model(ids, images=images)
    with (
        pytest.raises(InputError, match="no rows of tokens"),
        ts.ablate("images.0.vectors", mean_of=clean),
    ):
        model(ids, images=images)
    with pytest.raises(InputError, match=r"images.0.pixel_shufle.*Near it: images.0.pixel_shuffle"):
        ts.ablate("images.0.pixel_shufle")
