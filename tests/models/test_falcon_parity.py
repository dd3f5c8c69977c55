"""Falcon against transformers: each of its models, what lies between them, and both spellings."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import (
    assert_close,
    check,
    edit_config,
    logits_of,
    old_spelling,
    random_ids,
    reference_model,
    save,
)
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.loading import load

SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6, "max_position_embeddings": 64}
RW = {"alibi": True, "bias": True, "multi_query": False, "parallel_attn": False}
GROUPED = {"new_decoder_architecture": True, "num_kv_heads": 2}
OF_11B = {**GROUPED, "num_ln_in_parallel_attn": 1}


def rope(rope_type: str, **numbers: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 10000.0, **numbers}}


VARIANTS: dict[str, dict[str, Any]] = {
    "rw": RW,
    "rw_of_eight_heads": {**RW, "num_attention_heads": 8},
    "rw_of_seven_heads": {**RW, "hidden_size": 56, "num_attention_heads": 7},
    "7b": {},
    "40b": GROUPED,
    "11b": {**OF_11B, **rope("default", rope_theta=500042.0), "tie_word_embeddings": False},
    # What no published model is, but a config can say:
    "multi_query_sequential": {"parallel_attn": False},
    "multi_query_alibi": {"alibi": True},
    "multi_head_parallel": {"multi_query": False},
    "grouped_alibi_biases": {**GROUPED, "alibi": True, "bias": True},
    "grouped_by_ones": {"new_decoder_architecture": True},
    "grouped_multi_query": {**OF_11B, "num_kv_heads": 1, "bias": True},
    "inner_width": {"ffn_hidden_size": 100, "activation": "relu", "layer_norm_epsilon": 0.1},
    "linear": rope("linear", factor=4.0),
    "yarn": {**GROUPED, **rope("yarn", factor=4.0, original_max_position_embeddings=16)},
}


def falcon(**config: Any) -> PreTrainedModel:
    model = reference_model("falcon", **{**SMALL, **config})
    if model.config.alibi:
        # In eager attention transformers adds ALiBi twice: to the scores, and once more in the mask, where
        # its default form expects it. That one is what the checkpoints were trained with.
        model.config._attn_implementation = "sdpa"
    return model


def of_the_hub(raw: dict[str, Any]) -> dict[str, Any]:
    """Changes that turn a config.json of today into one of 2023: old names, and fewer of them."""
    renamed = {"num_attention_heads": "n_head", "num_hidden_layers": "n_layer"}
    if raw["new_decoder_architecture"]:
        renamed["num_kv_heads"] = "n_head_kv"
    changes = old_spelling(raw) | {old: raw[new] for new, old in renamed.items()}
    changes |= dict.fromkeys([*renamed, "num_kv_heads"])
    later = {"ffn_hidden_size": 4 * raw["hidden_size"], "activation": "gelu", "num_ln_in_parallel_attn": 2}
    changes |= {key: None for key, default in later.items() if raw.get(key) == default}
    return changes | {"apply_residual_connection_post_layernorm": False, "ff_factor": 4}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = falcon(**VARIANTS[variant])
    model = check(reference, save(reference, tmp_path))
    assert model.context_length is None
    assert model.trained_length == 64


@pytest.mark.parametrize("variant", VARIANTS)
def test_spelling_of_the_hub(variant: str, tmp_path: Path) -> None:
    reference = falcon(**VARIANTS[variant])
    raw = json.loads((save(reference, tmp_path) / "config.json").read_text())
    edit_config(tmp_path, **of_the_hub(raw))
    model, _ = load(tmp_path)
    ids = random_ids(2, 70)
    assert_close(model(ids), logits_of(reference, ids))


@pytest.mark.parametrize("length", [33, 90])
def test_frequencies_that_depend_on_the_length(length: int, tmp_path: Path) -> None:
    reference = falcon(**rope("dynamic", factor=2.0))
    model, _ = load(save(reference, tmp_path))
    ids = random_ids(2, length)
    assert_close(model(ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("variant", "length"),
    [
        (RW, 700),
        ({**RW, "hidden_size": 64, "num_attention_heads": 16}, 330),
        ({"alibi": True, "hidden_size": 142, "num_attention_heads": 71}, 330),
    ],
)
def test_long_texts_under_alibi(variant: dict[str, Any], length: int, tmp_path: Path) -> None:
    """From position 257 on biases are rounded; long pieces are attended to in blocks."""
    reference = falcon(**variant)
    model, _ = load(save(reference, tmp_path))
    ids = random_ids(2, length)
    expected = logits_of(reference, ids)
    assert_close(model(ids), expected, what="whole")
    cache = model.new_cache(batch_size=2)
    found = [model(ids[:, a:b], cache=cache) for a, b in pairwise([0, 1, 130, 300, 301, length])]
    assert_close(np.concatenate(found, axis=1), expected, what="in pieces")


def test_output_layers_beside_the_embedding(tmp_path: Path) -> None:
    """The hub's files hold both, although they are one."""
    reference = falcon()
    save(reference, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in tensors
    tensors["lm_head.weight"] = tensors["transformer.word_embeddings.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    ids = random_ids(20)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids)[0])


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        ({}, {"num_attention_heads": 5}, "hidden_size = 48 .* num_attention_heads = 5"),
        ({}, {"hidden_size": 42}, "7 numbers of each head turn, which makes no pairs"),
        (GROUPED, {"num_kv_heads": 4}, "num_attention_heads = 6 .* num_kv_heads = 4"),
        (GROUPED, {"num_kv_heads": 0}, "G = 0"),
        (
            GROUPED,
            {"parallel_attn": False},
            "parallel_attn = False, but new_decoder_architecture asks for true",
        ),
        (GROUPED, {"num_ln_in_parallel_attn": 3}, "num_ln_in_parallel_attn = 3, but it must be 1, 2 or null"),
        (
            {},
            {"num_ln_in_parallel_attn": 2},
            "num_ln_in_parallel_attn = 2, .*new_decoder_architecture = False",
        ),
        ({}, {"multi_query": False, "num_kv_heads": 3}, "num_kv_heads = 3, but multi_query = False"),
        ({}, {"activation": "prelu"}, "activation = 'prelu' is not known here. Known: .*gelu"),
        ({}, {"layer_norm_epsilon": 0}, "layer_norm_epsilon = 0.0 must be above 0"),
        ({}, {"alibi": "yes"}, "alibi = 'yes', but it must be bool"),
        ({}, {"rope_parameters": {"rope_type": "spiral"}}, "rope_type = 'spiral' is not known here"),
        (
            {},
            {"apply_residual_connection_post_layernorm": True},
            "apply_residual_connection_post_layernorm = True is not implemented",
        ),
    ],
)
def test_bad_configs(variant: dict[str, Any], changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(falcon(**variant), tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_ln_in_parallel_attn": 1}, "lacks 'h.0.input_layernorm.weight'.* has 'h.0.ln_attn.bias'"),
        ({"bias": True}, "lacks 'h.0.self_attention.query_key_value.bias'"),
        (
            {"num_kv_heads": 3},
            r"query_key_value.weight' has shape \(80, 48\), the config asks for \(96, 48\)",
        ),
        ({"tie_word_embeddings": False}, "lacks 'lm_head.weight'"),
    ],
)
def test_weights_of_another_variant(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(falcon(**GROUPED), tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)
