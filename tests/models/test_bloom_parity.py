"""BLOOM against transformers: ALiBi for every count of heads, and both spellings."""

from pathlib import Path
from typing import Any

import pytest
from parity import (
    assert_close,
    check,
    check_long_text,
    edit_config,
    logits_of,
    random_ids,
    reference_model,
    save,
)
from safetensors.torch import load_file, save_file

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load

SMALL = {"hidden_size": 48, "n_layer": 2, "n_head": 8}
VARIANTS: dict[str, dict[str, Any]] = {
    "eight_heads": {},
    "one_head": {"n_head": 1},
    "six_heads": {"n_head": 6},
    "seven_heads": {"hidden_size": 56, "n_head": 7},
    "twelve_heads": {"n_head": 12},
    "untied": {"tie_word_embeddings": False},
    "epsilon": {"layer_norm_epsilon": 0.1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("bloom", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path))
    assert model.context_length is None


def test_a_file_of_the_hub(tmp_path: Path) -> None:
    """Old names of sizes, keys that mean nothing, tensors without prefix."""
    reference = reference_model("bloom", **SMALL)
    save(reference, tmp_path, hidden_size=None, n_embed=48, n_head=None, num_attention_heads=8)
    edit_config(
        tmp_path, n_inner=None, offset_alibi=100, seq_length=99, pretraining_tp=4, masked_softmax_fusion=True
    )
    tensors = load_file(tmp_path / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    model, _ = load(tmp_path)
    ids = random_ids(2, 70)
    assert_close(model(ids), logits_of(reference, ids))
    assert model.trained_length == 99


def test_long_texts(tmp_path: Path) -> None:
    """Biases stay exact where Falcon's are rounded; long pieces are attended to in blocks."""
    reference = reference_model("bloom", **{**SMALL, "n_head": 6})
    check_long_text(reference, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_head": 5}, "hidden_size = 48 .* num_attention_heads = 5"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon = 0.0 must be above 0"),
        ({"slow_but_exact": True}, "slow_but_exact = True is not implemented"),
        (
            {"apply_residual_connection_post_layernorm": True},
            "apply_residual_connection_post_layernorm = True is not implemented",
        ),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(reference_model("bloom", **SMALL), tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
