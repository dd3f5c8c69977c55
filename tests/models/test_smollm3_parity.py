"""SmolLM3 against transformers: layers without positions, and windows in them."""

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

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
WINDOW = {"use_sliding_window": True, "sliding_window": 16, "no_rope_layer_interval": 2}
TYPES = ["full_attention", "sliding_attention", "full_attention", "full_attention"]
# Which layers turn, and their windows.
VARIANTS: dict[str, tuple[dict[str, Any], list[int], list[int | None]]] = {
    "every_fourth": ({}, [1, 1, 1, 0], [None] * 4),
    "every_second": ({"no_rope_layer_interval": 2}, [1, 0, 1, 0], [None] * 4),
    "every_first": ({"no_rope_layer_interval": 1}, [0, 0, 0, 0], [None] * 4),
    "listed": ({"no_rope_layers": [0, 1, 1, 1, 0, 0]}, [0, 1, 1, 1], [None] * 4),
    "windows": (WINDOW, [1, 0, 1, 0], [None, 16, None, 16]),
    "null_window": ({**WINDOW, "sliding_window": None}, [1, 0, 1, 0], [None] * 4),
    "named_windows": ({**WINDOW, "layer_types": TYPES}, [1, 0, 1, 0], [None, 16, None, None]),
    "named_without_the_switch": (
        {"sliding_window": 16, "layer_types": TYPES},
        [1, 1, 1, 0],
        [None, 16, None, None],
    ),
    "idle_window": ({**WINDOW, "use_sliding_window": False}, [1, 0, 1, 0], [None] * 4),
    "biases": ({"attention_bias": True, "mlp_bias": True}, [1, 1, 1, 0], [None] * 4),
    "untied": ({"tie_word_embeddings": False, "rms_norm_eps": 0.1}, [1, 1, 1, 0], [None] * 4),
    "yarn": (
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 5_000_000.0,
                "factor": 2.0,
                "original_max_position_embeddings": 32,
            }
        },
        [1, 1, 1, 0],
        [None] * 4,
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    """As transformers writes it, and with the keys that were given, in the old spelling."""
    changes, rotated, windows = VARIANTS[variant]
    reference = reference_model("smollm3", **{**SMALL, **changes})
    cuts = [[1, 2, 46, 1], [15, 35], [16, 34], [17, 33]]
    model = check(reference, save(reference, tmp_path), length=50, cuts=cuts)
    assert (list(model.config.rotated[:4]), list(model.config.windows)) == (rotated, windows)
    assert model.trained_length == 256
    path = tmp_path / "config.json"
    edit_config(tmp_path, **old_spelling(json.loads(path.read_text())))
    raw = json.loads(path.read_text())
    for key in ("layer_types", "no_rope_layers"):
        raw.pop(key, None)
    path.write_text(json.dumps(raw | {k: v for k, v in changes.items() if k != "rope_parameters"}))
    ids = random_ids(2, 60)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"no_rope_layer_interval": 0}, "no_rope_layer_interval = 0 must be at least 1"),
        ({"no_rope_layers": [1, 0]}, r"no_rope_layers = \[1, 0\], but it must be 0 or 1 for each of .* = 4"),
        ({"no_rope_layers": [1, 0, 2, 1]}, r"no_rope_layers = \[1, 0, 2, 1\], but"),
        ({"layer_types": TYPES}, r"layer_types\[1\] = 'sliding_attention', but no sliding_window is in use"),
        ({"layer_types": TYPES[:3]}, "layer_types names 3 layers, but num_hidden_layers = 4"),
        ({**WINDOW, "sliding_window": 0}, "sliding_window = 0, but a token sees at least itself"),
        ({"hidden_act": "swoosh"}, "hidden_act = 'swoosh' is not known here"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "smollm3", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
