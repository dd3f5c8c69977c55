"""Gemma 3's text models against transformers: kinds of layers, a base for each, windows, both spellings."""

import json
from pathlib import Path
from typing import Any

import pytest
from parity import assert_close, check, edit_config, logits_of, random_ids, reference_model, save

from tinystar_np.errors import ConfigError
from tinystar_np.inspection.describe import describe_model
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "query_pre_attn_scalar": 8,
    "sliding_window": 17,
    "sliding_window_pattern": 3,
}
SLIDING, FULL = "sliding_attention", "full_attention"
FAST = {"rope_type": "default", "rope_theta": 100.0}
SLOW = {"rope_type": "default", "rope_theta": 5000.0}
EIGHTFOLD = {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0}


def ropes(near: dict[str, Any], far: dict[str, Any]) -> dict[str, Any]:
    return {"rope_parameters": {SLIDING: dict(near), FULL: dict(far)}}


VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "multi_head": {"num_key_value_heads": 6},
    "multi_query": {"num_key_value_heads": 1},
    "five_to_one": {"num_hidden_layers": 7, "sliding_window_pattern": 6},
    "all_full": {"sliding_window_pattern": 1},
    "all_sliding": {"layer_types": [SLIDING] * 4},
    "full_first": {"layer_types": [FULL, SLIDING, SLIDING, FULL]},
    "bases": ropes(FAST, SLOW),
    "scaled_far": ropes(FAST, EIGHTFOLD),
    "scaled_near": ropes(EIGHTFOLD, SLOW),
    "logits_capped": {"final_logit_softcapping": 5.0},
    "scale": {"query_pre_attn_scalar": 100},
    "attention_bias": {"attention_bias": True},
    "untied": {"tie_word_embeddings": False},
    "exact_gelu": {"hidden_activation": "gelu"},
    "epsilon": {"rms_norm_eps": 0.1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("gemma3_text", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path), length=40, cuts=([16, 24], [17, 23], [18, 1, 21]))
    assert model.trained_length == 64


@pytest.mark.parametrize("window", [1, 2, 64, 70, 71])
def test_window(window: int, tmp_path: Path) -> None:
    reference = reference_model("gemma3_text", **{**SMALL, "sliding_window": window})
    w = min(window, 69)
    cuts = [[w, 70 - w], [70 - w, w], [max(w - 1, 1), 70 - max(w - 1, 1)], [20, 1, 1, 1, 40, 7]]
    # transformers' own cache keeps everything where it should keep the last 0 keys, [-0:]: no ids for W = 1.
    check(reference, save(reference, tmp_path), length=70, cuts=cuts, greedy=window != 1)


@pytest.mark.parametrize(
    ("today", "old"),
    [
        ({}, {}),
        (ropes(FAST, SLOW), {"rope_theta": 5000.0, "rope_local_base_freq": 100.0}),
        (
            ropes(FAST, EIGHTFOLD),
            {
                "rope_theta": 5000.0,
                "rope_local_base_freq": 100.0,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            },
        ),
        ({"rope_parameters": {FULL: SLOW}}, {"rope_theta": 5000.0}),
    ],
)
def test_old_spelling(today: dict[str, Any], old: dict[str, Any], tmp_path: Path) -> None:
    """The pattern instead of the layers' kinds, three keys instead of a dictionary for each."""
    reference = reference_model("gemma3_text", **{**SMALL, **today})
    save(reference, tmp_path)
    edit_config(tmp_path, rope_parameters=None, layer_types=None, sliding_window_pattern=3, **old)
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_where_the_file_says_nothing(tmp_path: Path) -> None:
    """A kind that is missing among the parameters has the default base of its kind, 10⁴ or 10⁶."""
    ids = random_ids(2, 50)
    for given in ({}, {FULL: SLOW}, {SLIDING: FAST}, {SLIDING: {"rope_type": "default"}}):
        reference = reference_model("gemma3_text", **{**SMALL, "rope_parameters": dict(given)})
        save(reference, tmp_path, rope_parameters=given)
        assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_described_kind_by_kind() -> None:
    """What ``tinystar inspect`` reads off the layers: 5 near, 1 far, each at its base."""
    description = describe_model(hollow_model({"model_type": "gemma3_text", "num_hidden_layers": 12}))
    positions = {part.words: where for part, where in description.kinds("positions")}
    far = [5, 11]
    near = [i for i in range(12) if i not in far]
    assert positions == {"RoPE, base 10000": near, "RoPE, base 1000000": far}
    windows = [layer["mixer"].facts["window"] for layer in description.layers]
    assert [i for i, window in enumerate(windows) if window is None] == far


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0 is not implemented"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention = True is not implemented"),
        ({"sliding_window_pattern": 0}, "sliding_window_pattern = 0 must be at least 1"),
        ({"sliding_window": None}, "no sliding_window is in use"),
        ({"rope_local_base_freq": -1}, "rope_local_base_freq = -1.0 must be above 0"),
        ({"rope_theta": 0}, "rope_theta = 0"),
        ({"rope_parameters": SLOW}, "rope_parameters has .*5000.* outside of the two kinds"),
        ({"rope_parameters": {SLIDING: {"rope_type": "spiral"}}}, "sliding_attention.rope_type = 'spiral'"),
        ({**ropes(FAST, SLOW), "rope_scaling": EIGHTFOLD}, "rope_scaling and rope_parameters are both there"),
        ({"layer_types": [FULL]}, "layer_types names 1 layers, but num_hidden_layers = 4"),
        ({"final_logit_softcapping": 0}, "final_logit_softcapping = 0.0 must be above 0"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3_text", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
