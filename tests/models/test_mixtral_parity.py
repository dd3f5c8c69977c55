"""Mixtral against transformers: its routing, its window, and both ways of storing experts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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
from transformers import AutoModelForCausalLM

from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_local_experts": 5,
}
CUTS = ([1, 2, 46, 1], [16, 34], [17, 1, 32])

VARIANTS: dict[str, dict[str, Any]] = {
    "two_of_five": {},
    "one_of_five": {"num_experts_per_tok": 1},
    "all_of_five": {"num_experts_per_tok": 5},
    "one_of_one": {"num_local_experts": 1, "num_experts_per_tok": 1},
    "many": {"num_local_experts": 24, "num_experts_per_tok": 6, "intermediate_size": 8},
    "window": {"sliding_window": 17},
    "wide_heads": {"head_dim": 12, "num_key_value_heads": 6},
    "tied": {"tie_word_embeddings": True},
    "gelu": {"hidden_act": "gelu", "rms_norm_eps": 0.01},
    "base": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    "yarn": {  # transformers' yarn wants the width of a head written out
        "head_dim": 8,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e6,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("mixtral", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path), length=50, cuts=CUTS)
    assert model.context_length is None
    assert model.trained_length == 131072


@pytest.mark.parametrize("variant", ["two_of_five", "base", "yarn"])
def test_old_spelling(variant: str, tmp_path: Path) -> None:
    reference = reference_model("mixtral", **{**SMALL, **VARIANTS[variant]})
    save(reference, tmp_path)
    edit_config(tmp_path, **old_spelling(json.loads((tmp_path / "config.json").read_text())))
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_a_file_that_says_no_more_than_it_must(tmp_path: Path) -> None:
    """What is missing is as in transformers: the base of the rotations among it."""
    reference = reference_model("mixtral", **SMALL)
    save(reference, tmp_path)
    raw = {"model_type": "mixtral", "vocab_size": 211, "num_experts": 5}
    raw |= {key: value for key, value in SMALL.items() if key != "num_local_experts"}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_experts_in_one_tensor(tmp_path: Path) -> None:
    """As transformers 5 has them in memory, and in files of its own format."""
    reference = reference_model("mixtral", **SMALL)
    reference.save_pretrained(tmp_path, save_original_format=False)
    model = check(reference, tmp_path, length=50, cuts=CUTS)
    apart, _ = load(save(reference, tmp_path / "apart"))
    assert model.weights.keys() == apart.weights.keys()
    for name, array in model.weights.items():
        assert np.array_equal(array, apart.weights[name])


@pytest.mark.parametrize("fused", [False, True])
def test_narrow_types(fused: bool, tmp_path: Path) -> None:
    """Each expert's matrices are of the type that was asked for, the router's is not.

    All experts are used: rounded, a token at the border would choose others.
    """
    reference = reference_model("mixtral", **SMALL, num_experts_per_tok=5).to(torch.bfloat16)
    reference.save_pretrained(tmp_path, save_original_format=not fused)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager", dtype=torch.float32)
    ids = random_ids(2, 50)
    expected = logits_of(again, ids)
    for dtype, kind, tolerance in (("auto", Bfloat16Matrix, 1e-5), ("int8", Int8Matrix, 0.1)):
        model, _ = load(tmp_path, dtype=dtype)
        assert_close(model(ids), expected, tolerance)
        experts = [array for name, array in model.weights.items() if ".experts." in name]
        assert len(experts) == 2 * 5 * 3
        assert {type(array) for array in experts} == {kind}
        assert model.weights["blocks.0.feed_forward.router.weight"].dtype == "float32"


def test_a_missing_expert(tmp_path: Path) -> None:
    save(reference_model("mixtral", **SMALL), tmp_path, num_local_experts=6)
    with pytest.raises(CheckpointError, match=r"lacks 'layers\.0\.block_sparse_moe\.experts\.5\.w1\.weight'"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts_per_tok": 6}, "num_experts_per_tok = 6 of num_local_experts = 5"),
        ({"num_experts_per_tok": 0}, "num_experts_per_tok = 0 of num_local_experts = 5"),
        ({"num_local_experts": 0}, "E = 0"),
        ({"num_local_experts": "8"}, "num_local_experts = '8', but it must be int"),
        ({"sliding_window": 0}, "sliding_window = 0"),
        ({"hidden_act": "swoosh"}, "hidden_act = 'swoosh' is not known"),
        (
            {"quantization_config": {"quant_method": "awq"}},
            "quantization_config = .*awq.* is not implemented",
        ),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mixtral", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
