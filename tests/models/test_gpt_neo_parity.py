"""GPT-Neo against transformers: windows in some layers, in both spellings of which."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, check, edit_config, logits_of, random_ids, reference_model, save
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tinystar_np.errors import ConfigError, ContextFullError
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "num_layers": 3,
    "num_heads": 4,
    "max_position_embeddings": 128,
    "window_size": 20,
    "attention_types": [[["global", "local"], 1], [["local"], 1]],
}
VARIANTS: dict[str, dict[str, Any]] = {
    "turns": {},
    "global": {"attention_types": [[["global"], 3]]},
    "window_of_one": {"window_size": 1},
    "window_of_two": {"window_size": 2},
    "window_of_the_prompt": {"window_size": 90, "attention_types": [[["local"], 3]]},
    "window_just_short_of_it": {"window_size": 89, "attention_types": [[["local"], 3]]},
    "untied": {"tie_word_embeddings": False},
    "inner_width": {"intermediate_size": 80, "activation_function": "relu", "layer_norm_epsilon": 0.1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("gpt_neo", **{**SMALL, **VARIANTS[variant]})
    w = min(max(reference.config.window_size, 2), 88)
    cuts = [[w - 1, 91 - w], [w, 90 - w], [w + 1, 89 - w], [20, 1, 1, 1, 60, 7]]
    model = check(reference, save(reference, tmp_path), cuts=cuts)
    assert model.context_length == 128


def test_the_default_turns(tmp_path: Path) -> None:
    """Neither spelling: twelve times global and local."""
    settings = {**SMALL, "num_layers": 24, "hidden_size": 8, "attention_types": None}
    reference = reference_model("gpt_neo", **settings)
    save(reference, tmp_path, attention_types=None, attention_layers=None)
    model, _ = load(tmp_path)
    assert model.config.kinds == ["global", "local"] * 12
    ids = random_ids(2, 70)
    assert_close(model(ids), logits_of(reference, ids))


def test_a_file_of_the_hub(tmp_path: Path) -> None:
    """Sizes under general names, and the mask's buffers among the tensors."""
    reference = reference_model("gpt_neo", **SMALL)
    save(reference, tmp_path, num_heads=None, num_layers=None, num_attention_heads=4, num_hidden_layers=3)
    edit_config(tmp_path, attention_layers=None)
    tensors = load_file(tmp_path / "model.safetensors")
    for i in range(3):
        tensors[f"transformer.h.{i}.attn.attention.bias"] = torch.ones(1, 1, 128, 128, dtype=torch.bool)
        tensors[f"transformer.h.{i}.attn.attention.masked_bias"] = torch.tensor(-1e9)
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    ids = random_ids(2, 70)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_which_spelling_wins(tmp_path: Path) -> None:
    """Where the two contradict each other, transformers believes what is written out."""
    save(reference_model("gpt_neo", **SMALL), tmp_path, attention_layers=["local", "local", "global"])
    again = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    ids = random_ids(2, 70)
    assert_close(load(tmp_path)[0](ids), logits_of(again, ids))


def test_long_texts(tmp_path: Path) -> None:
    """Long enough for the blockwise form."""
    reference = reference_model("gpt_neo", **{**SMALL, "max_position_embeddings": 700, "window_size": 100})
    model, _ = load(save(reference, tmp_path))
    ids = random_ids(2, 700)
    expected = logits_of(reference, ids)
    assert_close(model(ids), expected)
    cache = model.new_cache(batch_size=2)
    found = [model(ids[:, a:b], cache=cache) for a, b in pairwise([0, 99, 199, 300, 301, 700])]
    assert_close(np.concatenate(found, axis=1), expected)
    with pytest.raises(ContextFullError, match="700"):
        model(ids[:, :1], cache=cache)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 5}, "hidden_size = 48 cannot be divided among num_attention_heads = 5"),
        ({"window_size": 0}, "window_size = 0 must be at least 1"),
        ({"attention_layers": ["global", "local"]}, "for 2 layers, but num_hidden_layers = 3"),
        (
            {"attention_layers": ["global", "near", "local"]},
            r"has \['near'\], but a layer is global or local",
        ),
        (
            {"attention_types": ["global"]},
            r"attention_types has 'global', but wants \[\[kind, …\], how often\]",
        ),
        (
            {"attention_types": [[["global"], 10**9]]},
            r"attention_types has \[\['global'\], 1000000000\], but",
        ),
        ({"attention_types": "global"}, "attention_types = 'global', but it must be list or null"),
        ({"activation_function": "prelu"}, "activation_function = 'prelu' is not known here"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(reference_model("gpt_neo", **SMALL), tmp_path, **{"attention_layers": None, **changes})
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
