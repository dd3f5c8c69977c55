"""Falcon-H1's own: two states of a layer, its activations, and what is said of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import (
    assert_close,
    edit_config,
    random_ids,
    reference_model,
    save,
)
from transformers import PreTrainedModel

import tinystar_np as ts
from tinystar_np.cli.inspect import explanation
from tinystar_np.inspection.describe import describe_model
from tinystar_np.inspection.flops import flops_per_token
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.inspection.memory import state_sizes, weight_sizes
from tinystar_np.loading import load
from tinystar_np.seeing.comparison.with_transformers import compare_with_transformers

MULTIPLIERS: dict[str, Any] = {  # none like another, so that none can stand in another's place
    "embedding_multiplier": 5.5,
    "attention_in_multiplier": 0.9,
    "attention_out_multiplier": 0.7,
    "key_multiplier": 0.4,
    "ssm_in_multiplier": 1.25,
    "ssm_out_multiplier": 0.6,
    "ssm_multipliers": [0.35, 0.55, 1.3, 0.8, 1.7],
    "mlp_multipliers": [0.85, 0.45],
    "lm_head_multiplier": 0.04,
}


SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "mamba_d_ssm": 32,
    "mamba_n_heads": 4,
    "mamba_d_state": 8,
    "mamba_chunk_size": 16,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e11},
    **MULTIPLIERS,
}


BIASES = {"attention_bias": True, "mlp_bias": True, "mamba_proj_bias": True, "projectors_bias": True}


def falcon_h1(seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Make a reference."""
    return reference_model("falcon_h1", seed, **{**SMALL, **changes})


@pytest.mark.parametrize("key", MULTIPLIERS)
def test_each_multiplier_is_felt(key: str, tmp_path: Path) -> None:
    """What a test with all of them together might miss: one that changes nothing."""
    save(falcon_h1(), tmp_path)
    ids = random_ids(20)
    before = load(tmp_path)[0](ids)
    given = MULTIPLIERS[key]
    for i in range(len(given) if isinstance(given, list) else 1):
        changed = (
            [x * (1.5 if j == i else 1) for j, x in enumerate(given)] if isinstance(given, list) else 1.5
        )
        edit_config(tmp_path, **{key: changed})
        after = load(tmp_path)[0](ids)
        assert np.abs(after - before).max() > 1e-3 * np.abs(before).max()


def test_a_cache_is_saved_copied_and_not_cut_back(tmp_path: Path) -> None:
    model, _ = load(save(falcon_h1(), tmp_path))
    ids = random_ids(2, 60)
    whole = model(ids)
    cache = model.new_cache(batch_size=2)
    model(ids[:, :30], cache=cache)
    cache.save(tmp_path / "half.cache")
    loaded, copied = model.load_cache(tmp_path / "half.cache"), cache.copy()
    model(ids[:, :7], cache=cache)  # does not reach the copies
    for other in (loaded, copied):
        assert_close(model(ids[:, 30:], cache=other), whole[:, 30:])
    assert not cache.rewindable
    with pytest.raises(ts.TinyStarError, match="cannot be cut back"):
        cache.truncate(3)
    held = {"0.keys", "0.values", "1.convolution", "1.ssm"}
    assert set(cache.states[0].arrays(5)) == held


def test_every_activation_has_its_counterpart(tmp_path: Path) -> None:
    model, _ = load(save(falcon_h1(mamba_rms_norm=True), tmp_path))
    rows = compare_with_transformers(model, random_ids(20).tolist(), tmp_path)
    assert not [str(row) for row in rows if row.exceeds(1e-5)]
    names = {row.name for row in rows}
    found = "mixer_norm attention.k attention.out mixer.in mixer.scan mixer.gated_norm mixer.out"
    found += " residual_middle feed_forward.gate feed_forward.down residual"
    assert {f"blocks.1.{name}" for name in found.split()} <= names


def test_what_inspect_says() -> None:
    raw = {"model_type": "falcon_h1", "vocab_size": 211, **SMALL}
    model = hollow_model(raw)
    found = describe_model(model)
    ((mixer, where),) = found.kinds("mixer")
    assert where == [0, 1]
    assert mixer.words == (
        "attention GQA 6:2, 3 queries to a key and value, heads of 8; beside it "
        "Mamba 2, 4 heads keep 8 × 8 numbers each, convolution over 4"
    )
    assert found.kinds("block")[0][0].words == (
        "Attention beside Mamba 2, then feed-forward; one norm feeds both mixers, whose results are added"
    )
    assert found.kinds("positions")[0][0].words == "RoPE, base 1e+11"
    assert found.kinds("scores")[0][0].words == "scaled by 0.1414 instead of 1/√8"
    assert found.parts["multipliers"].facts == MULTIPLIERS
    assert found.parts["biases"].words == "mixer convolution"
    biased = describe_model(hollow_model({**raw, **BIASES}))
    assert biased.parts["biases"].words == "in every layer"

    keys, mamba = 2 * 2 * 8 * 4, (4 * 8 * 8 + 3 * (32 + 2 * 8)) * 4  # bytes of a token and of a layer
    sizes = {size.name: (size.fixed, size.per_token) for size in state_sizes(model)}
    assert sizes == {
        "this model": (2 * mamba, 2 * keys),
        "as MHA 6:6": (2 * mamba, 2 * 3 * keys),
        "as MQA 6:1": (2 * mamba, keys),
    }
    assert model.new_cache(1, 9).nbytes == 2 * (mamba + 9 * keys)
    assert "3 queries share each key" in explanation(found, state_sizes(model), 100)
    reference = reference_model("falcon_h1", **SMALL)
    assert weight_sizes(model).parameters == reference.num_parameters()

    attention, state = 6 * 100 * (8 + 8), 2 * 4 * 8 * 8 + 48 * 4
    linear = sum(m.weight.numel() for m in reference.modules() if isinstance(m, torch.nn.Linear))
    assert flops_per_token(model, 100) == 2 * (linear + 2 * (attention + state))
