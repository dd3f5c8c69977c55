"""config.json of DeepSeek-V4 as published, but with smaller sizes, and its makers' names of tensors."""

import re
from pathlib import Path

import pytest
from parity import assert_close, check_hub_file, logits_of, random_ids, reference_model, save
from safetensors.torch import load_file, save_file

from tinystar_np import load
from tinystar_np.errors import CheckpointError

SIZES = {
    "head_dim": 16,
    "hidden_size": 32,
    "index_head_dim": 8,
    "index_n_heads": 16,
    "moe_intermediate_size": 12,
    "n_routed_experts": 8,
    "num_attention_heads": 4,
    "num_experts_per_tok": 3,
    "num_hidden_layers": 5,
    "o_groups": 2,
    "o_lora_rank": 6,
    "q_lora_rank": 10,
    "qk_rope_head_dim": 4,
    "vocab_size": 211,
}
# deepseek-ai/DeepSeek-V4-Flash; the last number of compress_ratios is of the layer that predicts further
FLASH = {
    "architectures": ["DeepseekV4ForCausalLM"],
    "compress_ratios": [0, 0, 4, 128, 4, 0],
    "compress_rope_theta": 160000,
    "hc_eps": 1e-06,
    "hc_mult": 4,
    "hc_sinkhorn_iters": 20,
    "hidden_act": "silu",
    "index_topk": 512,
    "max_position_embeddings": 1048576,
    "model_type": "deepseek_v4",
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_hash_layers": 3,
    "num_key_value_heads": 1,
    "num_nextn_predict_layers": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 16,
        "original_max_position_embeddings": 65536,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 1.5,
    "scoring_func": "sqrtsoftplus",
    "sliding_window": 128,
    "swiglu_limit": 10.0,
    "tie_word_embeddings": False,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    **SIZES,
}


@pytest.mark.parametrize(
    "changes",
    [{}, {"index_topk": 4, "sliding_window": 7}, {"rope_scaling": ...}, {"num_hash_layers": ...}],
    ids=["as published", "short", "no scaling", "hashed by default"],
)
def test_published(changes: dict[str, object], tmp_path: Path) -> None:
    check_hub_file(FLASH, changes, tmp_path)


def test_makers_names(tmp_path: Path) -> None:
    """As the hub has them: no prefix, embed and head, kv_norm, and a layer that predicts further."""
    reference = reference_model(**{key: value for key, value in FLASH.items() if key != "architectures"})
    save(reference, tmp_path)
    file = tmp_path / "model.safetensors"
    names = {r"^model\.": "", r"^embed_tokens": "embed", r"attn\.norm": "attn.kv_norm", r"hc_head\.": ""}
    names[r"^hc_(fn|base|scale)$"] = r"hc_head_\1"
    tensors = {}
    for name, tensor in load_file(file).items():
        for pattern, other in names.items():
            name = re.sub(pattern, other, name)
        tensors[name] = tensor
    assert {"embed.weight", "head.weight", "hc_head_fn", "layers.0.attn.kv_norm.weight"} <= tensors.keys()
    tensors["mtp.0.attn.wkv.weight"] = tensors["layers.0.attn.wkv.weight"].clone()
    save_file(tensors, file, metadata={"format": "pt"})
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_tables_of_experts(tmp_path: Path) -> None:
    """An expert twice counts twice, as in transformers, whose tables begin at 0; one too many is an error."""
    reference = reference_model(**{key: value for key, value in FLASH.items() if key != "architectures"})
    table = reference.model.layers[0].mlp.gate.tid2eid
    table[:100] = 0
    table[100:150, 1] = table[100:150, 0]
    save(reference, tmp_path)
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))
    table[7, 0] = 8
    save(reference, tmp_path)
    with pytest.raises(CheckpointError, match="names others than 0 to 7"):
        load(tmp_path)
