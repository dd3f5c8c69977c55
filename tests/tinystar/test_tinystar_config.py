"""The choices of TinyStar: read from files of three kinds, completed, and refused where they contradict."""

import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load
from tinystar_np.models.tinystar_config import NAMED, TinyStarConfig, configuration_names

YAML = """
# Every type of value that there is.
vocab_size: 300
tokens: tokenizer
hidden_size: 96
num_heads: 12
num_kv_heads: auto      # a fourth of the heads
attention: gqa
attention_bias: true
mask: sliding_window
window_size: 128
rope_base: 5e5
expansion: 2
norm_eps: 1e-6
init_std: .5e-2
tie_word_embeddings: false
"""
TOML = """
vocab_size = 300
tokens = "tokenizer"
hidden_size = 96
num_heads = 12
num_kv_heads = "auto"
attention = "gqa"
attention_bias = true
mask = "sliding_window"
window_size = 128
rope_base = 5e5
expansion = 2
norm_eps = 1e-6
init_std = 0.5e-2
tie_word_embeddings = false
"""
JSON = """
{"vocab_size": 300, "tokens": "tokenizer", "hidden_size": 96, "num_heads": 12, "num_kv_heads": "auto",
 "attention": "gqa", "attention_bias": true, "mask": "sliding_window", "window_size": 128, "rope_base": 5e5,
 "expansion": 2, "norm_eps": 1e-6, "init_std": 0.5e-2, "tie_word_embeddings": false}
"""
WRITTEN = TinyStarConfig(
    vocab_size=300,
    tokens="tokenizer",
    hidden_size=96,
    num_heads=12,
    attention="gqa",
    attention_bias=True,
    mask="sliding_window",
    window_size=128,
    rope_base=500000.0,
    expansion=2.0,
    norm_eps=1e-6,
    init_std=0.005,
    tie_word_embeddings=False,
)


@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", YAML), ("a.yml", YAML), ("a.toml", TOML), ("a.json", JSON)]
)
def test_the_same_from_every_kind_of_file(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    config = TinyStarConfig.from_file(path)
    assert config == WRITTEN
    types = {field.name: type(getattr(config, field.name)) for field in fields(config)}
    assert types == {field.name: type(getattr(WRITTEN, field.name)) for field in fields(WRITTEN)}


def test_there_and_back() -> None:
    for config in [WRITTEN, *map(TinyStarConfig.named, configuration_names())]:
        assert TinyStarConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("given", "letter", "size"),
    [
        ({"attention": "mha"}, "G", 8),
        ({"attention": "gqa"}, "G", 2),
        ({"attention": "gqa", "num_kv_heads": 4}, "G", 4),
        ({"attention": "mqa"}, "G", 1),
        ({"attention": "complex"}, "G", 8),
        ({"attention": "complex", "num_kv_heads": 2}, "G", 2),
        ({"attention": "mla"}, "G", 8),
        ({}, "K", 32),
        ({"head_dim": 12}, "K", 12),
        ({"attention": "mla"}, "R", 64),
        ({"attention": "mla", "latent_rank": 10}, "R", 10),
        ({"attention": "mla"}, "J", 16),
        ({"attention": "mla", "rope_dim": 4}, "J", 4),
        ({"feed_forward": "swiglu"}, "F", 688),  # 8/3 of 256 is 682.7
        ({"feed_forward": "geglu", "expansion": 8 / 3}, "F", 683),
        ({"feed_forward": "mlp"}, "F", 1024),
        ({"feed_forward": "mlp", "expansion": 1.5}, "F", 384),
    ],
)
def test_auto(given: dict[str, Any], letter: str, size: int) -> None:
    assert TinyStarConfig(**given).sizes[letter] == size
    left = {"num_kv_heads", "head_dim", "latent_rank", "rope_dim", "expansion", "activation", "window_size"}
    said = dict.fromkeys(left, "auto") | given
    assert TinyStarConfig.from_dict(said) == TinyStarConfig(**given)


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"hidden_size": 100}, "hidden_size = 100 cannot be divided among num_heads = 8"),
    ({"num_heads": 6, "hidden_size": 96}, "num_kv_heads is auto, a fourth of num_heads = 6"),
    ({"num_kv_heads": 3}, "num_heads = 8 cannot be divided among num_kv_heads = 3"),
    ({"num_kv_heads": 16}, "num_heads = 8 cannot be divided among num_kv_heads = 16"),
    ({"attention": "mha", "num_kv_heads": 4}, "num_kv_heads = 4, but attention = 'mha' has 8"),
    ({"attention": "mqa", "num_kv_heads": 2}, "num_kv_heads = 2, but attention = 'mqa' has 1"),
    ({"attention": "mla", "num_kv_heads": 2}, "num_kv_heads = 2, but attention = 'mla' has 8"),
    ({"mask": "sliding_window"}, "window_size is missing for mask = 'sliding_window'"),
    ({"window_size": 4}, "window_size = 4, but mask = 'causal' has no window"),
    ({"mask": "bidirectional", "window_size": 4}, "window_size = 4, but mask = 'bidirectional'"),
    ({"mask": "sliding_window", "window_size": 0}, "window_size = 0, but it must be at least 1"),
    ({"activation": "relu"}, "activation = 'relu', but feed_forward = 'swiglu' brings its own"),
    ({"attention": "mla", "positions": "relative"}, "positions = 'relative' .* attention = 'mla'"),
    ({"latent_rank": 8}, "latent_rank = 8, but attention = 'gqa' has none"),
    ({"rope_dim": 8}, "rope_dim = 8, but attention = 'gqa' has none"),
    ({"head_dim": 7}, "positions = 'rope' rotate pairs, but head_dim = 7"),
    ({"attention": "mla", "rope_dim": 3}, "positions = 'rope' rotate pairs, but rope_dim = 3"),
    ({"vocab_size": 300}, "vocab_size = 300, but tokens = 'bytes' are 256"),
    ({"expansion": 0.001}, "expansion = 0.001 leaves nothing of hidden_size = 256"),
    *(({key: "other"}, f"{key} = 'other', but it must be one of ") for key in (
        "attention", "mask", "positions", "feed_forward", "activation", "norm", "norm_placement", "tokens",
    )),
    *(({key: 0}, f"{key} = 0, but it must be at least 1") for key in (
        "vocab_size", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "latent_rank",
        "rope_dim", "max_positions",
    )),
    *(({key: -0.5}, f"{key} = -0.5, but it must be above 0") for key in (
        "rope_base", "rope_scaling", "expansion", "norm_eps", "init_std",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message"), CONTRADICTIONS)
def test_contradictions_are_refused_by_name(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        TinyStarConfig(**given)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "tinystar", **given}))
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}: {message}"):
        TinyStarConfig.from_file(path)
    with pytest.raises(ConfigError, match=f"^config.json: {message}"):
        load(tmp_path)  # before any weight is read: there is none


