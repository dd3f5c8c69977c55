"""The rules of rotary positions as configs ask for them: against transformers, and every refusal's words."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma3TextConfig, GPTNeoXConfig, LlamaConfig, Phi3Config
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from tinystar_np.cache import Step
from tinystar_np.errors import ConfigError
from tinystar_np.layers.rope import Rotary
from tinystar_np.models.rope_parameters import RULES, RopeParameters

K, LONGEST = 64, 4096
PAIRS = K // 2
SHORT = [1 + 0.01 * j for j in range(PAIRS)]
LONG = [1 + 0.4 * j for j in range(PAIRS)]
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": SHORT,
    "long_factor": LONG,
    "original_max_position_embeddings": 1024,
}

CASES: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "base": {"rope_type": "default", "rope_theta": 500000.0},
    "linear": {"rope_type": "linear", "factor": 3.3},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "dynamic_base": {"rope_type": "dynamic", "factor": 3.3, "rope_theta": 123456.7},
    "llama3": LLAMA3,
    "llama3_1": LLAMA3 | {"rope_theta": 500000.0, "original_max_position_embeddings": 8192},
    "llama4": LLAMA3 | {"rope_theta": 500000.0, "factor": 16.0, "high_freq_factor": 1.0},
    "llama3_2": LLAMA3 | {"rope_theta": 500000.0, "factor": 32.0, "high_freq_factor": 2.0},
    "yarn": YARN,
    "yarn_ratio": YARN | {"factor": None},
    "yarn_no_length": {"rope_type": "yarn", "factor": 4.0},
    "yarn_betas": YARN | {"beta_fast": 64, "beta_slow": 2},
    "yarn_fractional": YARN | {"truncate": False},
    "yarn_deepseek": YARN | {"factor": 40, "mscale": 1.0, "mscale_all_dim": 0.707},
    "yarn_one_mscale": YARN | {"mscale": 0.5},
    "yarn_attention": YARN | {"attention_factor": 1.7},
    "yarn_other_mscale": YARN | {"mscale_all_dim": 0.5},
    "yarn_zeros": YARN | {"beta_fast": 0, "beta_slow": 0, "truncate": False},
    "yarn_step": YARN | {"beta_fast": 4, "beta_slow": 4, "truncate": False},
    "yarn_short": YARN | {"original_max_position_embeddings": 2},
    "longrope": LONGROPE,
    "longrope_factor": LONGROPE | {"factor": 16.0},
    "longrope_attention": LONGROPE | {"attention_factor": 1.2},
    "longrope_not_longer": LONGROPE | {"original_max_position_embeddings": LONGEST},
    "proportional": {"rope_type": "proportional", "partial_rotary_factor": 0.3, "factor": 2.0},
}
PARTIAL = ("linear", "dynamic", "llama3", "yarn")


def read(parameters: dict[str, Any] | None = None, **keys: Any) -> RopeParameters:
    how = {name: keys.pop(name) for name in ("head_dim", "partial", "kind") if name in keys}
    given = {"rope_parameters": parameters, "max_position_embeddings": LONGEST, **keys}
    return RopeParameters.read(given, **{"head_dim": K, **how})


def llama(parameters: dict[str, Any]) -> LlamaRotaryEmbedding:
    config = LlamaConfig(
        hidden_size=2 * K,
        num_attention_heads=2,
        max_position_embeddings=LONGEST,
        rope_parameters={"rope_theta": 10000.0, **parameters},
    )
    return LlamaRotaryEmbedding(config)


def assert_same_rule(ours: RopeParameters, theirs: Any, length: int = 1, prefix: str = "") -> None:
    """Compare attention factors, exactly, and frequencies, to three units in the last place.

    torch's own power misses the last place now and then, and a rule adds and divides several.
    """
    theirs.forward(torch.zeros(1), torch.tensor([[length - 1]]), *([prefix[:-1]] if prefix else []))
    frequencies = ours.frequencies()
    found = frequencies(length) if callable(frequencies) else frequencies
    expected = getattr(theirs, f"{prefix}inv_freq").numpy()
    assert found.dtype == expected.dtype == np.float32
    assert found.shape == expected.shape
    difference = np.abs(found.view(np.int32) - expected.view(np.int32))
    assert difference.max() <= 3
    assert (difference == 0).mean() > 0.8
    assert ours.attention_factor == getattr(theirs, f"{prefix}attention_scaling")


@pytest.mark.parametrize("length", [1, 1024, 1025, LONGEST - 1, LONGEST, LONGEST + 1, 3 * LONGEST])
@pytest.mark.parametrize("case", CASES)
def test_frequencies_and_attention_factor(case: str, length: int) -> None:
    assert_same_rule(read(CASES[case], partial=True), llama(CASES[case]), length)


@pytest.mark.parametrize("part", [0.25, 0.5, 0.4])
@pytest.mark.parametrize("rule", PARTIAL)
def test_parts_of_heads(rule: str, part: float) -> None:
    if rule == "yarn" and int(K * part) % 2:
        part = 0.375
    parameters = CASES[rule] | {"partial_rotary_factor": part}
    ours = read(parameters, partial=True)
    assert ours.rotary_dim == int(K * part)
    assert_same_rule(ours, llama(parameters), 5000)
    assert read(CASES[rule], partial_rotary_factor=part, partial=True) == ours
    assert read(parameters, partial_rotary_factor=0.9, partial=True) == ours  # the one inside wins


def test_every_rule_of_transformers_is_here_and_tested() -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    assert {*ROPE_INIT_FUNCTIONS, "default"} == set(RULES)
    assert {case["rope_type"] for case in CASES.values()} == set(RULES)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("start", [0, 1000, LONGEST - 3, 99_990])
def test_the_layer_turns_as_transformers_does(case: str, start: int) -> None:
    theirs, ours, step = llama(CASES[case]), read(CASES[case], partial=True), Step(np.array([start]), 30)
    rng = np.random.default_rng(start)
    q, k = rng.standard_normal((2, 1, 2, 30, K), dtype=np.float32)
    tables = theirs(torch.zeros(1), torch.arange(start, step.end)[None])
    expected = apply_rotary_pos_emb(torch.from_numpy(q), torch.from_numpy(k), *tables)
    # Few frequencies differ in the last place; an angle does then by as much times the position.
    frequencies = ours.frequencies()
    frequencies = frequencies(step.end) if callable(frequencies) else frequencies
    angle = step.end * np.abs(frequencies - theirs.inv_freq.numpy()).max()
    assert angle < 0.02
    for x, y in zip((q, k), expected, strict=True):
        found = ours.rotary()(x, step)
        assert found.dtype == np.float32
        assert np.abs(found - y.numpy()).max() <= (1e-6 + angle) * np.abs(x).max() * 1.5


def test_a_row_beyond_the_trained_length_beside_one_within() -> None:
    x = np.random.default_rng(0).standard_normal((2, 2, 3, K), dtype=np.float32)
    rope = read(LONGROPE).rotary()
    found = rope(x, Step(np.array([1022, 7]), 3))
    for b, (start, factors) in enumerate([(1022, "long"), (7, "short")]):
        frequencies = read(LONGROPE | {"short_factor": LONG, "long_factor": LONG}).frequencies()
        if factors == "short":
            frequencies = read(LONGROPE | {"short_factor": SHORT, "long_factor": SHORT}).frequencies()
        alone = Rotary(frequencies, attention_factor=read(LONGROPE).attention_factor)
        expected = alone(x[b : b + 1], Step(np.array([start]), 3))
        np.testing.assert_array_equal(found[b], expected[0])


OLD: dict[str, dict[str, Any]] = {
    "default": {"rope_theta": 500000.0},
    "linear": {"rope_scaling": {"type": "linear", "factor": 2}},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_theta": 5000},
    "llama3": {"rope_theta": 500000.0, "rope_scaling": LLAMA3},
    "yarn": {"rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4.0, "rope_theta": 2e6}},
    "outside": {"original_max_position_embeddings": 512, "rope_scaling": LLAMA3},
    "both": {"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": YARN},
    "both_types": {"rope_scaling": {"type": "dynamic", "rope_type": "linear", "factor": 2.0}},
    "empty": {"rope_scaling": {}, "rope_parameters": {"rope_type": "linear", "factor": 3.0}},
    "nothing": {"rope_scaling": None},
}


@pytest.mark.parametrize("case", OLD)
def test_spellings_of_older_files(case: str) -> None:
    keys = {"max_position_embeddings": LONGEST, **OLD[case]}
    theirs = LlamaRotaryEmbedding(
        LlamaConfig(hidden_size=2 * K, num_attention_heads=2, **{k: _copy(v) for k, v in keys.items()})
    )
    assert_same_rule(RopeParameters.read(keys, head_dim=K), theirs, 5000)


def _copy(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value  # transformers writes into what it is given


def test_both_spellings_are_one_thing() -> None:
    inside = {"rope_theta": 500000.0, **LLAMA3}
    assert read(inside) == read(rope_theta=500000.0, rope_scaling=LLAMA3)
    old = {("type" if key == "rope_type" else key): value for key, value in LLAMA3.items()}
    assert read(inside) == read(rope_theta=500000.0, rope_scaling=old)
    assert read() == read(rope_theta=10000) == read({"rope_type": "default"}, rope_theta=10000.0)
    assert read({"rope_theta": 5.0}, rope_theta=9.0).rope_theta == 5


@pytest.mark.parametrize("length", [10, 1025])
def test_phi3_keeps_the_trained_length_outside(length: int) -> None:
    scaling = {"type": "longrope", "short_factor": SHORT[:24], "long_factor": LONG[:24]}
    keys = {
        "max_position_embeddings": LONGEST,
        "original_max_position_embeddings": 1024,
        "rope_scaling": scaling,
        "partial_rotary_factor": 0.75,
    }
    config = Phi3Config(hidden_size=2 * K, num_attention_heads=2, **{k: _copy(v) for k, v in keys.items()})
    ours = RopeParameters.read(keys, head_dim=K, partial=True)
    assert ours.rotary_dim == 48
    assert_same_rule(ours, Phi3RotaryEmbedding(config), length)
    old = keys | {"rope_scaling": scaling | {"type": "su"}}  # its first files
    assert RopeParameters.read(old, head_dim=K, partial=True) == ours


def test_an_odd_part_is_rounded_up_to_a_pair() -> None:
    config = GPTNeoXConfig(hidden_size=24, num_attention_heads=2, rotary_pct=0.25)  # 3 of 12
    ours = read(partial_rotary_factor=0.25, head_dim=12, partial=True)
    assert_same_rule(ours, GPTNeoXRotaryEmbedding(config))
    assert len(ours.frequencies()) == 2


def test_kinds_of_layers() -> None:
    """Gemma 3 as transformers 5 writes it, and what a recipe does with its older files."""
    per_kind = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    }
    config = Gemma3TextConfig(
        hidden_size=2 * K, num_attention_heads=2, head_dim=K, rope_parameters=_nested_copy(per_kind)
    )
    theirs = Gemma3RotaryEmbedding(config)
    for kind in per_kind:
        assert_same_rule(read(per_kind, kind=kind), theirs, prefix=f"{kind}_")
    assert read(per_kind, kind="sliding_attention") == read(rope_theta=10000.0)
    assert read(LLAMA3, kind="full_attention") == read(LLAMA3)  # one dictionary for all kinds
    nested = read({"full_attention": LLAMA3}, kind="full_attention", original_max_position_embeddings=77)
    assert nested == read(LLAMA3)
    assert read({**per_kind, "sliding_attention": None}, kind="sliding_attention", rope_theta=7.0) == read(
        {"rope_theta": 7.0}
    )
    assert read(per_kind, kind="chunked_attention", rope_theta=7.0) == read({"rope_theta": 7.0})


def _nested_copy(value: dict[str, Any]) -> dict[str, Any]:
    return {key: dict(inner) for key, inner in value.items()}


def test_layers_of_equal_parameters_share_one_rotary() -> None:
    assert read(LONGROPE).rotary() is read(dict(LONGROPE)).rotary()
    assert read(LONGROPE).rotary() is not read(LONGROPE).rotary(interleaved=True)
    assert read(LONGROPE).rotary(interleaved=True).interleaved
    assert read(YARN).rotary() is not read(YARN | {"factor": 2.0}).rotary()
    assert read(YARN).rotary().attention_factor == read(YARN).attention_factor > 1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": (
        {"rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]}},
        "rope_scaling.type = 'mrope' is not known here. "
        "Known: default, dynamic, linear, llama3, longrope, proportional, su, yarn.",
    ),
    "unknown_new": (
        {"rope_parameters": {"rope_type": "axial"}},
        "rope_parameters.rope_type = 'axial' is not",
    ),
    "rule_no_word": ({"rope_scaling": {"rope_type": 3, "factor": 2.0}}, "rope_scaling.rope_type = 3 is not"),
    "rule_a_list": ({"rope_scaling": {"rope_type": ["yarn"]}}, "rope_scaling.rope_type = ['yarn'] is not"),
    "no_rule": ({"rope_scaling": {"factor": 2.0}}, "rope_scaling has factor = 2.0, but no rope_type."),
    "no_object": ({"rope_scaling": 8.0}, "rope_scaling = 8.0, but it must be an object or null."),
    "list": ({"rope_parameters": []}, "rope_parameters = [], but it must be an object or null."),
    "base": ({"rope_theta": 0.0}, "rope_theta = 0.0, but it must be a number above 0."),
    "base_inside": (
        {"rope_parameters": {"rope_theta": "10000"}},
        "rope_parameters.rope_theta = '10000', but it must be a number above 0.",
    ),
    "base_infinite": ({"rope_theta": float("inf")}, "rope_theta = inf, but it must be a number above 0."),
    "base_huge": ({"rope_theta": 10**400}, "rope_theta = 1000"),
    "base_nan": ({"rope_theta": float("nan")}, "rope_theta = nan, but"),
    "no_factor": (
        {"rope_scaling": {"type": "linear"}},
        "rope_scaling.factor is missing; it must be a number, at least 1.",
    ),
    "small_factor": (
        {"rope_scaling": {"type": "dynamic", "factor": 0.5}},
        "rope_scaling.factor = 0.5, but it must be a number, at least 1.",
    ),
    "true_factor": (
        {"rope_scaling": {"type": "linear", "factor": True}},
        "rope_scaling.factor = True, but it must be a number, at least 1.",
    ),
    "yarn_factor": (
        {"rope_parameters": YARN | {"factor": 0}},
        "rope_parameters.factor = 0, but it must be a number, at least 1.",
    ),
    "part": (
        {"partial_rotary_factor": 1.5, "partial": True},
        "partial_rotary_factor = 1.5, but it must be a number above 0, at most 1.",
    ),
    "part_inside": (
        {"rope_parameters": {"partial_rotary_factor": 0}, "partial": True},
        "rope_parameters.partial_rotary_factor = 0, but it must be a number above 0, at most 1.",
    ),
    "whole_heads": (
        {"partial_rotary_factor": 0.5},
        "partial_rotary_factor = 0.5, but this architecture rotates whole heads.",
    ),
    "tiny_part": (
        {"partial_rotary_factor": 0.01, "partial": True},
        "head_dim = 64 and partial_rotary_factor = 0.01 rotate 0 numbers of each head, "
        "which makes no pairs within the head.",
    ),
    "odd_head": ({"head_dim": 5}, "head_dim = 5 and partial_rotary_factor = 1.0 let 5 numbers"),
    "odd_yarn": (
        {"rope_parameters": YARN, "partial_rotary_factor": 0.4, "partial": True},
        "rotate 25 numbers of each head; yarn needs an even number.",
    ),
    "narrow_dynamic": (
        {"rope_parameters": CASES["dynamic"], "head_dim": 2},
        "rotate 2 numbers of each head; dynamic needs more than 2.",
    ),
    "no_length": (
        {"rope_parameters": CASES["dynamic"], "max_position_embeddings": None},
        "max_position_embeddings = None, but it must be a whole number of tokens, at least 1.",
    ),
    "bad_length": (
        {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 0}},
        "rope_parameters.original_max_position_embeddings = 0, but it must be a whole number of tokens",
    ),
    "bad_length_outside": (
        {"rope_parameters": LLAMA3, "original_max_position_embeddings": 8192.5},
        "original_max_position_embeddings = 8192.5, but it must be a whole number of tokens, at least 1.",
    ),
    "no_low": (
        {"rope_scaling": {key: value for key, value in LLAMA3.items() if key != "low_freq_factor"}},
        "rope_scaling.low_freq_factor is missing; it must be a number above 0.",
    ),
    "low_above_high": (
        {"rope_scaling": LLAMA3 | {"low_freq_factor": 5}},
        "rope_scaling.high_freq_factor = 4.0, but it must be at least low_freq_factor = 5.0.",
    ),
    "betas": (
        {"rope_scaling": YARN | {"beta_slow": 33}},
        "rope_scaling.beta_fast = 32.0, but it must be at least beta_slow = 33.0.",
    ),
    "yarn_base": (
        {"rope_scaling": YARN, "rope_theta": 1},
        "rope_theta = 1.0, but yarn needs a base above 1.",
    ),
    "truncate": (
        {"rope_scaling": YARN | {"truncate": "no"}},
        "rope_scaling.truncate = 'no', but it must be true or false.",
    ),
    "mscale": (
        {"rope_scaling": YARN | {"mscale": -1}},
        "rope_scaling.mscale = -1, but it must be a number, at least 0.",
    ),
    "attention_factor": (
        {"rope_scaling": YARN | {"attention_factor": 0}},
        "rope_scaling.attention_factor = 0, but it must be a number above 0.",
    ),
    "short_list": (
        {"rope_scaling": LONGROPE | {"short_factor": [1.0, 2.0]}},
        "rope_scaling.short_factor = [1.0, 2.0], but it must be a list of 32 numbers above 0, "
        "one for each pair.",
    ),
    "long_list": (
        {"rope_scaling": LONGROPE | {"long_factor": [2] * 33}},
        "rope_scaling.long_factor = [2, 2, 2, …] (33 entries), but it must be a list of 32 numbers above 0",
    ),
    "no_list": (
        {"rope_scaling": {"type": "longrope", "short_factor": SHORT}},
        "rope_scaling.long_factor = None, but it must be a list of 32 numbers",
    ),
    "zero_in_list": (
        {"rope_scaling": LONGROPE | {"long_factor": [0, *LONG[1:]]}},
        "rope_scaling.long_factor = [0, 1.4, 1.8, …] (32 entries), but",
    ),
    "one_token": (
        {"rope_scaling": LONGROPE, "original_max_position_embeddings": 1},
        "original_max_position_embeddings = 1, but longrope needs more than 1 token.",
    ),
    "elsewhere": (
        {"rope_scaling": {"type": "dynamic", "factor": 1.0, "alpha": 1000.0}},
        "rope_scaling.alpha = 1000.0 is not implemented for this architecture.",
    ),
    "kinds": (
        {"rope_parameters": {"full_attention": {}, "sliding_attention": {}}},
        "rope_parameters is given for each kind of layer (full_attention, sliding_attention), "
        "but the layers of this architecture are of one kind.",
    ),
    "one_kind": (
        {"rope_parameters": {"full_attention": {"factor": 2.0, "rope_type": "x"}}, "kind": "full_attention"},
        "rope_parameters.full_attention.rope_type = 'x' is not known here.",
    ),
    "kind_no_object": (
        {"rope_parameters": {"full_attention": 1, "sliding_attention": {}}, "kind": "full_attention"},
        "rope_parameters.full_attention = 1, but it must be an object or null.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    keys, words = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        read(**keys)
    assert str(caught.value).startswith("config.json: ")
    assert words in str(caught.value)


PHRASES: dict[str, tuple[dict[str, Any], str]] = {
    "plain": ({}, "RoPE, base 10000"),
    "llama3": (
        {"parameters": LLAMA3 | {"rope_theta": 500000.0}},
        "RoPE, base 500000, llama3 scaling ×8 from 1024",
    ),
    "part": ({"partial_rotary_factor": 0.25, "partial": True}, "RoPE on 16 of 64 numbers, base 10000"),
    "linear": ({"parameters": CASES["linear"]}, "RoPE, base 10000, linear scaling ×3.3"),
    "dynamic": (
        {"parameters": CASES["dynamic"]},
        "RoPE, base 10000, dynamic NTK scaling ×2 beyond 4096, where each token reads the text again",
    ),
    "yarn": ({"parameters": CASES["yarn_ratio"]}, "RoPE, base 10000, yarn scaling ×4 from 1024"),
    "longrope": ({"parameters": LONGROPE}, "RoPE, base 10000, longrope scaling ×4 from 1024"),
    "proportional": (
        {"parameters": {"rope_type": "proportional", "partial_rotary_factor": 0.25}},
        "RoPE, base 10000, rotating 25% of the pairs",
    ),
}


@pytest.mark.parametrize("case", PHRASES)
def test_phrases(case: str) -> None:
    keys, phrase = PHRASES[case]
    assert str(read(**keys)) == phrase
