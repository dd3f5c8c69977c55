"""MPT against transformers: slopes for every count of heads, clips and scales of ``attn_config``."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, check, check_long_text, logits_of, random_ids, reference_model, save

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load

SMALL = {"d_model": 48, "n_layers": 2, "n_heads": 8, "max_seq_len": 1000}
VARIANTS: dict[str, dict[str, Any]] = {
    "7b": {},
    "three_heads": {"n_heads": 3},
    "six_heads": {"n_heads": 6},
    "seven_heads": {"d_model": 56, "n_heads": 7},
    "twelve_heads": {"n_heads": 12},
    "clipped": {"attn_config": {"clip_qkv": 0.4}},
    "clipped_at_0": {"attn_config": {"clip_qkv": 0.0}},
    "scaled": {"attn_config": {"softmax_scale": 0.7}},
    "untied": {"tie_word_embeddings": False},
    "epsilon": {"layer_norm_epsilon": 0.1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("mpt", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path))
    assert model.context_length is None
    assert model.trained_length == 1000


def test_the_clip_and_the_scale_are_felt(tmp_path: Path) -> None:
    ids = random_ids(30)
    plain = logits_of(reference_model("mpt", **SMALL), ids)
    for name in ("clipped", "scaled"):
        assert (
            np.abs(logits_of(reference_model("mpt", **{**SMALL, **VARIANTS[name]}), ids) - plain).max() > 0.01
        )


def test_a_file_of_the_hub(tmp_path: Path) -> None:
    """Keys of MosaicML's own code, a few of ``attn_config`` only."""
    reference = reference_model("mpt", **SMALL)
    attention = {"alibi": True, "alibi_bias_max": 8, "attn_impl": "triton", "attn_pdrop": 0, "clip_qkv": None}
    attention |= {"attn_type": "multihead_attention", "prefix_lm": False, "qk_ln": False}
    save(reference, tmp_path, attn_config=attention, norm_type="low_precision_layernorm", verbose=0)
    ids = random_ids(2, 70)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_long_texts(tmp_path: Path) -> None:
    reference = reference_model("mpt", **{**SMALL, "n_heads": 6})
    check_long_text(reference, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 5}, "hidden_size = 48 cannot be divided among num_attention_heads = 5"),
        ({"no_bias": False}, "no_bias = False is not implemented"),
        ({"logit_scale": 0.5}, "logit_scale = 0.5 is not implemented"),
        ({"norm_type": "rmsnorm"}, "norm_type = 'rmsnorm' is not implemented"),
        ({"expansion_ratio": 2}, "expansion_ratio = 2 is not implemented"),
        ({"attn_config": {"qk_ln": True}}, "attn_config.qk_ln = True is not implemented; False is"),
        ({"attn_config": {"alibi": False}}, "attn_config.alibi = False is not implemented"),
        ({"attn_config": {"alibi_bias_max": 16}}, "attn_config.alibi_bias_max = 16 is not implemented"),
        ({"attn_config": {"prefix_lm": True}}, "attn_config.prefix_lm = True is not implemented"),
        (
            {"attn_config": {"attn_type": "multiquery_attention"}},
            "attn_config.attn_type = 'multiquery_attention' is not implemented",
        ),
        ({"attn_config": {"clip_qkv": "6"}}, "attn_config.clip_qkv = '6', but it must be null or a number"),
        ({"attn_config": {"clip_qkv": -6}}, "attn_config.clip_qkv = -6, but"),
        ({"attn_config": {"softmax_scale": 10**400}}, "attn_config.softmax_scale = 1000.* but"),
        ({"attn_config": {"softmax_scale": True}}, "attn_config.softmax_scale = True, but"),
        ({"attn_config": [1]}, r"attn_config = \[1\], but it must be an object or null"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(reference_model("mpt", **SMALL), tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
