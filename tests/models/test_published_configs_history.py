"""config.json of the first decoders as they were published, but smaller: read as transformers reads it."""

from pathlib import Path
from typing import Any

import pytest
from parity import check_hub_file

from tinystar_np.errors import ConfigError
from tinystar_np.models.nemotron import NemotronConfig

TASKS = {
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}
# openai-community/openai-gpt
GPT = {
    "afn": "gelu",
    "architectures": ["OpenAIGPTLMHeadModel"],
    "attn_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "openai-gpt",
    "n_ctx": 512,
    "n_embd": 48,
    "n_head": 6,
    "n_layer": 2,
    "n_positions": 512,
    "n_special": 0,
    "predict_special_tokens": True,
    "resid_pdrop": 0.1,
    **TASKS,
    "vocab_size": 211,
}
# facebook/opt-125m
OPT = {
    "_name_or_path": "facebook/opt-125m",
    "_remove_final_layer_norm": False,
    "activation_dropout": 0.0,
    "activation_function": "relu",
    "architectures": ["OPTForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "do_layer_norm_before": True,
    "dropout": 0.1,
    "eos_token_id": 2,
    "ffn_dim": 40,
    "hidden_size": 48,
    "init_std": 0.02,
    "layerdrop": 0.0,
    "max_position_embeddings": 2048,
    "model_type": "opt",
    "num_attention_heads": 6,
    "num_hidden_layers": 2,
    "pad_token_id": 1,
    "prefix": "</s>",
    "torch_dtype": "float16",
    "transformers_version": "4.21.0.dev0",
    "use_cache": True,
    "vocab_size": 211,
    "word_embed_proj_dim": 48,
}
# What facebook/opt-350m says instead; galactica and older files say less.
OF_350M = {"do_layer_norm_before": False, "word_embed_proj_dim": 24}
LESS = dict.fromkeys(("_remove_final_layer_norm", "word_embed_proj_dim"), ...)
# bigcode/starcoder
STARCODER = {
    "activation_function": "gelu",
    "architectures": ["GPTBigCodeForCausalLM"],
    "attention_softmax_in_fp32": True,
    "attn_pdrop": 0.1,
    "bos_token_id": 0,
    "embd_pdrop": 0.1,
    "eos_token_id": 0,
    "inference_runner": 0,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "max_batch_size": None,
    "max_sequence_length": None,
    "model_type": "gpt_bigcode",
    "multi_query": True,
    "n_embd": 48,
    "n_head": 6,
    "n_inner": 40,
    "n_layer": 2,
    "n_positions": 512,
    "pad_key_length": True,
    "pre_allocate_kv_cache": False,
    "resid_pdrop": 0.1,
    "scale_attention_softmax_in_fp32": True,
    "scale_attn_weights": True,
    "summary_activation": None,
    "use_cache": True,
    "validate_runner_input": True,
    "vocab_size": 211,
}
# Salesforce/codegen-350M-mono
CODEGEN = {
    "activation_function": "gelu_new",
    "architectures": ["CodeGenForCausalLM"],
    "attn_pdrop": 0.0,
    "bos_token_id": 1,
    "embd_pdrop": 0.0,
    "eos_token_id": 0,
    "gradient_checkpointing": False,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "codegen",
    "n_ctx": 2048,
    "n_embd": 64,
    "n_head": 4,
    "n_inner": None,
    "n_layer": 2,
    "n_positions": 2048,
    "resid_pdrop": 0.0,
    "rotary_dim": 8,
    "scale_attn_weights": True,
    **TASKS,
    "tie_word_embeddings": False,
    "tokenizer_class": "GPT2Tokenizer",
    "transformers_version": "4.21.0.dev0",
    "use_cache": True,
    "vocab_size": 211,
}
# facebook/xglm-564M
XGLM = {
    "activation_dropout": 0,
    "activation_function": "gelu",
    "architectures": ["XGLMForCausalLM"],
    "attention_dropout": 0.1,
    "attention_heads": 6,
    "bos_token_id": 0,
    "d_model": 48,
    "decoder_start_token_id": 2,
    "dropout": 0.1,
    "eos_token_id": 2,
    "ffn_dim": 40,
    "init_std": 0.02,
    "layerdrop": 0.0,
    "max_position_embeddings": 2048,
    "model_type": "xglm",
    "num_layers": 2,
    "pad_token_id": 1,
    "scale_embedding": True,
    "transformers_version": "4.16.0.dev0",
    "use_cache": True,
    "vocab_size": 211,
}
# microsoft/biogpt
BIOGPT = {
    "activation_dropout": 0.0,
    "architectures": ["BioGptForCausalLM"],
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 48,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "layer_norm_eps": 1e-12,
    "layerdrop": 0.0,
    "max_position_embeddings": 1024,
    "model_type": "biogpt",
    "num_attention_heads": 6,
    "num_hidden_layers": 2,
    "pad_token_id": 1,
    "scale_embedding": True,
    "torch_dtype": "float32",
    "transformers_version": "4.25.0.dev0",
    "use_cache": True,
    "vocab_size": 211,
}
CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [  # a file, and what another says instead
    (GPT, {}),
    (OPT, {}),
    (OPT, OF_350M),
    (OPT, LESS),
    (STARCODER, {}),
    (STARCODER, {"multi_query": False, "n_inner": None}),
    (CODEGEN, {}),
    (XGLM, {}),
    (BIOGPT, {}),
]
IDS = [f"{published['model_type']}-{i}" for i, (published, _) in enumerate(CASES)]


@pytest.mark.parametrize(("published", "changes"), CASES, ids=IDS)
def test_published(published: dict[str, Any], changes: dict[str, Any], tmp_path: Path) -> None:
    check_hub_file(published, changes, tmp_path)


def test_two_names_of_one_key() -> None:
    """The first Nemotrons, in their makers' words."""
    old = {"head_dim": 12, "rope_percentage": 0.25, "hidden_size": 48, "num_attention_heads": 6}
    assert NemotronConfig.from_dict(old).rope.rotary_dim == 3
    with pytest.raises(ConfigError, match=r"rope_percent = 0\.5, but partial_rotary_factor = 0\.25"):
        NemotronConfig.from_dict({"rope_percent": 0.5, "partial_rotary_factor": 0.25})
