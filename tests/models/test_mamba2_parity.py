"""Mamba 2 against transformers: every switch, whole and in pieces, and configs that do not fit.

The reference is transformers' whole prompt. Its step for a single cached token leaves out
``time_step_limit``, so that with a limit its own generation differs from its own prompt, and is no reference.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, check, edit_config, logits_of, random_ids, reference_model, save

import tinystar_np as ts
from tinystar_np.errors import ConfigError
from tinystar_np.fast.deferred_state import MOST
from tinystar_np.fast.threads import FEWEST_ROWS
from tinystar_np.kernels.ssm import CHUNK
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_heads": 6,
    "head_dim": 16,
    "n_groups": 2,
    "state_size": 12,
    "chunk_size": 16,
}

VARIANTS: dict[str, dict[str, Any]] = {
    "two_groups": {},
    "one_group": {"n_groups": 1},
    "a_group_per_head": {"n_groups": 6},
    "one_head": {"num_heads": 1, "head_dim": 96, "n_groups": 1},
    "biases": {"use_bias": True},
    "no_convolution_bias": {"use_conv_bias": False},
    "tied": {"tie_word_embeddings": True},
    "gelu": {"hidden_act": "gelu"},
    "expand": {"expand": 3, "num_heads": 9, "n_groups": 3},
    "chunk_longer_than_the_prompt": {"chunk_size": 256},
    "wide_convolution": {"conv_kernel": 9},
    "no_convolution": {"conv_kernel": 1},
    "one_number_per_channel": {"state_size": 1},
    "epsilon": {"layer_norm_epsilon": 0.1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    reference = reference_model("mamba2", **{**SMALL, **VARIANTS[variant]})
    model = check(reference, save(reference, tmp_path))
    assert model.context_length is None
    assert model.trained_length is None


@pytest.mark.parametrize("limit", [(0.0, 0.05), (0.02, float("inf")), (0.01, 0.1)])
def test_limits_of_the_step(limit: tuple[float, float], tmp_path: Path) -> None:
    reference = reference_model("mamba2", **SMALL)
    ids = random_ids(2, 20)
    without = logits_of(reference, ids)
    reference = reference_model("mamba2", **SMALL, time_step_limit=limit)
    assert np.abs(logits_of(reference, ids) - without).max() > 1e-3  # the limit is felt
    check(reference, save(reference, tmp_path), greedy=False)


@pytest.mark.parametrize("groups", [1, 3])
def test_pieces_around_the_chunk_and_heads_in_threads(groups: int, tmp_path: Path) -> None:
    reference = reference_model("mamba2", **{**SMALL, "n_groups": groups})
    length = FEWEST_ROWS + CHUNK + 3
    cuts = [[first, length - first] for first in (CHUNK - 1, CHUNK, CHUNK + 1, FEWEST_ROWS, length - 1)]
    check(reference, save(reference, tmp_path), length=length, cuts=cuts, greedy=False)


def test_a_file_of_the_hub(tmp_path: Path) -> None:
    """The keys of mistralai/Mamba-Codestral-7B-v0.1, ``Infinity`` as json writes it, ``norm_before_gate``."""
    reference = reference_model("mamba2", **SMALL)
    save(reference, tmp_path)
    config = {
        "architectures": ["Mamba2ForCausalLM"],
        "bos_token_id": 0,
        "chunk_size": 256,
        "conv_kernel": 4,
        "eos_token_id": 0,
        "expand": 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "hidden_size": 48,
        "initializer_range": 0.1,
        "intermediate_size": 96,
        "layer_norm_epsilon": 1e-05,
        "model_type": "mamba2",
        "n_groups": 2,
        "norm_before_gate": True,
        "num_heads": 6,
        "num_hidden_layers": 2,
        "pad_token_id": 0,
        "rescale_prenorm_residual": False,
        "residual_in_fp32": True,
        "rms_norm": True,
        "state_size": 12,
        "tie_word_embeddings": False,
        "time_step_floor": 0.0001,
        "time_step_init_scheme": "random",
        "time_step_limit": [0.0, float("inf")],
        "time_step_max": 0.1,
        "time_step_min": 0.001,
        "time_step_rank": 256,
        "time_step_scale": 1,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.44.0.dev0",
        "use_bias": False,
        "use_cache": True,
        "use_conv_bias": True,
        "vocab_size": 211,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "Infinity" in (tmp_path / "config.json").read_text()
    ids = random_ids(2, 20)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_narrow_matrices_leave_the_recurrence_in_float32(tmp_path: Path) -> None:
    reference = reference_model("mamba2", **SMALL)
    save(reference, tmp_path)
    exact, _ = load(tmp_path, dtype="float32")
    ids = random_ids(2, 30)
    for dtype, tolerance in (("bfloat16", 0.05), ("int8", 0.1)):
        model, _ = load(tmp_path, dtype=dtype)
        cache = model.new_cache(batch_size=2)
        assert_close(model(ids, cache=cache), exact(ids), tolerance)
        mixer, state = model.blocks[1].mixer, cache.states[1]
        for array in (mixer.A, mixer.D, mixer.convolution, mixer.gain, state["ssm"], state["convolution"]):
            assert array.dtype == np.float32


def test_the_state_has_one_size(tmp_path: Path) -> None:
    model, _ = load(save(reference_model("mamba2", **SMALL), tmp_path))
    cache = model.new_cache(batch_size=2)
    inputs, h = 3 * (96 + 4 * 12), 96 * 12
    heads, token = 6, 6 + 2 * 12 + 96  # how far h has faded; a token, its keys and its values
    one = 2 * 2 * 4  # layers, rows, bytes
    assert cache.nbytes == one * (inputs + h)
    for length, beside in ((1, heads + token), (70, 0), (1, heads + token)):
        model(random_ids(2, length), cache=cache)
        assert cache.nbytes == one * (inputs + h + beside)
    for _ in range(40):
        model(random_ids(2, 1), cache=cache)
    assert cache.nbytes == one * (inputs + 2 * h + heads + (41 - 2 * MOST) * token)  # two take turns


def test_the_names_of_what_is_inside(tmp_path: Path) -> None:
    model, _ = load(save(reference_model("mamba2", **SMALL), tmp_path))
    with ts.record("blocks.1.*") as caught:
        model(random_ids(2, 7))
    shapes = {name.removeprefix("blocks.1."): caught[name].shape[2:] for name in caught}
    assert shapes == {
        "mixer_norm": (48,),
        "mixer.in": (2 * 96 + 4 * 12 + 6,),
        "mixer.convolution": (96 + 4 * 12,),
        "mixer.x": (6, 16),
        "mixer.B": (2, 12),
        "mixer.C": (2, 12),
        "mixer.time_step": (6,),
        "mixer.scan": (96,),
        "mixer.gated_norm": (96,),
        "mixer.out": (48,),
        "residual": (48,),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_heads": 8},
            "num_heads = 8 of head_dim = 16 make 128 channels, but expand = 2 times .* makes 96",
        ),
        ({"head_dim": 8}, "head_dim = 8"),
        ({"n_groups": 4}, "num_heads = 6 cannot be divided among n_groups = 4"),
        ({"n_groups": 0}, "G = 0"),
        ({"state_size": 0}, "N = 0"),
        ({"conv_kernel": -1}, "W = -1"),
        ({"time_step_limit": [0.1, 0.01]}, r"time_step_limit = \[0.1, 0.01\], but it must be two numbers"),
        ({"time_step_limit": [0.1]}, r"time_step_limit = \[0.1\]"),
        ({"time_step_limit": [0, float("nan")]}, r"time_step_limit = \[0, nan\]"),
        ({"time_step_limit": [-1.0, 1.0]}, r"time_step_limit = \[-1.0, 1.0\]"),
        ({"time_step_limit": ["low", "high"]}, r"time_step_limit\[0\] = 'low', but it must be float"),
        ({"time_step_limit": 0.1}, "time_step_limit = 0.1, but it must be list"),
        ({"hidden_act": "snake"}, "hidden_act = 'snake' is not known here. Known: .*silu"),
        ({"layer_norm_epsilon": -1e-5}, "layer_norm_epsilon = -1e-05 must be above 0"),
        ({"rms_norm": False}, "rms_norm = False is not implemented"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(reference_model("mamba2", **SMALL), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")  # the config is refused before any weight is read
    edit_config(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
