"""The first Qwen: config.json in the spelling of its first files and of its last."""

from typing import Any

import pytest

from tinystar_np.errors import ConfigError
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.models import model_class

# Qwen/Qwen-7B, as it was first published
FIRST: dict[str, Any] = {
    "activation": "swiglu",
    "apply_residual_connection_post_layernorm": False,
    "architectures": ["QWenLMHeadModel"],
    "auto_map": {
        "AutoConfig": "configuration_qwen.QWenConfig",
        "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
    },
    "attn_pdrop": 0.0,
    "bf16": False,
    "bias_dropout_fusion": True,
    "bos_token_id": 151643,
    "embd_pdrop": 0.0,
    "eos_token_id": 151643,
    "ffn_hidden_size": 22016,
    "fp16": False,
    "fp32": False,
    "initializer_range": 0.02,
    "kv_channels": 128,
    "layer_norm_epsilon": 1e-06,
    "model_type": "qwen",
    "n_embd": 4096,
    "n_head": 32,
    "n_layer": 32,
    "n_positions": 8192,
    "no_bias": True,
    "onnx_safe": None,
    "padded_vocab_size": 151936,
    "params_dtype": "torch.bfloat16",
    "pos_emb": "rotary",
    "resid_pdrop": 0.1,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "scale_attn_weights": True,
    "seq_length": 2048,
    "tie_word_embeddings": False,
    "tokenizer_type": "QWenTokenizer",
    "transformers_version": "4.31.0",
    "use_cache": True,
    "use_dynamic_ntk": True,
    "use_flash_attn": "auto",
    "use_logn_attn": True,
    "vocab_size": 151936,
}
LAST: dict[str, Any] = {
    "architectures": ["QWenLMHeadModel"],
    "attn_dropout_prob": 0.0,
    "bf16": False,
    "emb_dropout_prob": 0.0,
    "fp16": False,
    "fp32": False,
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 22016,
    "kv_channels": 128,
    "layer_norm_epsilon": 1e-06,
    "max_position_embeddings": 8192,
    "model_type": "qwen",
    "no_bias": True,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "scale_attn_weights": True,
    "seq_length": 2048,
    "tie_word_embeddings": False,
    "tokenizer_class": "QWenTokenizer",
    "transformers_version": "4.32.0",
    "use_cache": True,
    "use_dynamic_ntk": True,
    "use_flash_attn": "auto",
    "use_logn_attn": True,
    "vocab_size": 151936,
}


def test_both_spellings() -> None:
    config = model_class("qwen").Config
    assert config.from_dict(FIRST) == config.from_dict(LAST)
    model = hollow_model(FIRST)
    assert round(model.parameters / 1e9, 2) == 7.72
    assert model.trained_length == 8192


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_channels": 64}, "32 heads of kv_channels = 64 do not make hidden_size = 4096"),
        ({"n_head": 16}, "two names of one key"),
        ({"rotary_pct": 1.5}, r"rotary_pct = 1\.5 is not between"),
        ({"rotary_pct": 0.015625}, "use_dynamic_ntk needs more than 2"),
        ({"seq_length": 1}, "seq_length = 1 must be at least 2"),
        ({"use_cache_quantization": True}, "use_cache_quantization = True is not implemented"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_class("qwen").Config.from_dict({**LAST, **changes})
