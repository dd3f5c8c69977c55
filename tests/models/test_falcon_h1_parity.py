"""Falcon-H1 against transformers: every switch and multiplier, pieces around the chunks, its two states."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import (
    assert_close,
    check,
    check_hub_file,
    edit_config,
    forget_slowly,
    logits_of,
    old_spelling,
    random_ids,
    reference_model,
    save,
)
from transformers import PreTrainedModel

import tinystar_np as ts
from tinystar_np.cli.inspect import explanation
from tinystar_np.errors import ConfigError
from tinystar_np.inspection.describe import describe_model
from tinystar_np.inspection.flops import flops_per_token
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.inspection.memory import state_sizes, weight_sizes
from tinystar_np.kernels.ssm import CHUNK
from tinystar_np.loading import load
from tinystar_np.tracing.compare import compare_with_transformers

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
VARIANTS: dict[str, dict[str, Any]] = {
    "as_published": {},
    "no_multipliers": dict.fromkeys(MULTIPLIERS, 1.0) | {"ssm_multipliers": None, "mlp_multipliers": None},
    "norm_behind_the_gate": {"mamba_rms_norm": True, "mamba_norm_before_gate": False, "mamba_n_groups": 2},
    "norm_before_the_gate": {"mamba_rms_norm": True, "mamba_norm_before_gate": True, "mamba_n_groups": 2},
    "two_groups": {"mamba_n_groups": 2},
    "all_biases": {**BIASES, "mamba_rms_norm": True},
    "no_convolution_bias": {"mamba_conv_bias": False},
    "width_by_expansion": {"mamba_d_ssm": None, "mamba_expand": 3, "mamba_n_heads": 6},
    "wide_mamba_heads": {"mamba_n_heads": 2, "mamba_d_head": 16},
    "convolution_of_2": {"mamba_d_conv": 2, "mamba_chunk_size": 256},
    "convolution_of_1": {"mamba_d_conv": 1},
    "wide_heads_and_a_key_for_each_query": {"num_key_value_heads": None, "head_dim": 12},
    "tied": {"tie_word_embeddings": True},
    "epsilon_and_activation": {"rms_norm_eps": 0.1, "hidden_act": "gelu_pytorch_tanh"},
    "yarn": {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
                                 "original_max_position_embeddings": 64}},
    "llama3": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0,
                                   "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                   "original_max_position_embeddings": 64}},
}  # fmt: skip
# Around the chunks of the reference and of ours, and across both.
LENGTH = CHUNK + 6
CUTS = ([15, 16, 17, LENGTH - 48], [CHUNK - 1, 1, 6], [CHUNK, 6], [CHUNK + 1, 1, 4])


def falcon_h1(seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Make a reference."""
    return forget_slowly(reference_model("falcon_h1", seed, **{**SMALL, **changes}), seed)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = falcon_h1(**VARIANTS[variant])
    model = check(reference, save(reference, tmp_path), length=LENGTH, cuts=CUTS)
    assert model.context_length is None
    assert model.trained_length == 256


@pytest.mark.parametrize("key", [*BIASES, "mamba_conv_bias"])
def test_each_switch_of_biases(key: str, tmp_path: Path) -> None:
    reference = falcon_h1(**{key: key != "mamba_conv_bias"})
    ids = random_ids(2, 20)
    assert_close(load(save(reference, tmp_path))[0](ids), logits_of(reference, ids))


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


def test_several_chunks_of_each(tmp_path: Path) -> None:
    reference = falcon_h1(seed=1)
    length = 3 * CHUNK + 5
    cuts = ([CHUNK, CHUNK, CHUNK, 5], [1, 2 * CHUNK, CHUNK + 4], [length - 1, 1])
    check(reference, save(reference, tmp_path), length=length, cuts=cuts, greedy=False)


def test_time_step_limit(tmp_path: Path) -> None:
    """The limits hold for every token; transformers leaves them out where it continues from a cache."""
    reference = falcon_h1(time_step_limit=(0.2, 0.8))
    model = check(reference, save(reference, tmp_path), length=LENGTH, cuts=CUTS, greedy=False)
    ids = random_ids(30)
    edit_config(tmp_path, time_step_limit=[0.0, 1e9])
    without, with_limits = load(tmp_path)[0](ids), model(ids)
    assert np.abs(without - with_limits).max() > 1e-3 * np.abs(with_limits).max()


