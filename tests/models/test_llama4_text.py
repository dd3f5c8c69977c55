"""Llama 4's own: its published spelling, chunks that are forgotten, and what is said of it."""

import json
from pathlib import Path

import numpy as np
from parity import (
    assert_close,
    edit_config,
    logits_of,
    old_spelling,
    random_ids,
    reference_model,
    save,
)

from tinystar_np.inspection.describe import describe_model
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.inspection.memory import state_sizes
from tinystar_np.loading import load

C, T = 16, 40


SMALL = {
    "hidden_size": 48,
    "intermediate_size": 20,
    "intermediate_size_mlp": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "num_local_experts": 5,
    "moe_layers": [1],
    "no_rope_layer_interval": 3,
    "attention_chunk_size": C,
    "floor_scale": 3,  # of thousands: otherwise nothing grows within a test
    "attn_scale": 0.6,
}


CHUNKED, FULL = "chunked_attention", "full_attention"


LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 16.0, "low_freq_factor": 1.0}


LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}


SCOUT = {**LLAMA3, "high_freq_factor": 1.0}  # as published: between 1 and 1 nothing is blended


def test_published_spelling(tmp_path: Path) -> None:
    """The rotations in two keys, an empty list of layers, and a number for the temperature."""
    reference = reference_model("llama4_text", **{**SMALL, "rope_parameters": SCOUT})
    save(reference, tmp_path, layer_types=None, no_rope_layers=None, moe_layers=[1])
    path = tmp_path / "config.json"
    edit_config(tmp_path, **old_spelling(json.loads(path.read_text())), attn_temperature_tuning=4)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"no_rope_layers": [], "moe_layers": [1]}))
    assert "rope_scaling" in path.read_text()
    ids = random_ids(2, T)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_chunks_that_are_done_with_are_forgotten(tmp_path: Path) -> None:
    """Memory stops growing at C tokens in layers with chunks, and one token reads its own chunk only."""
    reference = reference_model("llama4_text", **SMALL)
    model, _ = load(save(reference, tmp_path))
    cache = model.new_cache()
    states = [state for state, layer in zip(cache.states, model.blocks, strict=True) if layer.attention.chunk]
    ids = random_ids(1, 5 * C)
    model(ids[:, : 4 * C], cache=cache)
    assert [state.capacity for state in states] == [C, C]
    for state in states:
        state.keys[:], state.values[:] = np.nan, np.nan  # a fifth chunk begins: nobody may look at the fourth
    expected = logits_of(reference, ids)[:, 4 * C :]
    found = [model(ids[:, t : t + 1], cache=cache) for t in range(4 * C, 5 * C)]
    assert_close(np.concatenate(found, axis=1), expected)
    assert [state.capacity for state in states] == [C, C]


def test_described() -> None:
    """What ``tinystar inspect`` reads off Scout's layers."""
    scout = hollow_model({"model_type": "llama4_text", "rope_scaling": {**SCOUT, "factor": 16.0}})
    description = describe_model(scout)
    kinds = {part.words: where for part, where in description.kinds("mixer")}
    far = list(range(3, 48, 4))
    near = [i for i in range(48) if i not in far]
    heads = "attention GQA 40:8, 5 queries to a key and value, heads of 128"
    assert kinds == {
        f"{heads}, in chunks of 8192": near,
        f"{heads}, queries × 1 + 0.1 · ln(1 + ⌊position / 8192⌋)": far,
    }
    assert [where for _, where in description.kinds("positions")] == [near, far]
    own, *others = state_sizes(scout)
    assert own.growth[8192] == 3 * own.at(1) // 4
    assert others[-1].name == "without chunk"
    assert others[-1].at(100_000) == 100_000 * own.at(1)
