"""Granite 4 against transformers: each order of its layers, each switch, both spellings, and its memory."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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

from tinystar_np.cache import KeyValueState, RecurrentState
from tinystar_np.errors import ConfigError
from tinystar_np.generation.loop import PREFILL
from tinystar_np.kernels.ssm import CHUNK
from tinystar_np.loading import load
from tinystar_np.models import Decoder
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
EXPERTS = {"num_local_experts": 5, "num_experts_per_tok": 2}
ROPE = {"position_embedding_type": "rope"}


def layers(*kinds: str) -> dict[str, Any]:
    return {"layer_types": list(kinds), "num_hidden_layers": len(kinds)}


VARIANTS: dict[str, dict[str, Any]] = {
    "dense": {},  # H-350M, H-1B, H-Micro
    "experts": EXPERTS,  # H-Tiny, H-Small
    "no_mamba": {**layers(A, A), **ROPE},  # 350M, 1B, Micro
    "attention_first": layers(A, M, M),
    "attention_last": {**layers(M, M, A), **EXPERTS},
    "only_mamba": {**layers(M, M), **EXPERTS},
    "only_attention": {**layers(A, A), **EXPERTS},
    "rope": {**ROPE, "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}, "head_dim": 12},
    "two_groups": {"mamba_n_groups": 2},
    "a_group_per_head": {"mamba_n_groups": 6, **EXPERTS},
    "wide_heads": {"mamba_n_heads": 3, "mamba_d_head": 32},
    "three_times_as_wide": {"mamba_expand": 3, "mamba_n_heads": 9, "mamba_n_groups": 3},
    "convolution_of_2": {"mamba_d_conv": 2, "mamba_chunk_size": 256},
    "convolution_of_1": {"mamba_d_conv": 1},
    # With rotations: without, a bias on the keys moves all scores of a query alike and changes nothing.
    "all_biases": {"attention_bias": True, "mamba_proj_bias": True, **ROPE},
    "no_biases": {"mamba_conv_bias": False, "tie_word_embeddings": False},
    "no_multipliers": {"embedding_multiplier": 1, "residual_multiplier": 1, "logits_scaling": 1},
    "epsilon_and_activation": {"rms_norm_eps": 0.1, "hidden_act": "gelu_pytorch_tanh", **EXPERTS},
}
# Around the chunks of the reference and of ours, and across both.
LENGTH = CHUNK + 6
CUTS = ([15, 16, 17, LENGTH - 48], [CHUNK - 1, 1, 6], [CHUNK, 6], [CHUNK + 1, 1, 4])


def hybrid(seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Make a reference."""
    return forget_slowly(reference_model("granitemoehybrid", seed, **{**SMALL, **changes}), seed)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = hybrid(**VARIANTS[variant])
    # transformers' generate cannot count the tokens of a cache that has no layer of attention.
    cached = variant != "only_mamba"
    model = check(reference, save(reference, tmp_path), length=LENGTH, cuts=CUTS, greedy=cached)
    if not cached:
        check_greedy_without_a_cache(reference, model, random_ids(40))
    assert model.context_length is None
    assert model.trained_length == 256
    kinds = {M: RecurrentState, A: KeyValueState}
    expected = [kinds[kind] for kind in reference.config.layer_types]
    assert [type(state) for state in model.new_cache().states] == expected


def test_several_chunks_of_each(tmp_path: Path) -> None:
    reference = hybrid(seed=1, mamba_n_groups=3, **EXPERTS)
    length = 3 * CHUNK + 5
    cuts = ([CHUNK, CHUNK, CHUNK, 5], [1, 2 * CHUNK, CHUNK + 4], [length - 1, 1])
    check(reference, save(reference, tmp_path), length=length, cuts=cuts, greedy=False)


def test_time_step_limit(tmp_path: Path) -> None:
    """The limits hold for every token.

    Generating with a cache, transformers leaves them out: greedy ids are held against those it gives
    without one.
    """
    reference = hybrid(time_step_limit=(0.2, 0.8))
    model = check(reference, save(reference, tmp_path), length=LENGTH, cuts=CUTS, greedy=False)
    ids = random_ids(30)
    edit_config(tmp_path, time_step_limit=[0.0, 1e9])
    without, with_limits = load(tmp_path)[0](ids), model(ids)
    assert np.abs(without - with_limits).max() > 0.01 * np.abs(with_limits).max()
    check_greedy_without_a_cache(reference, model, ids)


def check_greedy_without_a_cache(reference: PreTrainedModel, model: Decoder, prompt: np.ndarray) -> None:
    theirs = prompt.tolist()
    cache = model.new_cache()
    ours = [*theirs, int(model(prompt, cache=cache, last_only=True).argmax())]
    for _ in range(20):
        theirs.append(int(logits_of(reference, np.array(theirs))[0, -1].argmax()))
        ours.append(int(model(ours[-1:], cache=cache).argmax()))
    assert ours[:-1] == theirs


