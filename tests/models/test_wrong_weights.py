"""Files with the tensors of another model than config.json says: the first that does not fit is named."""

from pathlib import Path
from typing import Any

import pytest
from parity import edit_config, reference_model
from parity_cases import ROWS
from safetensors.torch import load_file, save_file

from tinystar_np.errors import CheckpointError
from tinystar_np.loading import load

GROUPED = {"new_decoder_architecture": True, "num_kv_heads": 2}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [  # saved as, with, what is said, the answer
    ("cohere", {}, {"use_qk_norm": True}, r"lacks 'model.layers.0.self_attn.q_norm.weight'"),
    ("dbrx", {}, {"ffn_config": {"ffn_hidden_size": 12, "moe_num_experts": 6}}, r" \(4, 32\), .* \(6, 32\)"),
    ("falcon", GROUPED, {"num_ln_in_parallel_attn": 1}, "lacks 'transformer.h.0.inp.* has 'transformer.h.0"),
    ("falcon", GROUPED, {"bias": True}, "lacks 'transformer.h.0.self_attention.query_key_value.bias'"),
    ("falcon", GROUPED, {"num_kv_heads": 4}, r"query_key_value.weight' has shape \(64, 32\), .* \(96, 32\)"),
    ("falcon", GROUPED, {"tie_word_embeddings": False}, "lacks 'lm_head.weight'"),
    ("gpt_neox", {}, {"attention_bias": False}, r"has 'gpt_neox.layers.0.attention.dense.bias'"),
    ("llama", {}, {"model_type": "qwen2"}, r"lacks 'model.layers.0.self_attn.q_proj.bias'"),
    ("mixtral", {}, {"num_local_experts": 6}, r"lacks 'model.layers.0.block_sparse_moe.experts.4.w1.weight'"),
    ("stablelm", {}, {"use_parallel_residual": True}, "has 'model.layers.0.post_attention_layernorm.bias'"),
    ("starcoder2", {}, {"use_bias": False}, "has 'model.layers.0.mlp.c_fc.bias'"),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "saved", "said", "message"), CASES)
def test_weights_of_another_model(
    model_type: str, saved: dict[str, Any], said: dict[str, Any], message: str, tmp_path: Path
) -> None:
    reference_model(model_type, **{**ROWS[model_type].smallest, **saved}).save_pretrained(tmp_path)
    edit_config(tmp_path, **said)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


def test_a_missing_tensor(tmp_path: Path) -> None:
    """GPT-J's output layer has a bias."""
    reference_model("gptj", **ROWS["gptj"].smallest).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["lm_head.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks 'lm_head.bias'"):
        load(tmp_path)
