"""Granite 4's own: leftover keys of layers that are not there, and its memory."""

import tracemalloc
from pathlib import Path
from typing import Any

from parity import (
    random_ids,
    reference_model,
    save,
)
from transformers import PreTrainedModel

from tinystar_np.cache import PREFILL
from tinystar_np.loading import load
from tinystar_np.models.granitemoehybrid import GraniteMoeHybridConfig

M, A = "linear_attention", "full_attention"


SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 20,
    "shared_intermediate_size": 40,
    "num_hidden_layers": 4,
    "layer_types": [M, A, M, M],
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "num_local_experts": 0,
    "num_experts_per_tok": 0,
    "mamba_n_heads": 6,
    "mamba_d_state": 8,
    "mamba_chunk_size": 16,
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.2,
    "residual_multiplier": 0.22,
    "logits_scaling": 3.0,
    "tie_word_embeddings": True,
}


def layers(*kinds: str) -> dict[str, Any]:
    return {"layer_types": list(kinds), "num_hidden_layers": len(kinds)}


def hybrid(seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Make a reference."""
    return reference_model("granitemoehybrid", seed, **{**SMALL, **changes})


def test_what_is_not_there_is_not_looked_at() -> None:
    """Files of models without Mamba, attention or experts carry leftovers of their keys."""
    no_mamba = {"layer_types": ["attention"] * 4, "mamba_n_heads": 7, "mamba_n_groups": 0, "mamba_d_head": 5}
    no_attention = {
        "layer_types": ["mamba"] * 4,
        "num_attention_heads": 7,
        "position_embedding_type": "other",
    }
    no_positions = {"head_dim": 3, "rope_parameters": {"rope_type": "spiral"}}
    for changes in (no_mamba, no_attention, no_positions, {"num_experts_per_tok": 9, "intermediate_size": 0}):
        GraniteMoeHybridConfig.from_dict({**SMALL, **changes})


def test_memory_grows_with_the_keys_and_values_alone(tmp_path: Path) -> None:
    """A long prompt in pieces costs one piece's activations and the few layers of attention's cache."""
    reference = hybrid(**layers(M, A, M), mamba_n_heads=3, num_attention_heads=2, num_key_value_heads=1)
    model, _ = load(save(reference, tmp_path))
    beyond, cached = [], []
    for length in (2 * PREFILL, 8192):
        prompt = random_ids(length)
        tracemalloc.start()
        cache = model.new_cache(capacity=length)
        for start in range(0, length, PREFILL):
            model(prompt[start : start + PREFILL], cache=cache, last_only=True)
        beyond.append(tracemalloc.get_traced_memory()[1] - cache.nbytes)
        tracemalloc.stop()
        cached.append([state.nbytes for state in cache.states])
    keys_and_values = 2 * 4 * 24  # bytes of one token
    assert cached[1][1] - cached[0][1] == (8192 - 2 * PREFILL) * keys_and_values
    assert cached[1][::2] == cached[0][::2]
    assert beyond[1] < beyond[0] + 1e6  # the blocks of scores; all of one head at once would be 268 MB
