"""Gemma 2 against transformers: caps, scales, kinds of layers and windows that prompts and pieces cross."""

import json
from pathlib import Path
from typing import Any

import numpy as np
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
from tinystar_np.inspection.describe import describe_model
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "query_pre_attn_scalar": 8,
    "sliding_window": 17,
    # Low enough to bend what such a small model computes.
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 5.0,
}
SLIDING, FULL = "sliding_attention", "full_attention"
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "multi_head": {"num_key_value_heads": 6},
    "multi_query": {"num_key_value_heads": 1},
    "published_caps": {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    "no_caps": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
    "scores_capped": {"final_logit_softcapping": None},
    "logits_capped": {"attn_logit_softcapping": None},
    "scale": {"query_pre_attn_scalar": 100},
    "full_first": {"layer_types": [FULL, SLIDING, SLIDING]},
    "all_full": {"layer_types": [FULL] * 3},
    "all_sliding": {"layer_types": [SLIDING] * 3},
    "attention_bias": {"attention_bias": True},
    "untied": {"tie_word_embeddings": False},
    "exact_gelu": {"hidden_activation": "gelu"},
    "epsilon": {"rms_norm_eps": 0.1},
    "base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
}


def write_nulls(directory: Path, config: dict[str, Any]) -> None:
    """Say null where it is meant: ``save`` leaves it out, which asks for the default."""
    path = directory / "config.json"
    nulls = {key: None for key, value in config.items() if value is None}
    path.write_text(json.dumps(json.loads(path.read_text()) | nulls))


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("gemma2", **{**SMALL, **VARIANTS[variant]})
    save(reference, tmp_path)
    write_nulls(tmp_path, VARIANTS[variant])
    model = check(reference, tmp_path, length=40, cuts=([16, 24], [17, 23], [18, 1, 21]))
    assert model.trained_length == 64


@pytest.mark.parametrize("window", [1, 2, 64, 69, 70, 71])
def test_window(window: int, tmp_path: Path) -> None:
    reference = reference_model("gemma2", **{**SMALL, "sliding_window": window})
    w = min(window, 69)
    cuts = [[w, 70 - w], [70 - w, w], [max(w - 1, 1), 70 - max(w - 1, 1)], [20, 1, 1, 1, 40, 7]]
    # transformers' own cache keeps everything where it should keep the last 0 keys, [-0:]: no ids for W = 1.
    check(reference, save(reference, tmp_path), length=70, cuts=cuts, greedy=window != 1)


def test_a_long_prompt_in_blocks(tmp_path: Path) -> None:
    """Long enough for the blockwise form, capped there too."""
    reference = reference_model("gemma2", **{**SMALL, "sliding_window": 200})
    model, _ = load(save(reference, tmp_path))
    ids = random_ids(1, 700)
    assert_close(model(ids), logits_of(reference, ids))


@pytest.mark.parametrize("variant", ["grouped", "base", "linear"])
def test_old_spelling(variant: str, tmp_path: Path) -> None:
    """No kinds of layers, and a key that means nothing any more."""
    reference = reference_model("gemma2", **{**SMALL, **VARIANTS[variant]})
    save(reference, tmp_path)
    changes = old_spelling(json.loads((tmp_path / "config.json").read_text()))
    edit_config(tmp_path, **changes, layer_types=None, hidden_act="relu", cache_implementation="hybrid")
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_caps_bound(tmp_path: Path) -> None:
    """No logit beyond the cap, and one near it: the cap is at work; that of the scores is told."""
    reference = reference_model("gemma2", **SMALL)
    model, _ = load(save(reference, tmp_path))
    highest = np.abs(model(random_ids(2, 20))).max()
    assert 4.5 < highest <= 5.0
    told = [layer["mixer"].words.partition("heads of 12, ")[2] for layer in describe_model(model).layers]
    assert told == ["window of 17, scores below 2", "scores below 2", "window of 17, scores below 2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_activation": "swoosh"}, "hidden_activation = 'swoosh' is not known here"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar = 0.0 must be above 0"),
        ({"attn_logit_softcapping": 0}, "attn_logit_softcapping = 0.0 must be above 0"),
        ({"final_logit_softcapping": -30}, "final_logit_softcapping = -30.0 must be above 0"),
        ({"sliding_window": 0}, "sliding_window = 0, but a token sees at least itself"),
        ({"sliding_window": None}, "no sliding_window is in use"),
        ({"layer_types": [FULL, SLIDING]}, "layer_types names 2 layers, but num_hidden_layers = 3"),
        ({"layer_types": [FULL, "chunked", FULL]}, r"layer_types\[1\] = 'chunked' is not known here"),
        ({"layer_types": [FULL, FULL, [1]]}, r"layer_types\[2\] = \[1\], but it must be str"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention = True is not implemented"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma2", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
