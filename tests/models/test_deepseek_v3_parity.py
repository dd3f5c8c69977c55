"""DeepSeek-V3 against transformers: experts scored by sigmoids, with corrections, in groups."""

import json
from pathlib import Path
from typing import Any

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
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 24,
    "q_lora_rank": 20,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "n_routed_experts": 12,
    "num_experts_per_tok": 3,
    "n_group": 4,
    "topk_group": 2,
    "max_position_embeddings": 64,
}
YARN = {
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    }
}
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "yarn": YARN,
    "one_group": {"topk_group": 1},
    "no_groups": {"n_group": 1, "topk_group": 1, "n_shared_experts": 2},
    "not_normed": {"norm_topk_prob": False},
    "halves": {"rope_interleave": False, **YARN},
    "attention_bias": {"attention_bias": True},
    "all_experts": {"first_k_dense_replace": 0, "tie_word_embeddings": True, "routed_scaling_factor": 1.0},
    "all_dense": {"first_k_dense_replace": 3},
}
CUTS = ([1, 2, 19, 1, 17], [30, 10])


def corrected(**config: Any) -> PreTrainedModel:
    """Make a model whose corrections, which are no parameters, are random too and change choices."""
    reference = reference_model("deepseek_v3", **{**SMALL, **config})
    generator = torch.Generator().manual_seed(7)
    for name, buffer in reference.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(0.5 * torch.randn(buffer.shape, generator=generator))
    return reference


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = corrected(**VARIANTS[variant])
    check(reference, save(reference, tmp_path), length=40, cuts=CUTS)


def test_plain_queries(tmp_path: Path) -> None:
    """A rank of null, as in Moonlight; ``save`` would take it for a key to be left out."""
    reference = corrected(q_lora_rank=None)
    reference.save_pretrained(tmp_path)
    check(reference, tmp_path, length=40, cuts=CUTS)


@pytest.mark.parametrize("variant", ["grouped", "yarn"])
def test_old_spelling(variant: str, tmp_path: Path) -> None:
    """As the hub has it, keys of DeepSeek's own code included."""
    reference = corrected(**VARIANTS[variant])
    save(reference, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    theirs = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1, "ep_size": 1}
    save(reference, tmp_path, **old_spelling(raw), **theirs, head_dim=None, rope_interleave=None)
    model, _ = load(tmp_path)
    ids = random_ids(2, 40)
    assert_close(model(ids), logits_of(reference, ids))


def test_experts_in_one_tensor_and_the_layer_that_predicts_a_token_more(tmp_path: Path) -> None:
    reference = corrected()
    reference.save_pretrained(tmp_path, save_original_format=False)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "model.layers.1.mlp.experts.gate_up_proj" in tensors
    tensors |= {f"model.layers.61.{name}.weight": torch.ones(3) for name in ("eh_proj", "shared_head.norm")}
    save_file(tensors, tmp_path / "model.safetensors")
    model, _ = load(tmp_path)
    ids = random_ids(2, 20)
    assert_close(model(ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts_per_tok": 13}, "num_experts_per_tok = 13 of n_routed_experts = 12"),
        ({"num_experts_per_tok": 7}, "num_experts_per_tok = 7 experts are not in topk_group = 2 groups of 3"),
        ({"topk_method": "greedy"}, "topk_method = 'greedy' is not noaux_tc"),
        ({"n_group": 5}, "12 cannot be divided among n_group = 5"),
        ({"n_group": 12, "topk_group": 4}, "n_group = 12 groups of n_routed_experts = 12 have no two"),
        ({"topk_group": 5}, "topk_group = 5 of n_group = 4"),
        ({"scoring_func": "softmax"}, "scoring_func = 'softmax' is not implemented"),
        ({"num_key_value_heads": 2}, "num_key_value_heads = 2 is not num_attention_heads = 4"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    reference_model("deepseek_v3", **SMALL).config.save_pretrained(tmp_path)
    edit_config(tmp_path, **changes)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
