"""Gemma against transformers: every switch, in both spellings and with both names of its activation."""

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
from tinystar_np.loading import load
from tinystar_np.models.gemma import GemmaConfig
from tinystar_np.tracing import record
from tinystar_np.tracing.compare import compare_with_transformers

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "multi_head": {"num_key_value_heads": 6},
    "multi_query": {"num_key_value_heads": 1},
    "narrow_heads": {"head_dim": 6},
    "attention_bias": {"attention_bias": True},
    "untied": {"tie_word_embeddings": False},
    "epsilon": {"rms_norm_eps": 0.1},
    "relu": {"hidden_act": "relu"},
    "base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("gemma", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path), length=70, cuts=([1, 2, 66, 1], [64, 6]))
    assert model.context_length is None
    assert model.trained_length == 64


@pytest.mark.parametrize("variant", ["grouped", "base", "linear"])
@pytest.mark.parametrize("names", [{"hidden_act": "gelu"}, {"hidden_activation": "gelu_pytorch_tanh"}])
def test_old_spelling(variant: str, names: dict[str, str], tmp_path: Path) -> None:
    """With "gelu", which means its approximation, and with the key that came after it."""
    reference = reference_model("gemma", **{**SMALL, **VARIANTS[variant]})
    save(reference, tmp_path)
    edit_config(tmp_path, **old_spelling(json.loads((tmp_path / "config.json").read_text())), **names)
    ids = random_ids(2, 50)
    model, _ = load(tmp_path)
    assert_close(model(ids), logits_of(reference, ids))


def test_a_file_in_bfloat16(tmp_path: Path) -> None:
    """Gains less 1 are rounded in the file; 1 is added in float32, and √D stays as it is."""
    reference = reference_model("gemma", **SMALL)
    for parameter in reference.parameters():
        parameter.data = parameter.data.bfloat16().float()
    expected = logits_of(reference, ids := random_ids(2, 30))
    model, _ = load(save(reference.bfloat16(), tmp_path))
    assert_close(model(ids), expected)


def test_every_activation_is_that_of_transformers(tmp_path: Path) -> None:
    """Scaled embeddings and gains less 1 included, which transformers has in the layers, and so have we."""
    model, _ = load(save(reference_model("gemma", **SMALL), tmp_path))
    rows = compare_with_transformers(model, random_ids(20).tolist(), tmp_path)
    assert not [row for row in rows if row.exceeds(1e-5)]
    assert {"embedding.tokens", "blocks.0.attention_norm", "final_norm"} <= {row.name for row in rows}


def test_defaults_are_those_of_7b() -> None:
    config = GemmaConfig.from_dict({})
    assert config.sizes == {"V": 256000, "D": 3072, "L": 28, "H": 16, "G": 16, "K": 256, "F": 24576}


def test_embeddings_are_multiplied_by_the_root_of_the_width(tmp_path: Path) -> None:
    """By that of 7B in float32, not by 55.5, to which bfloat16 rounds it."""
    wide = {**SMALL, "hidden_size": 3072, "num_hidden_layers": 1}
    model, _ = load(save(reference_model("gemma", **wide), tmp_path))
    with record() as found:
        model([5])
    token = model.weights["embedding.tokens.weight"][5]
    np.testing.assert_array_equal(found["embedding.tokens"][0, 0], token * np.float32(55.425625842204074))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 4}, "num_attention_heads = 6 cannot be divided among .* = 4"),
        ({"hidden_act": "swoosh"}, "hidden_act = 'swoosh' is not known here"),
        ({"hidden_activation": "relu"}, "hidden_activation = 'relu' is not implemented"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention = True is not implemented"),
        ({"rms_norm_eps": 0}, "rms_norm_eps = 0"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Refused before any weight is read: there is none."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
