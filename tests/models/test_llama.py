"""Llama's own: the first files, and an output layer that a tied model's file has beside."""

import json
from pathlib import Path

import torch
from parity import (
    assert_close,
    logits_of,
    random_ids,
    reference_model,
    save,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


PAIRS = 4  # of each head


def test_a_file_of_the_first_llama(tmp_path: Path) -> None:
    """float16, saved frequencies, no word of groups, rotations or ties; an output layer that is not tied."""
    reference = reference_model("llama", **{**SMALL, "num_key_value_heads": 6})
    for parameter in reference.parameters():
        parameter.data = parameter.data.half().float()
    reference.save_pretrained(tmp_path)
    tensors = {name: tensor.half() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    for i in range(3):
        tensors[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = torch.ones(PAIRS)
    save_file(tensors, tmp_path / "model.safetensors")
    config = {
        "architectures": ["LLaMAForCausalLM"],
        "bos_token_id": 0,
        "eos_token_id": 1,
        "hidden_act": "silu",
        "hidden_size": 48,
        "initializer_range": 0.02,
        "intermediate_size": 80,
        "max_sequence_length": 64,
        "model_type": "llama",
        "num_attention_heads": 6,
        "num_hidden_layers": 3,
        "pad_token_id": -1,
        "rms_norm_eps": 1e-06,
        "torch_dtype": "float16",
        "transformers_version": "4.27.0.dev0",
        "use_cache": True,
        "vocab_size": 211,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, _ = load(tmp_path)
    ids = random_ids(2, 90)
    assert_close(model(ids), logits_of(reference, ids))
    assert model.trained_length == 2048


def test_a_tied_model_whose_file_has_another_output_layer(tmp_path: Path) -> None:
    """transformers believes the file."""
    reference = reference_model("llama", **SMALL, tie_word_embeddings=False)
    save(reference, tmp_path, tie_word_embeddings=True)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    model, _ = load(tmp_path)
    ids = random_ids(2, 20)
    assert_close(logits_of(again, ids), logits_of(reference, ids))
    assert_close(model(ids), logits_of(reference, ids))
    assert not model.config.tie_word_embeddings