def test_what_only_looks_like_a_contradiction() -> None:
    TinyStarConfig(attention="complex", head_dim=7)  # each number of a complex head turns by itself
    TinyStarConfig(head_dim=7, positions="alibi")
    TinyStarConfig(hidden_size=100, head_dim=8)
    TinyStarConfig(hidden_size=8, num_heads=8, attention="mha", positions="none")  # heads of 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heads": 8}, "there is no key heads. Keys: vocab_size, tokens, "),
        ({1: 8}, "there is no key 1"),
        ({"IGNORED": 8}, "there is no key IGNORED"),
        ({"num_heads": "8"}, "num_heads = '8', but it must be int"),
        ({"num_heads": 8.0}, "num_heads = 8.0, but it must be int"),
        ({"num_heads": True}, "num_heads = True, but it must be int"),
        ({"parallel": "yes"}, "parallel = 'yes', but it must be bool"),
        ({"attention": None}, "attention = None, but it must be str"),
        ({"norm_eps": float("nan")}, "norm_eps = nan, but it must be float"),
        ({"quantization_config": {"bits": 4}}, "quantization_config = {'bits': 4} is not implemented"),
    ],
)
def test_wrong_keys_and_types(given: dict[Any, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        TinyStarConfig.from_dict(given)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.ini", b"num_heads=8", "a config ends with .yaml, .yml, .toml, .json, not with '.ini'"),
        ("a.yaml", b"num_heads: [", "not valid YAML"),
        ("a.yaml", b"!!python/object/apply:os.getcwd []", "not valid YAML"),
        ("a.toml", b"num_heads = ", "not valid TOML"),
        ("a.json", b"{'num_heads': 8}", "not valid JSON"),
        ("a.json", b"[" * 100_000, "not valid JSON"),
        ("a.yaml", b"- num_heads", "found list where keys and values are expected"),
        ("a.yaml", b"", "found NoneType where keys and values are expected"),
        ("a.yaml", b"\xff\xfe", "cannot be read"),
        ("a.yaml", b"num_heads: 8e", "num_heads = '8e', but it must be int"),
    ],
)
def test_bad_files(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}: {re.escape(message)}"):
        TinyStarConfig.from_file(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file or directory\)"):
        TinyStarConfig.from_file(tmp_path / "none.yaml")


def test_the_named_configurations() -> None:
    assert configuration_names() == [
        "v0.1-baseline",
        "v0.2-modern",
        "v0.3-mha",
        "v0.4-mqa",
        "v0.5-mla",
        "v0.6-gelu",
        "v0.7-swa",
    ]
    modern, default = (asdict(config) for config in (TinyStarConfig.named("v0.2-modern"), TinyStarConfig()))
    assert {key for key in modern if modern[key] != default[key]} == {"hidden_size", "num_layers"}
    differing = {}
    for name in configuration_names():
        config = asdict(TinyStarConfig.named(name))
        differing[name] = {key: config[key] for key in config if config[key] != modern[key]}
        assert (NAMED / f"{name}.yaml").read_text().startswith("# ")
    assert differing == {
        "v0.1-baseline": {
            "attention": "mha",
            "attention_bias": True,
            "positions": "learned",
            "feed_forward": "mlp",
            "activation": "gelu",
            "feed_forward_bias": True,
            "norm": "layernorm",
        },
        "v0.2-modern": {},
        "v0.3-mha": {"attention": "mha"},
        "v0.4-mqa": {"attention": "mqa"},
        "v0.5-mla": {"attention": "mla"},
        "v0.6-gelu": {"feed_forward": "mlp", "activation": "gelu"},
        "v0.7-swa": {"mask": "sliding_window", "window_size": 256},
    }
    with pytest.raises(ConfigError, match=r"^There is no configuration 'v0.9'. There are: v0.1-baseline, "):
        TinyStarConfig.named("v0.9")