# The keys of tiiuae/Falcon-H1-0.5B-Base, with smaller sizes.
HUB = {
    "architectures": ["FalconH1ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_layer_indices": None,
    "bos_token_id": 1,
    "eos_token_id": 11,
    "head_dim": 12,
    "hidden_act": "silu",
    "hidden_size": 48,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "mamba_chunk_size": 128,
    "mamba_conv_bias": True,
    "mamba_d_conv": 4,
    "mamba_d_head": 8,
    "mamba_d_ssm": 32,
    "mamba_d_state": 8,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 4,
    "mamba_norm_before_gate": False,
    "mamba_proj_bias": False,
    "mamba_rms_norm": False,
    "mamba_use_mlp": True,
    "max_position_embeddings": 16384,
    "mlp_bias": False,
    "mlp_expansion_factor": 8,
    "model_type": "falcon_h1",
    "num_attention_heads": 6,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_logits_to_keep": 1,
    "pad_token_id": 0,
    "projectors_bias": False,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 100000000000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.52.0",
    "use_cache": True,
    "vocab_size": 211,
    **MULTIPLIERS,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mamba_d_head": "auto"},
        {"mamba_d_ssm": None, "mamba_n_heads": 12},
        {
            "ssm_multipliers": ...,
            "mlp_multipliers": ...,
            "mamba_norm_before_gate": ...,
            "mamba_rms_norm": True,
        },
        {"rms_norm_eps": ..., "rope_theta": ..., "head_dim": ...},
    ],
)
def test_the_hubs_files(changes: dict[str, Any], tmp_path: Path) -> None:
    check_hub_file(HUB, changes, tmp_path)


def test_both_spellings_are_one_config(tmp_path: Path) -> None:
    reference = falcon_h1()
    save(reference, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    ids = random_ids(2, 50)
    for changes in ({}, old_spelling(raw), {"time_step_limit": None}, {"num_key_value_heads": 2}):
        save(reference, tmp_path, **changes)
        assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 5}, "hidden_size = 48 cannot be divided among num_attention_heads = 5"),
        ({"num_key_value_heads": 4}, "num_attention_heads = 6 cannot be divided among .*heads = 4"),
        ({"mamba_n_heads": 5}, "mamba_n_heads = 5 heads of mamba_d_head = auto do not make 32 channels"),
        ({"mamba_d_head": 9}, "mamba_n_heads = 4 heads of mamba_d_head = 9 do not make 32 channels"),
        ({"mamba_d_head": "wide"}, "mamba_d_head = 'wide', but it must be a whole number or 'auto'"),
        ({"mamba_n_groups": 3}, "mamba_n_heads = 4 cannot be divided among mamba_n_groups = 3"),
        ({"mamba_n_groups": 0}, "U = 0"),
        ({"mamba_n_heads": 0}, "M = 0"),
        ({"mamba_d_conv": 0}, "W = 0"),
        ({"mamba_d_state": 0}, "N = 0"),
        ({"time_step_limit": [0.5, 0.1]}, r"time_step_limit = \[0.5, 0.1\], but it must be two numbers"),
        ({"ssm_multipliers": [1, 2, 3]}, r"ssm_multipliers = \[1, 2, 3\], but it must be 5 numbers"),
        ({"ssm_multipliers": 2.0}, "ssm_multipliers = 2.0, but it must be list"),
        ({"mlp_multipliers": []}, r"mlp_multipliers = \[\], but it must be 2 numbers"),
        ({"mlp_multipliers": [1.0, "2"]}, r"mlp_multipliers\[1\] = '2', but it must be float"),
        ({"key_multiplier": None}, "key_multiplier = None, but it must be float"),
        ({"lm_head_multiplier": 0}, "lm_head_multiplier = 0"),
        ({"hidden_act": "swoosh"}, "hidden_act = 'swoosh' is not known here"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps = 0.0 must be above 0"),
        ({"mamba_use_mlp": False}, "mamba_use_mlp = False is not implemented"),
        ({"attn_layer_indices": [1]}, r"attn_layer_indices = \[1\] is not implemented"),
        ({"rope_parameters": {"rope_type": "spiral"}}, "rope_type = 'spiral'"),
        ({"head_dim": 3}, "head_dim = 3"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "falcon_h1", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


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
        "two mixers side by side, then feed-forward, a norm before each of both"
    )
    assert found.kinds("positions")[0][0].words == "RoPE, base 1e+11"
    assert found.kinds("scores")[0][0].words == "scaled by 0.1414 instead of 1/√8"
    multipliers = found.parts["multipliers"].facts
    assert multipliers["logits"] == pytest.approx(0.04)
    assert multipliers["mixer's result"] == 0.6
    assert len(multipliers) == 8
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
