"""Experts in narrow types: each a matrix of its own, wherever the file has it."""

from pathlib import Path

import pytest
import torch
from parity import (
    assert_close,
    logits_of,
    random_ids,
    reference_model,
    save,
)
from transformers import AutoModelForCausalLM

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


GRANITE = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.2,
    "residual_multiplier": 0.22,
    "logits_scaling": 8.0,
}


EXPERTS = {**GRANITE, "intermediate_size": 20, "num_local_experts": 5, "num_experts_per_tok": 2}


def test_one_tensor_for_all_experts_in_narrow_types(tmp_path: Path) -> None:
    """Each expert is a matrix of its own, a view of the file where that is in bfloat16 already."""
    save(reference_model("granitemoe", **EXPERTS).to(torch.bfloat16), tmp_path)
    reference = AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager", dtype=torch.float32
    )
    ids = random_ids(2, 50)
    expected = logits_of(reference, ids)
    for dtype, kind, tolerance in (("auto", Bfloat16Matrix, 1e-5), ("int8", Int8Matrix, 0.1)):
        model, _ = load(tmp_path, dtype=dtype)
        assert_close(model(ids), expected, tolerance)
        experts = model.blocks[1].feed_forward.experts  # type: ignore[attr-defined]
        assert {type(expert.gate.weight) for expert in experts} == {kind}
        assert {type(expert.up.weight) for expert in experts} == {kind}
        assert {type(expert.down.weight) for expert in experts} == {kind}
