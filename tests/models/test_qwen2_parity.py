"""Qwen2 and Qwen3 against transformers: biases, norms of heads, and windows in some layers."""

import json
from pathlib import Path
from typing import Any

import pytest
from parity import (
    assert_close,
    check,
    edit_config,
    logits_of,
    old_spelling,
    random_ids,
    reference_model,
    save,
)

from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.loading import load
from tinystar_np.models.qwen2 import Qwen2Config
from tinystar_np.models.qwen3 import Qwen3Config

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
HEADS: dict[str, dict[str, Any]] = {"qwen2": {}, "qwen3": {"head_dim": 16}}  # else 128 wide, and slow
LENGTH, CUTS = 50, [[1, 2, 46, 1], [20, 1, 1, 28]]


def rope(rope_type: str, **numbers: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 1_000_000.0, **numbers}}


BOTH: dict[str, dict[str, Any]] = {
    "grouped": {},
    "multi_head": {"num_key_value_heads": 6},
    "tied": {"tie_word_embeddings": True},
    "epsilon": {"rms_norm_eps": 0.1},
    "gelu": {"hidden_act": "gelu"},
    "base": rope("default"),
    "yarn": rope("yarn", factor=4.0, original_max_position_embeddings=16),
}
VARIANTS = [
    *(("qwen2", name, changes) for name, changes in BOTH.items()),
    *(("qwen3", name, BOTH[name]) for name in ("grouped", "epsilon", "yarn", "tied")),
    ("qwen2", "wide_heads", {"head_dim": 12}),
    ("qwen3", "narrow_heads", {"head_dim": 8}),
    ("qwen3", "attention_bias", {"attention_bias": True}),
]
WINDOW = {"use_sliding_window": True, "sliding_window": 16}
TYPES = ["sliding_attention", "full_attention", "sliding_attention"]
WINDOWS: dict[str, tuple[dict[str, Any], list[int | None]]] = {
    "from_a_layer_on": ({**WINDOW, "max_window_layers": 1}, [None, 16, 16]),
    "in_all": ({**WINDOW, "max_window_layers": 0}, [16, 16, 16]),
    "in_none": ({**WINDOW, "max_window_layers": 28}, [None, None, None]),
    "named": ({**WINDOW, "layer_types": TYPES, "max_window_layers": 1}, [16, None, 16]),
    "not_used": ({"sliding_window": 16, "max_window_layers": 1}, [None, None, None]),
    "null": ({"use_sliding_window": True, "sliding_window": None, "max_window_layers": 1}, [None] * 3),
}


@pytest.mark.parametrize(
    ("model_type", "changes"), [pytest.param(m, c, id=f"{m}-{name}") for m, name, c in VARIANTS]
)
def test_variant(model_type: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """In the spelling of today, and whole prompts in that of the hub's files."""
    reference = reference_model(model_type, **{**SMALL, **HEADS[model_type], **changes})
    model = check(reference, save(reference, tmp_path), length=LENGTH, cuts=CUTS)
    assert model.trained_length == 256
    edit_config(
        tmp_path, **old_spelling(json.loads((tmp_path / "config.json").read_text())), layer_types=None
    )
    ids = random_ids(2, 60)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("model_type", "name"), [*(("qwen2", name) for name in WINDOWS), ("qwen3", "from_a_layer_on")]
)
def test_windows(model_type: str, name: str, tmp_path: Path) -> None:
    """As transformers writes them, and as the hub's files do: the switch, and a window that may be idle."""
    changes, windows = WINDOWS[name]
    reference = reference_model(model_type, **{**SMALL, **HEADS[model_type], **changes})
    cuts = [[15, 35], [16, 34], [17, 33], [20, 1, 1, 28]]
    model = check(reference, save(reference, tmp_path), length=LENGTH, cuts=cuts)
    assert list(model.config.windows) == windows
    raw = json.loads((tmp_path / "config.json").read_text())
    hub = {key: value for key, value in raw.items() if key != "layer_types"} | changes
    (tmp_path / "config.json").write_text(json.dumps(hub))
    model, _ = load(tmp_path)
    assert list(model.config.windows) == windows
    ids = random_ids(2, 60)
    assert_close(model(ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 4}, "num_attention_heads = 6 cannot be divided among .* = 4"),
        (
            {**WINDOW, "sliding_window": 0, "max_window_layers": 1},
            "sliding_window = 0, but a token sees at least itself",
        ),
        ({"layer_types": TYPES}, r"layer_types\[0\] = 'sliding_attention', but no sliding_window is in use"),
        ({**WINDOW, "layer_types": TYPES[:2]}, "layer_types names 2 layers, but num_hidden_layers = 3"),
        ({**WINDOW, "layer_types": [*TYPES[:2], "mamba"]}, r"layer_types\[2\] = 'mamba' is not known here"),
        ({"layer_types": "full"}, "layer_types = 'full', but it must be list or null"),
        ({"use_sliding_window": 1}, "use_sliding_window = 1, but it must be bool"),
        ({"hidden_act": "swoosh"}, "hidden_act = 'swoosh' is not known here"),
        (rope("spiral"), "rope_type = 'spiral' is not known here"),
    ],
)
@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_bad_configs(model_type: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_heads_are_128_wide_unless_said_otherwise_in_qwen3() -> None:
    assert Qwen3Config.from_dict(SMALL).sizes["K"] == 128
    assert Qwen2Config.from_dict(SMALL).sizes["K"] == 8


@pytest.mark.parametrize("said", [True, False])
def test_a_word_on_biases_changes_nothing_in_qwen2(said: bool, tmp_path: Path) -> None:
    reference = reference_model("qwen2", **SMALL)
    model, _ = load(save(reference, tmp_path, attention_bias=said))
    ids = random_ids(2, 20)
    assert_close(model(ids), logits_of(reference, ids))


def test_weights_of_another_model(tmp_path: Path) -> None:
    save(reference_model("llama", **SMALL), tmp_path, model_type="qwen2")
    with pytest.raises(CheckpointError, match=r"lacks 'layers.0.self_attn.q_proj.bias'"):
        load(tmp_path)
