"""Each key of transformers' config classes: read, and read right; or refused by name; or without mathematics.

The walk itself is in switches.py, the small models in parity_rows/, other values in switch_values.py.
What it finds must be what tests/switches.json says; where it is not, and the walk is right:

    python tests/switches.py > tests/switches.json
    python docs/tools/config_keys.py
"""

import copy
import json
from typing import Any

import pytest
import torch
import transformers
from parity_cases import OTHERS_OF
from switch_values import INERT, SPELLINGS
from switches import (
    CONFIG_MAPPING,
    FILE,
    TYPES,
    check_without_mathematics,
    is_inert,
    keys_of,
    other_names,
    our_keys,
    small,
    walk,
    walked_keys,
)
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tinystar_np.errors import ConfigError
from tinystar_np.models import model_class
from tinystar_np.models.rope_parameters import RopeParameters

pytestmark = pytest.mark.usefixtures("one_blas_thread")

RECORDED: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
KEYS = [(model_type, key) for model_type in TYPES for key in walked_keys(model_type)]


def of_key(recorded: dict[str, Any], key: str) -> dict[str, Any]:
    """What the file says about a key or its parts."""
    return {part: found for part, found in recorded.items() if part == key or part.startswith(f"{key}.")}


@pytest.mark.parametrize(("model_type", "key"), KEYS, ids=[f"{name}-{key}" for name, key in KEYS])
def test_a_key_is_read_right_or_refused(model_type: str, key: str) -> None:
    found = walk(model_type, key)
    recorded = RECORDED.get(model_type, {})
    for kind in ("compared", "refused"):
        assert of_key(recorded.get(kind, {}), key) == found[kind], "the file is old: see above"


@pytest.mark.parametrize("model_type", TYPES)
def test_keys_without_mathematics(model_type: str) -> None:
    """All changed at once, they change nothing."""
    assert check_without_mathematics(model_type) == RECORDED[model_type]["without_mathematics"]


OTHER_DEFAULTS = {
    "deepseek_v2.num_experts_per_tok",  # null in transformers, which then breaks off
    "qwen2_moe.sliding_window",  # in use only where the switch is on; then it must be given
}


@pytest.mark.parametrize("model_type", TYPES)
def test_defaults_are_those_of_transformers(model_type: str) -> None:
    """Those of the class, or what it makes of them."""
    ours, theirs = model_class(model_type).Config.from_dict({}), keys_of(model_type)
    made = CONFIG_MAPPING[model_type]().to_dict()
    for key in ours.keys() & theirs.keys():
        default = getattr(ours, key)
        same = default == theirs[key] or default == made[key]
        assert same or f"{model_type}.{key}" in OTHER_DEFAULTS, key


@pytest.mark.parametrize("model_type", TYPES)
def test_old_and_new_names_say_the_same(model_type: str) -> None:
    config_class = model_class(model_type).Config
    raw = small(model_type)
    known = other_names(config_class)
    for alias, name in (CONFIG_MAPPING[model_type].attribute_map | known).items():
        meant = known.get(name, name)
        given = [key for key in raw if key in (name, meant) or known.get(key) == meant]
        for key in given:
            renamed = {alias if old == key else old: value for old, value in raw.items()}
            assert config_class.from_dict(renamed) == config_class.from_dict(raw), (alias, key)


RULES: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 1024},
    # Of these two numbers, one does nothing alone.
    "yarn, sharpened": {"factor": 4.0, "original_max_position_embeddings": 1024, "mscale": 1.0}
    | {"mscale_all_dim": 0.7},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    | {"original_max_position_embeddings": 1024},
    "longrope": {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 3.0, 4.0]}
    | {"original_max_position_embeddings": 1024},
}
YARN = ("attention_factor", "beta_fast", "beta_slow", "truncate")
OTHER_NUMBERS: dict[str, Any] = {
    "rope_theta": 500.0,
    "rope_type": "linear",
    "partial_rotary_factor": 0.5,
    "factor": 3.0,
    "original_max_position_embeddings": 512,
    "attention_factor": 1.7,
    "beta_fast": 8.0,
    "beta_slow": 7.0,
    "short_factor": [1.0, 1.3, 1.2, 1.1],
    "long_factor": [1.0, 2.5, 3.5, 4.5],
    "low_freq_factor": 2.0,
    "high_freq_factor": 3.0,
    "mscale": 0.8,
    "mscale_all_dim": 0.4,
    "truncate": False,
    "mrope_section": [2, 1, 1],
}


def rotations(rule: str, numbers: dict[str, Any]) -> tuple[list[float], ...]:
    """transformers' frequencies for a short text and a long one, and its attention factor."""
    parameters = {"rope_theta": 10000.0, "rope_type": rule.partition(",")[0], **copy.deepcopy(numbers)}
    config = LlamaConfig(
        hidden_size=16, num_attention_heads=2, max_position_embeddings=4096, rope_parameters=parameters
    )
    theirs, found = LlamaRotaryEmbedding(config), []
    for length in (1, 10000):
        theirs.forward(torch.zeros(1), torch.tensor([[length - 1]]))
        found.append(theirs.inv_freq.tolist())
    return (*found, [theirs.attention_scaling])


