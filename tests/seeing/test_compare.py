"""The comparison with transformers on every architecture: what is paired, and that a fault is found."""

from pathlib import Path
from typing import Any

import pytest
from parity import random_ids, reference_model, save

from tinystar_np.loading import load
from tinystar_np.seeing.comparison.with_transformers import compare_with_transformers

WIDTHS = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6}
GROUPS = {**WIDTHS, "num_key_value_heads": 2, "intermediate_size": 80}
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 12, "mamba_n_groups": 1, "mamba_d_state": 16}
DEEPSEEK = {
    **{**GROUPS, "num_key_value_heads": 6, "kv_lora_rank": 16, "qk_rope_head_dim": 4},
    **{"qk_nope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 4, "n_shared_experts": 1},
    **{"num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1},
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {"n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 64}),
    "llama": ("llama", GROUPS),
    "mistral": ("mistral", {**GROUPS, "sliding_window": 7}),
    "qwen3": ("qwen3", {**GROUPS, "head_dim": 8}),
    "gemma3_text": ("gemma3_text", {**GROUPS, "head_dim": 8, "query_pre_attn_scalar": 8}),
    "olmo2": ("olmo2", GROUPS),
    "mixtral": ("mixtral", GROUPS),
    "llama4_text": (
        "llama4_text",
        {**GROUPS, "head_dim": 8, "intermediate_size_mlp": 56, "num_local_experts": 4, "moe_layers": [0, 2]}
        | {"attention_chunk_size": 16, "no_rope_layer_interval": 3, "floor_scale": 7},
    ),
    "gpt_neox": ("gpt_neox", {**WIDTHS, "intermediate_size": 80}),
    "qwen3_next": (
        "qwen3_next",
        {
            **GROUPS,
            "head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            # One delta layer: a second one magnifies torch's own rounding, which changes from run to run.
            "layer_types": ["full_attention", "linear_attention", "full_attention"],
        }
        | {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
        | {"linear_key_head_dim": 6, "linear_value_head_dim": 10, "moe_intermediate_size": 32}
        | {"shared_expert_intermediate_size": 40, "rms_norm_eps": 0.01},
    ),
    "deepseek_v2": ("deepseek_v2", {**DEEPSEEK, "q_lora_rank": None}),
    "deepseek_v2 with compressed queries": ("deepseek_v2", {**DEEPSEEK, "q_lora_rank": 12}),
    "falcon": ("falcon", {**WIDTHS, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon with alibi": ("falcon", {**WIDTHS, "alibi": True, "parallel_attn": False, "multi_query": False}),
    "granite": ("granite", {**GROUPS, "embedding_multiplier": 3.0, "attention_multiplier": 0.1}),
    "granitemoe": ("granitemoe", {**GROUPS, "attention_multiplier": 0.1}),
    "granitemoehybrid": (
        "granitemoehybrid",
        {**GROUPS, **MAMBA2, "layer_types": ["mamba", "attention", "attention"], "num_local_experts": 0},
    ),
    "mamba": ("mamba", {"hidden_size": 48, "num_hidden_layers": 3}),
    "mamba2": (
        "mamba2",
        {"hidden_size": 48, "num_hidden_layers": 3, "num_heads": 8, "head_dim": 12, "n_groups": 1},
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_all_agree_and_a_fault_is_found_where_it_is(case: str, tmp_path: Path) -> None:
    model_type, config = MODELS[case]
    directory = save(reference_model(model_type, **config), tmp_path)
    model, _ = load(directory)
    ids = random_ids(40).tolist()
    rows = compare_with_transformers(model, ids, directory)
    names = [row.name for row in rows]
    assert names[0].startswith("embedding")
    assert names[-1] == "logits"
    assert {f"blocks.{i}.residual" for i in range(3)} <= set(names)
    assert len([name for name in names if name.startswith("blocks.1.")]) >= 5
    assert [row.name for row in rows if row.exceeds(1e-5)] == []

    block = model.blocks[1]
    mixer = block.mixer if hasattr(block, "mixer") else block.attention
    mixer.out.weight = mixer.out.weight * 1.01
    rows = compare_with_transformers(model, ids, directory)
    first = next(row.name for row in rows if row.exceeds(1e-5))
    assert first in ("blocks.1.attention.out", "blocks.1.mixer.out")
