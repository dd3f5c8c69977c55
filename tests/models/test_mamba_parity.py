"""Mamba against transformers: every switch, whole and in pieces, and configs that do not fit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, check, edit_config, logits_of, random_ids, reference_model, save

import tinystar_np as ts
from tinystar_np.errors import ConfigError, InputError
from tinystar_np.loading import load

SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "state_size": 8}

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "biases": {"use_bias": True},
    "no_convolution_bias": {"use_conv_bias": False},
    "untied": {"tie_word_embeddings": False},
    "gelu": {"hidden_act": "gelu"},
    "rank": {"time_step_rank": 7},
    "expand": {"expand": 3},
    "inner_width": {"intermediate_size": 40},  # goes before expand
    "wide_convolution": {"conv_kernel": 9},
    "no_convolution": {"conv_kernel": 1},
    "one_number_per_channel": {"state_size": 1},
    "epsilon": {"layer_norm_epsilon": 0.1},
    "other_ways_to_compute": {"use_mambapy": True, "use_associative_scan": False, "residual_in_fp32": False},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("mamba", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path))
    assert model.context_length is None
    assert model.trained_length is None


def test_a_file_of_the_hub(tmp_path: Path) -> None:
    """The keys of state-spaces/mamba-130m-hf: those of the original code stand among them."""
    reference = reference_model("mamba", **SMALL)
    save(reference, tmp_path)
    config = {
        "architectures": ["MambaForCausalLM"],
        "bos_token_id": 0,
        "conv_kernel": 4,
        "d_inner": 96,
        "d_model": 48,
        "eos_token_id": 0,
        "expand": 2,
        "fused_add_norm": True,
        "hidden_act": "silu",
        "hidden_size": 48,
        "initializer_range": 0.1,
        "intermediate_size": 96,
        "layer_norm_epsilon": 1e-05,
        "model_type": "mamba",
        "n_layer": 2,
        "num_hidden_layers": 2,
        "pad_token_id": 0,
        "pad_vocab_size_multiple": 8,
        "rescale_prenorm_residual": False,
        "residual_in_fp32": True,
        "rms_norm": True,
        "ssm_cfg": {},
        "state_size": 8,
        "time_step_floor": 0.0001,
        "time_step_init_scheme": "random",
        "time_step_max": 0.1,
        "time_step_min": 0.001,
        "time_step_rank": 3,
        "time_step_scale": 1.0,
        "torch_dtype": "float32",
        "transformers_version": "4.39.0.dev0",
        "use_bias": False,
        "use_cache": True,
        "use_conv_bias": True,
        "vocab_size": 211,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    ids = random_ids(2, 20)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_a_missing_rank_follows_from_the_width(tmp_path: Path) -> None:
    reference = reference_model("mamba", **{**SMALL, "hidden_size": 40})
    save(reference, tmp_path, time_step_rank=None, intermediate_size=None)
    ids = random_ids(2, 20)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_the_state_has_one_size_and_no_way_back(tmp_path: Path) -> None:
    model, _ = load(save(reference_model("mamba", **SMALL), tmp_path))
    cache = model.new_cache(batch_size=2)
    inputs, h = 3 * 96, 8 * 96
    assert cache.nbytes == 2 * 2 * 4 * (inputs + h)  # layers, rows, bytes
    for length, arrays in ((1, 1), (50, 2), (1, 2), (1, 2)):  # two take turns
        model(random_ids(2, length), cache=cache)
        assert cache.nbytes == 2 * 2 * 4 * (inputs + arrays * h)
    with pytest.raises(InputError, match="cannot be cut back"):
        cache.truncate(10)
    copy = cache.copy()
    expected = model(random_ids(2, 5), cache=copy)
    np.testing.assert_array_equal(model(random_ids(2, 5), cache=cache), expected)


def test_the_names_of_what_is_inside(tmp_path: Path) -> None:
    model, _ = load(save(reference_model("mamba", **SMALL), tmp_path))
    with ts.record("blocks.1.*") as caught:
        model(random_ids(2, 7))
    shapes = {name.removeprefix("blocks.1."): caught[name].shape[2:] for name in caught}
    assert shapes == {
        "mixer_norm": (48,),
        "mixer.in": (192,),
        "mixer.convolution": (96,),
        "mixer.x": (96,),
        "mixer.selection": (3 + 2 * 8,),
        "mixer.B": (8,),
        "mixer.C": (8,),
        "mixer.time_step": (96,),
        "mixer.scan": (96,),
        "mixer.gated": (96,),
        "mixer.out": (48,),
        "residual": (48,),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state_size": 0}, "N = 0"),
        ({"conv_kernel": 0}, "W = 0"),
        ({"expand": 0, "intermediate_size": None}, "F = 0"),
        ({"expand": 1.5}, "expand = 1.5, but it must be int"),
        ({"time_step_rank": "wide"}, "time_step_rank = 'wide', but it must be a number or \"auto\""),
        ({"time_step_rank": 0}, "R = 0"),
        ({"hidden_act": "snake"}, "hidden_act = 'snake' is not known here. Known: .*silu"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon = 0.0 must be above 0"),
        ({"use_bias": "yes"}, "use_bias = 'yes', but it must be bool"),
        ({"rms_norm": False}, "rms_norm = False is not implemented"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(reference_model("mamba", **SMALL), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")  # the config is refused before any weight is read
    edit_config(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
