"""config.json as published models have it, but with smaller sizes: read as transformers reads it."""

from pathlib import Path
from typing import Any

import pytest
from parity import check_hub_file

LEFT_OUT = ...

# internlm/internlm3-8b-instruct
INTERNLM3 = {
    "architectures": ["InternLM3ForCausalLM"],
    "attention_dropout": 0.0,
    "bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": 12,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "model_type": "internlm3",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 2,
    "qkv_bias": False,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 6.0, "rope_type": "dynamic"},
    "rope_theta": 50000000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.47.1",
    "use_cache": True,
    "vocab_size": 211,
}
# kyutai/helium-1-preview-2b
HELIUM = {
    "architectures": ["HeliumForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": 8,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "max_position_embeddings": 4096,
    "mlp_bias": False,
    "model_type": "helium",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "pad_token_id": 3,
    "rms_norm_eps": 1e-08,
    "rope_theta": 100000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.48.0.dev0",
    "use_cache": True,
    "vocab_size": 211,
}
# CohereLabs/c4ai-command-r7b-12-2024
COMMAND_R7B = {
    "architectures": ["Cohere2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 5,
    "cache_implementation": "hybrid",
    "eos_token_id": 255001,
    "head_dim": 12,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "layer_norm_eps": 1e-05,
    "layer_switch": 4,
    "logit_scale": 0.25,
    "max_position_embeddings": 8192,
    "model_type": "cohere2",
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "order_of_interleaved_layers": "local_attn_first",
    "pad_token_id": 0,
    "position_embedding_type": "rope_gptj",
    "rope_scaling": None,
    "rope_theta": 50000,
    "rotary_pct": 1.0,
    "sliding_window": 16,
    "sliding_window_pattern": 4,
    "torch_dtype": "float16",
    "transformers_version": "4.48.0.dev0",
    "use_cache": True,
    "use_embedding_sharing": True,
    "use_gated_activation": True,
    "use_parallel_block": True,
    "use_parallel_embedding": False,
    "vocab_size": 211,
}
PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "internlm3": (INTERNLM3, {}),
    "internlm3 with biases": (INTERNLM3, {"bias": True, "qkv_bias": True}),
    "internlm3 without rules": (INTERNLM3, {"rope_scaling": None, "rope_theta": LEFT_OUT}),
    "command r7b": (COMMAND_R7B, {}),
    "command r7b with few keys": (COMMAND_R7B, {"sliding_window_pattern": LEFT_OUT, "head_dim": LEFT_OUT}),
    "helium": (HELIUM, {}),
    "helium without a base": (HELIUM, {"rope_theta": LEFT_OUT}),
}


@pytest.mark.parametrize(("published", "changes"), PUBLISHED.values(), ids=PUBLISHED)
def test_logits(published: dict[str, Any], changes: dict[str, Any], tmp_path: Path) -> None:
    check_hub_file(published, changes, tmp_path)