# As IBM writes it, but smaller.
HUB = {
    "architectures": ["GraniteMoeHybridForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_multiplier": 0.015625,
    "bos_token_id": 0,
    "embedding_multiplier": 12,
    "eos_token_id": 0,
    "hidden_act": "silu",
    "hidden_size": 48,
    "init_method": "mup",
    "initializer_range": 0.1,
    "intermediate_size": 40,
    "layer_types": ["mamba", "mamba", "attention", "mamba"],
    "logits_scaling": 3,
    "mamba_chunk_size": 256,
    "mamba_conv_bias": True,
    "mamba_d_conv": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 6,
    "mamba_proj_bias": False,
    "max_position_embeddings": 32768,
    "model_type": "granitemoehybrid",
    "normalization_function": "rmsnorm",
    "num_attention_heads": 6,
    "num_experts_per_tok": 0,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 0,
    "output_router_logits": False,
    "pad_token_id": 0,
    "position_embedding_type": "nope",
    "residual_multiplier": 0.246,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000,
    "router_aux_loss_coef": 0.0,
    "shared_intermediate_size": 40,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "transformers_version": "4.57.0",
    "use_cache": True,
    "vocab_size": 211,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        EXPERTS,
        {"layers_block_type": ["mamba", "mamba", "attention", "mamba"], "layer_types": ...},
        {"mamba_d_head": "auto"},
        {"position_embedding_type": "rope"},
        {"layer_types": ["attention"] * 4, "position_embedding_type": "rope", "rope_theta": 10_000_000},
        {"layer_types": ...},  # absent: all Mamba
        {"num_key_value_heads": ..., "tie_word_embeddings": ..., "residual_multiplier": ...},
    ],
)
def test_the_hubs_files(changes: dict[str, Any], tmp_path: Path) -> None:
    check_hub_file(HUB, changes, tmp_path)


def test_both_spellings_are_one_config(tmp_path: Path) -> None:
    reference = hybrid(**ROPE, **EXPERTS)
    save(reference, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    assert raw["layer_types"] == SMALL["layer_types"]
    old = {"layer_types": None, "layers_block_type": ["mamba", "attention", "mamba", "mamba"]}
    ids = random_ids(2, 50)
    for changes in ({}, {**old_spelling(raw), **old}, {"time_step_limit": None}):
        save(reference, tmp_path, **changes)
        assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"layer_types": ["mamba", "conv", "mamba", "mamba"]},
            r"layer_types\[1\] = 'conv' is not known here",
        ),
        ({"layer_types": [[], {}, 1, None]}, r"layer_types\[0\] = \[\], but it must be str"),
        ({"layer_types": [M, A]}, "layer_types names 2 layers, but num_hidden_layers = 4"),
        ({"layer_types": "mamba"}, "layer_types = 'mamba', but it must be list or null"),
        ({"num_attention_heads": 5}, "hidden_size = 48 cannot be divided among num_attention_heads = 5"),
        ({"num_key_value_heads": 4}, "num_attention_heads = 6 cannot be divided among .*heads = 4"),
        ({"position_embedding_type": "alibi"}, "position_embedding_type = 'alibi' is not known here"),
        ({"mamba_n_heads": 5}, "mamba_n_heads = 5 heads of mamba_d_head = auto do not make mamba_expand = 2"),
        ({"mamba_d_head": 8}, "mamba_n_heads = 6 heads of mamba_d_head = 8 do not make mamba_expand = 2"),
        ({"mamba_d_head": "wide"}, "mamba_d_head = 'wide', but it must be a whole number or 'auto'"),
        ({"mamba_n_groups": 4}, "mamba_n_heads = 6 cannot be divided among mamba_n_groups = 4"),
        ({"mamba_n_groups": 0}, "U = 0"),
        ({"mamba_d_conv": 0}, "W = 0"),
        ({"time_step_limit": [0.1]}, r"time_step_limit = \[0.1\], but it must be two numbers"),
        ({"time_step_limit": [0.5, 0.1]}, r"time_step_limit = \[0.5, 0.1\], but it must be two numbers"),
        ({"time_step_limit": ["0", 1]}, "time_step_limit"),
        ({"time_step_limit": None}, "time_step_limit = None"),
        ({"num_experts_per_tok": 6, "num_local_experts": 5}, "tok = 6 of num_local_experts = 5"),
        ({"num_local_experts": 5}, "num_experts_per_tok = 0 of num_local_experts = 5"),
        ({"num_local_experts": -1}, "E = -1"),
        ({"hidden_act": "swoosh"}, "hidden_act = 'swoosh' is not known here"),
        ({"logits_scaling": 0}, "logits_scaling = 0"),
        ({"normalization_function": "layernorm"}, "normalization_function = 'layernorm' is not implemented"),
        ({**ROPE, "rope_parameters": {"rope_type": "spiral"}}, "rope_type = 'spiral'"),
        ({**ROPE, "head_dim": 3}, "head_dim = 3"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    raw = {"model_type": "granitemoehybrid", **SMALL, **changes}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


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