def our_rotations(rule: str, numbers: dict[str, Any]) -> tuple[list[float], ...]:
    """Ours."""
    parameters = {"rope_theta": 10000.0, "rope_type": rule.partition(",")[0], **numbers}
    ours = RopeParameters.read({"rope_parameters": parameters, "max_position_embeddings": 4096}, head_dim=8)
    frequencies = ours.frequencies()
    found = [frequencies(n) if callable(frequencies) else frequencies for n in (1, 10000)]
    return (*(f.tolist() for f in found), [ours.attention_factor])


@pytest.mark.parametrize("key", sorted(transformers.modeling_rope_utils.RopeParameters.__annotations__))
@pytest.mark.parametrize("rule", RULES)
def test_a_key_of_rotations_is_read_right_or_refused(rule: str, key: str) -> None:
    """Read, and read right; or refused by name. Where a rule has no use for a key, it changes nothing."""
    before, after = RULES[rule], {**RULES[rule], key: OTHER_NUMBERS[key]}
    if key == "rope_type" and "factor" not in after:
        after["factor"] = 2.0
    if key == "partial_rotary_factor":
        with pytest.raises(ConfigError, match=key):
            our_rotations(rule, after)
        return
    found, expected = our_rotations(rule, after), rotations(rule, after)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    if key in {*before, "rope_theta", *(YARN if "yarn" in rule else ())}:
        # It counts, so the trial shows something.
        assert expected != rotations(rule, before)


def test_the_file_says_nothing_else() -> None:
    assert sorted(RECORDED) == TYPES
    for model_type, recorded in RECORDED.items():
        known = set(walked_keys(model_type))
        for part in (*recorded["compared"], *recorded["refused"]):
            wholes = [part.rsplit(".", n)[0] for n in range(part.count(".") + 1)]
            assert known & set(wholes), f"{model_type} {part}"


def test_no_entry_of_the_tables_is_left_over() -> None:
    everywhere = {key for model_type in TYPES for key in (*keys_of(model_type), *our_keys(model_type))}
    everywhere |= {f"{model_type}.{key}" for model_type in TYPES for key in keys_of(model_type)}
    assert {key for key in INERT if not any(k == key or k.endswith(f".{key}") for k in everywhere)} == set()
    assert {key for key in SPELLINGS if key not in everywhere} == set()
    assert {key for table in OTHERS_OF.values() for key in table} <= everywhere


def test_the_walk_finds_what_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key that ours does not read, and one that it refuses for no more than its name."""
    config_class = model_class("llama").Config
    read = config_class.from_dict.__func__
    forget = lambda cls, raw: read(cls, {key: raw[key] for key in raw if key != "rms_norm_eps"})  # noqa: E731
    monkeypatch.setattr(config_class, "from_dict", classmethod(forget))
    with pytest.raises(AssertionError, match="of the largest"):
        walk("llama", "rms_norm_eps")
    walk("llama", "attention_bias")


def test_the_walk_finds_what_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that transformers has added."""
    monkeypatch.setattr("switches.keys_of", lambda model_type: {"beam_me_up": 1.0})
    monkeypatch.setattr("switches.our_keys", our_keys.__wrapped__)  # what it says of these is not kept
    with pytest.raises(AssertionError, match="a key 'beam_me_up' of which nothing is known"):
        walk("llama", "beam_me_up")


def test_mathematics_is_not_called_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("switches.INERT", {*INERT, "rms_norm_eps"})
    assert is_inert("llama", "rms_norm_eps")
    with pytest.raises(AssertionError, match="has mathematics"):
        check_without_mathematics("llama")


@pytest.mark.parametrize("model_type", TYPES)
def test_keys_that_its_class_does_not_know_are_ignored(model_type: str) -> None:
    """Files on the hub are full of them: of no class, and of other architectures."""
    config_class, raw = model_class(model_type).Config, small(model_type)
    junk = {"_name_or_path": "/home/somebody/model", "attention_softmax_in_fp32": True, "x": {"y": [1]}}
    assert config_class.from_dict({**raw, **junk}) == config_class.from_dict(raw)
    others = {key for other in TYPES for key in (*keys_of(other), *our_keys(other)) if "." not in key}
    others -= {*keys_of(model_type), *our_keys(model_type), *names_of(model_type)}
    for value in (0, None, "x", [], {}):
        assert config_class.from_dict({**dict.fromkeys(others, value), **raw}) == config_class.from_dict(raw)


def names_of(model_type: str) -> set[str]:
    """All names that keys of an architecture have, transformers' and ours."""
    config_class = model_class(model_type).Config
    ours = {*config_class.keys(), *other_names(config_class), *config_class.REFUSED}
    return {*ours, *CONFIG_MAPPING[model_type].attribute_map}
