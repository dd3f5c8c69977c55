"""What reads images, described from configs: counts against transformers, sizes of images by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from tinystar_np.cli.main import tinystar
from tinystar_np.inspection.hollow import hollow_model, hollow_vision
from tinystar_np.inspection.images import describe_vision, image_costs
from tinystar_np.inspection.memory import state_sizes
from tinystar_np.vision.processor import form_in

# Published sizes, of the text part as little as is needed.
TEXT = {"num_hidden_layers": 2, "vocab_size": 512}
SMALL: dict[str, Any] = {"hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3, **TEXT}
SMOLVLM = {
    "model_type": "smolvlm",
    "scale_factor": 4,
    "text_config": {"model_type": "llama", "intermediate_size": 1536, **SMALL},
    "vision_config": {"image_size": 512, "patch_size": 16, "hidden_size": 768, "num_hidden_layers": 12,
                      "num_attention_heads": 12, "intermediate_size": 3072},
}  # fmt: skip
GEMMA3 = {
    "model_type": "gemma3",
    "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, **TEXT},
    "vision_config": {"image_size": 896, "patch_size": 14, "hidden_size": 1152, "num_hidden_layers": 27,
                      "num_attention_heads": 16, "intermediate_size": 4304,
                      "vision_use_head": False},
}  # fmt: skip
QWEN25 = {
    "model_type": "qwen2_5_vl",
    "text_config": {"model_type": "qwen2_5_vl_text", "hidden_size": 2048, "intermediate_size": 11008,
                    "num_attention_heads": 16, "num_key_value_heads": 2, **TEXT},
    "vision_config": {"model_type": "qwen2_5_vl", "depth": 32, "hidden_size": 1280, "out_hidden_size": 2048,
                      "intermediate_size": 3420, "num_heads": 16},
}  # fmt: skip
LLAVA = {
    "model_type": "llava",
    "text_config": {"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, **TEXT},
}
LLAVA_NEXT = {**LLAVA, "model_type": "llava_next"}
MISTRAL3 = {
    "model_type": "mistral3",
    "text_config": {"model_type": "mistral", "hidden_size": 5120, "num_attention_heads": 32, "head_dim": 128,
                    "num_key_value_heads": 8, **TEXT},
}  # fmt: skip
PALIGEMMA = {
    "model_type": "paligemma",
    "text_config": {"model_type": "gemma", "hidden_size": 2048, "num_attention_heads": 8,
                    "num_key_value_heads": 1, **TEXT},
    "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
                      "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14,
                      "vision_use_head": False},
    "projection_dim": 2048,
}  # fmt: skip
LLAMA4 = {
    "model_type": "llama4",
    "text_config": {"model_type": "llama4_text", "hidden_size": 512, "num_attention_heads": 4,
                    "num_key_value_heads": 4, "intermediate_size": 64, "num_local_experts": 2, **TEXT},
    "vision_config": {"hidden_size": 1408, "intermediate_size": 5632, "num_hidden_layers": 34,
                      "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
                      "projector_input_dim": 4096, "projector_output_dim": 4096, "vision_output_dim": 4096},
}  # fmt: skip
CONFIGS = [SMOLVLM, GEMMA3, QWEN25, LLAVA, LLAVA_NEXT, MISTRAL3, PALIGEMMA, LLAMA4]
SIDE_336 = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
SIZES = [(224, 224), (480, 640), (1080, 1920)]


def whole(raw: dict[str, Any]) -> dict[str, Any]:
    """A config.json with all of transformers' defaults."""
    config = AutoConfig.for_model(**json.loads(json.dumps(raw)))
    return dict(json.loads(json.dumps(config.to_dict(), default=str)))


@pytest.mark.parametrize("raw", CONFIGS, ids=lambda raw: str(raw["model_type"]))
def test_parameters_are_those_of_transformers(raw: dict[str, Any]) -> None:
    config = AutoConfig.for_model(**json.loads(json.dumps(raw)))
    with torch.device("meta"):
        reference = AutoModelForImageTextToText.from_config(config)
    counts = {name: each.numel() for name, each in reference.named_parameters()}
    is_text = ("language_model", "text_model", "lm_head")
    seeing = {name: n for name, n in counts.items() if not any(part in name for part in is_text)}
    between = {name: n for name, n in seeing.items() if "vision" not in name and "visual" not in name}
    found = hollow_vision(whole(raw), hollow_model(whole(raw)))
    assert found is not None
    described = describe_vision(found)
    assert described.parameters == sum(seeing.values())
    assert described.projector_parameters == sum(between.values())
    assert described.patch_size == config.vision_config.patch_size
    assert described.projector  # of Qwen's models the merger, which is among the encoder's weights


def test_windows_are_said() -> None:
    part = hollow_vision(whole(QWEN25), hollow_model(whole(QWEN25)))
    assert part is not None
    counts = describe_vision(part).mixers
    assert sorted(counts.values()) == [4, 28]
    assert "within windows of 8 × 8 patches" in next(words for words, n in counts.items() if n == 28)


