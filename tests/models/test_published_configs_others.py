"""config.json of recurrences and others as published models have it, but with smaller sizes."""

from pathlib import Path
from typing import Any

import pytest
from parity import check_hub_file

LEFT_OUT = ...

# RWKV/rwkv-4-169m-pile
RWKV_4 = {
    "architectures": ["RwkvForCausalLM"],
    "attention_hidden_size": 48,
    "bos_token_id": 0,
    "context_length": 1024,
    "eos_token_id": 0,
    "hidden_size": 48,
    "intermediate_size": 192,
    "layer_norm_epsilon": 1e-05,
    "model_type": "rwkv",
    "num_hidden_layers": 3,
    "rescale_every": 6,
    "tie_word_embeddings": False,
    "transformers_version": "4.29.0.dev0",
    "use_cache": True,
    "vocab_size": 211,
}

# microsoft/bitnet-b1.58-2B-4T-bf16, without its quantization_config (tests/checkpoints/test_packed_bitnet.py)
BITNET = {
    "architectures": ["BitNetForCausalLM"],
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "hidden_act": "relu2",
    "hidden_size": 40,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "max_position_embeddings": 4096,
    "model_type": "bitnet",
    "num_attention_heads": 20,
    "num_hidden_layers": 2,
    "num_key_value_heads": 5,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 211,
}

FILES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (BITNET, {}),
    (BITNET, {"rope_theta": LEFT_OUT, "hidden_act": LEFT_OUT}),
    (RWKV_4, {}),
    (RWKV_4, {"attention_hidden_size": LEFT_OUT, "intermediate_size": LEFT_OUT, "rescale_every": LEFT_OUT}),
]


@pytest.mark.parametrize(("published", "changes"), FILES)
def test_a_hub_file(published: dict[str, Any], changes: dict[str, Any], tmp_path: Path) -> None:
    check_hub_file(published, changes, tmp_path)
