"""InternLM2 and Baichuan: config.json as published, but smaller, against the makers' code (own_code.py)."""

from pathlib import Path
from typing import Any

import own_code  # noqa: F401 — registers the references
import pytest
from parity import check_hub_file

from tinystar_np.models import model_class

LEFT_OUT = ...
SIZES = {
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}
# internlm/internlm2-chat-7b
INTERNLM2 = {
    **SIZES,
    "architectures": ["InternLM2ForCausalLM"],
    "attn_implementation": "eager",
    "bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 32,
    "model_type": "internlm2",
    "num_key_value_heads": 2,
    "pad_token_id": 2,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 2.0, "type": "dynamic"},
    "rope_theta": 1000000,
    "transformers_version": "4.41.0",
    "vocab_size": 211,
}
# baichuan-inc/Baichuan2-7B-Chat
BAICHUAN = {
    **SIZES,
    "_from_model_config": True,
    "architectures": ["BaichuanForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 4096,
    "model_max_length": 4096,
    "model_type": "baichuan",
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "tokenizer_class": "BaichuanTokenizer",
    "transformers_version": "4.29.2",
    "vocab_size": 125696,
}
PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "internlm2": (INTERNLM2, {}),
    "internlm2 with few keys": (INTERNLM2, {"bias": LEFT_OUT, "rope_scaling": LEFT_OUT}),
    "baichuan 2 7b": (BAICHUAN, {}),
    "baichuan 2 13b": (BAICHUAN, {"max_position_embeddings": LEFT_OUT}),
    "baichuan 1 7b": (BAICHUAN, {"vocab_size": 64000}),
    "baichuan 1 13b": (BAICHUAN, {"vocab_size": 64000, "max_position_embeddings": LEFT_OUT}),
    "baichuan 2 with more tokens": (BAICHUAN, {"vocab_size": 211, "z_loss_weight": 0}),
}


@pytest.mark.parametrize(("published", "changes"), PUBLISHED.values(), ids=PUBLISHED)
def test_logits(published: dict[str, Any], changes: dict[str, Any], tmp_path: Path) -> None:
    check_hub_file(published, changes, tmp_path)


def test_trained_length() -> None:
    """13B says it by another key."""
    read = model_class("baichuan").Config.from_dict
    assert read(BAICHUAN).trained_length == 4096
    assert read({**BAICHUAN, "max_position_embeddings": None, "model_max_length": 99}).trained_length == 99
    assert (
        read({**BAICHUAN, "max_position_embeddings": None, "model_max_length": None}).trained_length is None
    )