@pytest.mark.parametrize(
    ("raw", "settings", "expected"),
    [
        # Tiles and vectors by the rule of each: ⌈·⌉ of 512 after the longer side became 2048, 64 of a tile;
        (SMOLVLM, {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512},
                   "image_seq_len": 64},
         [(17, 1088), (13, 832), (13, 832)]),
        # 256, whatever the image; with pan and scan a long one is also seen in two parts;
        (GEMMA3, {"size": {"height": 896, "width": 896}}, [(1, 256), (1, 256), (1, 256)]),
        (GEMMA3, {"size": {"height": 896, "width": 896}, "do_pan_and_scan": True},
         [(1, 256), (3, 768), (3, 768)]),
        # squares of 28 pixels, to the nearest;
        (QWEN25, {"min_pixels": 3136, "max_pixels": 12845056}, [(1, 64), (1, 17 * 23), (1, 39 * 69)]),
        # 24 × 24 patches;
        (LLAVA, SIDE_336, [(1, 576), (1, 576), (1, 576)]),
        # the same, and those in tiles with a newline a row: 24 of 48 columns of 336 × 672, the smallest into
        # which a square fits, then 48 · 480 / 640 and about 48 · 1080 / 1920 rows of 672 × 672;
        (LLAVA_NEXT, SIDE_336, [(3, 576 + 24 * 25), (5, 576 + 36 * 49), (5, 576 + 28 * 49)]),
        # squares of 28 pixels, of an image whose longer side is at most 1540;
        (MISTRAL3, {"size": {"longest_edge": 1540}, "patch_size": 14}, [(1, 64), (1, 18 * 23), (1, 31 * 55)]),
        # 16 × 16 patches.
        (PALIGEMMA, {"size": {"height": 224, "width": 224}}, [(1, 256), (1, 256), (1, 256)]),
        # 1, 2 × 2, 3 × 5 tiles of 336, at most 16, and the whole: 144 of each.
        (LLAMA4, {"size": {"height": 336, "width": 336}}, [(1, 144), (5, 720), (16, 2304)]),
    ],
)  # fmt: skip
def test_what_images_become(
    raw: dict[str, Any], settings: dict[str, Any], expected: list[tuple[int, int]], tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    config = whole(raw)
    text = hollow_model(config)
    part = hollow_vision(config, text)
    assert part is not None
    states = state_sizes(text)
    patch_size = describe_vision(part).patch_size
    costs = image_costs(form_in(tmp_path, config), patch_size, states, SIZES)
    assert [(cost.tiles, cost.vectors) for cost in costs] == expected
    head_dim = raw["text_config"].get("head_dim")
    if head_dim:  # 2 (keys and values) · layers · heads of them · width · 4 bytes
        assert [cost.cache for cost in costs] == [2 * 2 * 8 * 128 * 4 * n for _, n in expected]
    assert all(cost.patches * patch_size**2 <= cost.tiles * cost.tile[0] * cost.tile[1] for cost in costs)


def test_the_command(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From config.json and preprocessor_config.json alone: no weights, no tokenizer."""
    (tmp_path / "config.json").write_text(json.dumps(whole(SMOLVLM)))
    assert tinystar(["inspect", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "there is no preprocessor_config.json" in said
    settings = {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    sizes = ["--image-size", "640x480", "--image-size", "99×1"]
    monkeypatch.setenv("COLUMNS", "80")
    assert tinystar(["inspect", str(tmp_path), *sizes]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= 80
    assert "Weights of the text part" in lines
    assert "  projector    linear, 12288 → 576" in lines
    (row,) = [line for line in lines if line.startswith("  640 × 480")]
    assert row.split()[3:] == ["13", "512", "×", "512", "13,312", "832", "2.56", "MB"]
    assert tinystar(["inspect", str(tmp_path), "--json", *sizes]) == 0
    found = json.loads(capsys.readouterr().out)["images"]
    assert found["parameters"] == found["encoder"]["parameters"] + 12288 * 576
    assert found["sizes"][0]["vectors"] == 832


def test_a_size_that_is_not_read(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(whole(QWEN25)))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert tinystar(["inspect", str(tmp_path), "--image-size", "3000x10"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not read" in said
    assert "3000 × 10: one of 10 × 3000 pixels has one edge more than 200 times the other" in said


@pytest.mark.parametrize("size", ["800", "0x5", "1e9x4", "99999x99999", "5x", "x\x1b[2J"])
def test_a_wrong_size(size: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        tinystar(["inspect", "stories", "--image-size", size])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert "such as 800x600" in err
    assert "\x1b" not in err


def test_a_model_of_text(capsys: Any) -> None:
    assert tinystar(["inspect", "stories", "--image-size", "8x8"]) == 2
    assert "reads text alone" in capsys.readouterr().err


def test_without_pillow(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the table; and a sentence."""
    (tmp_path / "config.json").write_text(json.dumps(whole(LLAVA)))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SIDE_336))
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    assert tinystar(["inspect", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "CLIP" in said
    assert "Pillow, which is not installed" in said


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_encoders_by_themselves(kind: str, tmp_path: Path, capsys: Any) -> None:
    """CLIP sees the middle, of 1920 × 1080 1080 / 1920; SigLIP all of it, and no squares."""
    config = {"clip": {"model_type": "clip"}, "siglip": {"model_type": "siglip"}}[kind]
    (tmp_path / "config.json").write_text(json.dumps(whole(config)))
    assert tinystar(["inspect", str(tmp_path)]) == 0
    assert "there is no preprocessor_config.json" in " ".join(capsys.readouterr().out.split())
    (tmp_path / "preprocessor_config.json").write_text("{}")
    sizes = ["--image-size", "1920x1080", "--image-size", "224x224"]
    assert tinystar(["inspect", str(tmp_path), *sizes]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  1920")]
    shares = {"clip": ["56%", "154", "×", "154"], "siglip": ["100%", "137", "×", "77"]}
    assert rows[0][3:7] == shares[kind]
    assert tinystar(["inspect", str(tmp_path), "--json", *sizes]) == 0
    found = json.loads(capsys.readouterr().out)["sizes"]
    assert [size["patches"] for size in found] == [{"clip": 49, "siglip": 196}[kind]] * 2
    assert found[1]["share"] == pytest.approx(1)
    assert found[1]["patch"] == pytest.approx([{"clip": 32, "siglip": 16}[kind]] * 2)
