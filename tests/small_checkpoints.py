"""Models of a few kilobytes with every kind of file, for tests that damage them."""

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
from text.sentencepiece_writer import llama_like
from tokenizers import AddedToken, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

V = 312
SMALL: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 32}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 2.0],
    "long_factor": [2.0, 3.0],
    "original_max_position_embeddings": 32,
}
HYBRID = {
    "mamba_n_heads": 4,
    "mamba_d_head": 4,
    "mamba_d_state": 4,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
    "layer_types": ["mamba", "attention"],
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "shared_intermediate_size": 8,
}
MLA = {
    "num_key_value_heads": 2,
    "q_lora_rank": 4,
    "kv_lora_rank": 4,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 4,
    "n_routed_experts": 4,
    "n_group": 2,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
}
MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_size": V, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "llama": SMALL | {"rope_parameters": YARN},
    "phi3": SMALL | {"rope_parameters": LONG},
    "gemma3_text": SMALL | {"sliding_window": 2, "layer_types": ["sliding_attention", "full_attention"]},
    "granitemoehybrid": SMALL | HYBRID,
    "deepseek_v3": SMALL | MLA | {"rope_parameters": YARN},
}


def save_small_model(name: str, directory: Path) -> Path:
    """Save a random model of an architecture, with one of three kinds of tokenizer and a chat template."""
    torch.manual_seed(0)
    given = dict(MODELS[name])
    if name in ("phi3", "granitemoehybrid", "deepseek_v3"):
        given.pop("head_dim")
    config = CONFIG_MAPPING[name](**given)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(directory, max_shard_size="1GB" if name == "gpt2" else "12KB")
    # Of Phi-3 a tokenizer.json alone says how it cuts a text.
    index = 0 if name == "phi3" else list(MODELS).index(name) % 3
    if index == 1:
        (directory / "tokenizer.model").write_bytes(llama_like())
    else:
        letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
        pairs = [("e", "l"), ("o", "w"), ("el", "l")]
        letters |= {"".join(pair): 256 + i for i, pair in enumerate(pairs)}
        backend = tokenizers.Tokenizer(BPE(letters, pairs))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens([AddedToken("<s>", normalized=False)])
        if index == 0:
            backend.save(str(directory / "tokenizer.json"))
        else:
            backend.model.save(str(directory))
    template = "{% for m in messages %}<s>{{ m.role + m.content | trim }}{% endfor %}"
    written = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True, "chat_template": template}
    if index == 2:
        written["tokenizer_class"] = "GPT2Tokenizer"
    (directory / "tokenizer_config.json").write_text(json.dumps(written))
    return directory
