"""config.json as Google and Ai2 published them, but with smaller sizes: read as transformers reads it."""

from pathlib import Path
from typing import Any

import pytest
from parity import check_hub_file, random_ids, reference_model, save
from parity_cases import ROWS

import tinystar_np as ts
from tinystar_np.errors import InputError

# google/recurrentgemma-2b
RECURRENT_GEMMA: dict[str, Any] = {
    "architectures": ["RecurrentGemmaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_window_size": 16,
    "block_types": ["recurrent", "recurrent", "attention"],
    "bos_token_id": 2,
    "conv1d_width": 4,
    "embeddings_scale_by_sqrt_dim": True,
    "eos_token_id": 1,
    "head_dim": 8,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 40,
    "intermediate_size": 60,
    "logits_soft_cap": 30.0,
    "lru_width": 40,
    "model_type": "recurrent_gemma",
    "num_attention_heads": 5,
    "num_hidden_layers": 4,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": 211,
    "w_init_variance_scale": 0.01,
}


@pytest.mark.parametrize(
    "changes", [{}, {"partial_rotary_factor": ...}, {"lru_width": None}, {"num_hidden_layers": 2}]
)
def test_recurrent_gemma(changes: dict[str, Any], tmp_path: Path) -> None:
    check_hub_file(RECURRENT_GEMMA, changes, tmp_path)


def test_blocks_that_read_more_than_the_stream_are_not_patched_alone(tmp_path: Path) -> None:
    """They read inputs of their own, and keys and values of earlier blocks: the error says so."""
    reference = reference_model("gemma4_text", **ROWS["gemma4_text"].config("plain"))
    model, _ = ts.load(save(reference, tmp_path))
    with pytest.raises(InputError, match="read what the embedding and earlier blocks hand them"):
        ts.patching(model, random_ids(6), random_ids(6, seed=2), answer=(3, 5))
