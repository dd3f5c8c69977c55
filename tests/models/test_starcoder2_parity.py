"""StarCoder2 against transformers: LayerNorm, a plain feed-forward layer, biases, a window."""

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

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def rope(rope_type: str, **numbers: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 999999.4420358813, **numbers}}


VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "multi_head": {"num_key_value_heads": 6},
    "window": {"sliding_window": 16},
    "unbiased": {"use_bias": False},
    "untied": {"tie_word_embeddings": False},
    "wide_heads": {"head_dim": 12},
    "epsilon": {"norm_epsilon": 0.1},
    "gelu": {"hidden_act": "gelu"},
    "base": rope("default"),
    "linear": rope("linear", factor=4.0),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    """In both spellings; the hub's files have keys beside that say the same once more."""
    reference = reference_model("starcoder2", **{**SMALL, **VARIANTS[variant]})
    cuts = [[1, 2, 46, 1], [15, 35], [16, 34], [17, 33]]
    model = check(reference, save(reference, tmp_path), length=50, cuts=cuts)
    assert model.trained_length == 256
    edit_config(
        tmp_path,
        **old_spelling(json.loads((tmp_path / "config.json").read_text())),
        activation_function="gelu",
        mlp_type="default",
        norm_type="layer_norm",
    )
    ids = random_ids(2, 60)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_epsilon": 0}, "norm_epsilon = 0.0 must be above 0"),
        ({"sliding_window": 0}, "sliding_window = 0, but a token sees at least itself"),
        ({"use_bias": "yes"}, "use_bias = 'yes', but it must be bool"),
        ({"num_key_value_heads": 4}, "num_attention_heads = 6 cannot be divided among .* = 4"),
        ({"hidden_act": "swoosh"}, "hidden_act = 'swoosh' is not known here"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "starcoder2", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_weights_of_another_variant(tmp_path: Path) -> None:
    save(reference_model("starcoder2", **SMALL), tmp_path, use_bias=False)
    with pytest.raises(CheckpointError, match=r"has 'layers.0.mlp.c_fc.bias'"):
        load(tmp_path)
