"""Llama 4's text models against transformers: chunks, layers without positions, temperature, experts."""

import json
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

from tinystar_np.errors import ConfigError
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
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}

# What is asked for, which layers then turn, which are in chunks, and which have experts.
VARIANTS: dict[str, tuple[dict[str, Any], list[int], list[int], list[int]]] = {
    "by_default": (
        {"num_hidden_layers": 5, "no_rope_layer_interval": 4, "moe_layers": None},
        [0, 1, 2, 4],
        [0, 1, 2, 4],
        [0, 1, 2, 3, 4],
    ),
    "maverick": (
        {"interleave_moe_layer_step": 2, "moe_layers": None, "use_qk_norm": False, "num_key_value_heads": 6},
        [0, 1],
        [0, 1],
        [1],
    ),
    "scout": ({"rope_parameters": SCOUT, "num_key_value_heads": 1}, [0, 1], [0, 1], [1]),
    "every_second_turns": ({"no_rope_layer_interval": 2, "rope_parameters": LLAMA3}, [0, 2], [0, 2], [1]),
    "listed": ({"no_rope_layers": [0, 0, 1], "attn_temperature_tuning": False}, [2], [2], [1]),
    "all_turn": ({"no_rope_layers": [1, 1, 1], "rms_norm_eps": 0.3}, [0, 1, 2], [0, 1, 2], [1]),
    "none_turns": ({"no_rope_layer_interval": 1, "floor_scale": 1}, [], [], [1]),
    "turned_and_full": ({"layer_types": [FULL, CHUNKED, FULL], "attention_bias": True}, [0, 1], [1], [1]),
    "tempered_in_chunks": ({"layer_types": [FULL, FULL, CHUNKED]}, [0, 1], [2], [1]),
    "no_experts": ({"moe_layers": [], "tie_word_embeddings": True}, [0, 1], [0, 1], []),
    "two_of_the_experts": ({"moe_layers": [0, 2], "num_experts_per_tok": 2}, [0, 1], [0, 1], [0, 2]),
    "every_expert": ({"num_experts_per_tok": 5, "hidden_act": "gelu"}, [0, 1], [0, 1], [1]),
    "base": ({"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}, [0, 1], [0, 1], [1]),
    "yarn": ({"rope_parameters": YARN, "rms_norm_eps": 0.1}, [0, 1], [0, 1], [1]),
    "yarn_without_norms": ({"rope_parameters": YARN, "use_qk_norm": False}, [0, 1], [0, 1], [1]),
}
CUTS = ([C - 1, T - C + 1], [C, T - C], [C + 1, T - C - 1], [1, 2 * C - 3, 1, 1, 1, T - 2 * C - 1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    changes, turned, chunked, with_experts = VARIANTS[variant]
    reference = reference_model("llama4_text", **{**SMALL, **changes})
    model = check(reference, save(reference, tmp_path), length=T, cuts=CUTS)
    layers = [block.attention for block in model.blocks]
    assert [i for i, layer in enumerate(layers) if layer.rope is not None] == turned
    assert [i for i, layer in enumerate(layers) if layer.chunk == C] == chunked
    assert model.config.expert_layers == with_experts
    assert model.trained_length == 256


@pytest.mark.parametrize("chunk", [1, 2, 69, 70, 1000])
def test_chunk(chunk: int, tmp_path: Path) -> None:
    changes = {"num_hidden_layers": 2, "no_rope_layers": [1, 0], "moe_layers": []}
    reference = reference_model("llama4_text", **{**SMALL, **changes, "attention_chunk_size": chunk})
    c = min(chunk, 69)
    cuts = [[c, 70 - c], [max(c - 1, 1), 70 - max(c - 1, 1)], [20, 1, 1, 1, 40, 7]]
    # transformers' own cache keeps everything where it should keep the last 0 keys, [-0:]: no ids for C = 1.
    check(reference, save(reference, tmp_path), length=70, cuts=cuts, greedy=chunk != 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_chunk_size": 1000},
        {"use_qk_norm": False},
        {"attn_temperature_tuning": False},
        {"floor_scale": 5},
        {"attn_scale": 0.5},
        {"no_rope_layers": [1, 0, 1]},
        {"layer_types": [FULL, CHUNKED, FULL]},
        {"rope_parameters": SCOUT},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_the_keys_do_is_felt(changes: dict[str, Any], tmp_path: Path) -> None:
    """The models of these tests are such that each of them matters."""
    reference = reference_model("llama4_text", **SMALL)
    ids = random_ids(1, T)
    expected = load(save(reference, tmp_path))[0](ids)
    edit_config(tmp_path, **changes, **({} if "layer_types" in changes else {"layer_types": None}))
    if "attn_temperature_tuning" in changes:  # no key at all would mean true
        raw = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(raw | changes))
    assert np.abs(load(tmp_path)[0](ids) - expected).max() > 0.005 * np.abs(expected).max()


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


def test_where_the_file_says_nothing(tmp_path: Path) -> None:
    """Defaults are those of transformers' class."""
    reference = reference_model("llama4_text", hidden_size=32, num_hidden_layers=4, vocab_size=50, head_dim=8,
                                num_attention_heads=4, num_key_value_heads=2, intermediate_size=12,
                                num_local_experts=2)  # fmt: skip
    names = ("layer_types", "no_rope_layers", "moe_layers", "rope_parameters", "use_qk_norm", "floor_scale",
             "attn_temperature_tuning", "attn_scale", "attention_chunk_size", "attention_bias", "hidden_act",
             "interleave_moe_layer_step", "no_rope_layer_interval", "num_experts_per_tok", "rms_norm_eps",
             "intermediate_size_mlp", "tie_word_embeddings", "max_position_embeddings")  # fmt: skip
    save(reference, tmp_path, **dict.fromkeys(names))
    model, _ = load(tmp_path)
    for name in names[3:]:
        assert name == "rope_parameters" or getattr(model.config, name) == getattr(reference.config, name)
    assert model.config.windows == (8192, 8192, 8192, None)
    ids = random_ids(2, T, vocabulary=50)
    assert_close(model(ids), logits_of(reference, ids))


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
        f"{heads}, queries × 1 + 0.1 · ln(1 + ⌊place / 8192⌋)": far,
    }
    assert [where for _, where in description.kinds("positions")] == [near, far]
    own, *others = state_sizes(scout)
    assert own.growth[8192] == 3 * own.at(1) // 4
    assert others[-1].name == "without chunk"
    assert others[-1].at(100_000) == 100_000 * own.at(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"attention_chunk_size": None},
            r"layer_types\[0\] = 'chunked_attention', but no attention_chunk_size is in use",
        ),
        ({"attention_chunk_size": 0}, "attention_chunk_size = 0, but a token sees at least itself"),
        ({"layer_types": ["sliding_attention"] * 3}, r"layer_types\[0\] = 'sliding_attention' is not known"),
        ({"layer_types": [FULL]}, "layer_types names 1 layers, but num_hidden_layers = 3"),
        ({"no_rope_layers": [1, 0]}, r"no_rope_layers = \[1, 0\], but it must be 0 or 1 for each of .* = 3"),
        ({"no_rope_layers": False}, "no_rope_layers = False, but it must be"),
        ({"no_rope_layer_interval": 0}, "no_rope_layer_interval = 0 must be at least 1"),
        (
            {"interleave_moe_layer_step": 0, "moe_layers": None},
            "interleave_moe_layer_step = 0 must be at least 1",
        ),
        ({"moe_layers": [0.5]}, r"moe_layers\[0\] = 0.5, but it must be int"),
        ({"num_experts_per_tok": 6}, "num_experts_per_tok = 6 of num_local_experts = 5 cannot be chosen"),
        ({"floor_scale": 0}, "floor_scale = 0 must be at least 1"),
        ({"attn_temperature_tuning": "on"}, "attn_temperature_tuning = 'on', but it must be bool or int"),
        ({"hidden_act": "swoosh"}, "hidden_act = 'swoosh' is not known here"),
        ({"rope_parameters": {**LLAMA3, "low_freq_factor": 5.0}}, "must be at least low_freq_factor = 5.0"),
        ({"model_type": "llama4"}, "text_config = None, but in llama4 it must be an object"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama4_text", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
