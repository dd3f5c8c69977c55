"""OLMoE against transformers: routing, norms over the width, and the clip behind them."""

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
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_experts": 5,
    "num_experts_per_tok": 2,
}
CUTS = ([1, 2, 46, 1], [16, 34])

VARIANTS: dict[str, dict[str, Any]] = {
    "as_it_comes": {},
    "normed": {"norm_topk_prob": True},
    "grouped": {"num_key_value_heads": 2},
    "clipped": {"clip_qkv": 0.7},
    "attention_bias": {"attention_bias": True},
    "tied": {"tie_word_embeddings": True},
    "all": {"num_experts_per_tok": 5, "rms_norm_eps": 0.1},
    "base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("olmoe", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path), length=50, cuts=CUTS)
    assert model.trained_length == 4096


@pytest.mark.parametrize("variant", ["clipped", "base"])
def test_old_spelling(variant: str, tmp_path: Path) -> None:
    reference = reference_model("olmoe", **{**SMALL, **VARIANTS[variant]})
    save(reference, tmp_path)
    edit_config(tmp_path, **old_spelling(json.loads((tmp_path / "config.json").read_text())))
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_the_clip_is_felt(tmp_path: Path) -> None:
    save(reference_model("olmoe", **SMALL, clip_qkv=0.7), tmp_path)
    ids = random_ids(1, 20)
    clipped = load(tmp_path)[0](ids)
    edit_config(tmp_path, clip_qkv=None)
    assert np.abs(load(tmp_path)[0](ids) - clipped).max() > 0.01 * np.abs(clipped).max()


def test_experts_in_one_tensor(tmp_path: Path) -> None:
    reference = reference_model("olmoe", **SMALL)
    reference.save_pretrained(tmp_path, save_original_format=False)
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts_per_tok": 6}, "num_experts_per_tok = 6 of num_local_experts = 5"),
        ({"clip_qkv": 0}, "clip_qkv = 0.0 must be above 0"),
        ({"clip_qkv": "8"}, "clip_qkv = '8', but it must be float or null"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "olmoe", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
