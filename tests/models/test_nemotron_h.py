"""Nemotron-H: the makers' limits of Δ, layers without a state, old files, what is refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, check_hub_file, logits_of, random_ids, reference_model, save
from parity_cases import ROWS

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load
from tinystar_np.models.nemotron_h import NemotronHConfig

SMALL: dict[str, Any] = ROWS["nemotron_h"].smallest


@pytest.mark.parametrize("limits", [(0.0, math.inf), (0.2, 0.8)])
def test_limits_are_the_makers(limits: tuple[float, float], tmp_path: Path) -> None:
    """transformers' limits come from another key: its layers are given those of ``time_step_limit``."""
    reference = reference_model("nemotron_h", **SMALL, time_step_limit=list(limits))
    mixers = [module for module in reference.modules() if hasattr(module, "time_step_limit")]
    assert mixers
    for mixer in mixers:
        mixer.dt_bias.data -= 4.0  # so that some steps are below transformers' usual 0.001
        mixer.time_step_limit = limits
    ids = random_ids(2, 40)
    expected = logits_of(reference, ids)
    model, _ = load(save(reference, tmp_path, time_step_min=0.001))
    assert_close(model(ids), expected)
    cache = model.new_cache(batch_size=2)
    pieces = [model(ids[:, i : i + 1], cache=cache) for i in range(40)]
    assert_close(np.concatenate(pieces, axis=1), expected)
    for mixer in mixers:
        mixer.time_step_limit = (0.001, math.inf)
    assert np.abs(logits_of(reference, ids) - expected).max() > 1e-4 * np.abs(expected).max()


def test_layers_of_each_token_remember_nothing(tmp_path: Path) -> None:
    kinds = {"layers_block_type": ["full_attention", "mlp", "full_attention", "moe"]}
    model, _ = load(save(reference_model("nemotron_h", **{**SMALL, **kinds}), tmp_path))
    cache = model.new_cache(batch_size=2, capacity=20)
    ids = random_ids(2, 20)
    whole = model(ids, cache=cache)
    assert [state.nbytes > 0 for state in cache.states] == [True, False, True, False]
    cache.truncate(12)  # attention alone can be cut back, whatever stands between
    assert_close(model(ids[:, 12:], cache=cache), whole[:, 12:])
    assert_close(model(ids, last_only=True), whole[:, -1:])


def test_letters_name_the_kinds() -> None:
    named = NemotronHConfig.from_dict({"hybrid_override_pattern": "M*-E", "num_hidden_layers": 4})
    assert named.kinds == ["linear_attention", "full_attention", "mlp", "moe"]
    assert named.kinds == NemotronHConfig.from_dict({}).kinds
    both = {"hybrid_override_pattern": "M*", "layers_block_type": ["mlp"]}
    assert NemotronHConfig.from_dict(both).kinds == ["mlp"]


# nvidia/Nemotron-H-8B-Base-8K
PUBLISHED = {
    "architectures": ["NemotronHForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_head_dim": 128,
    "chunk_size": 16,
    "conv_kernel": 4,
    "expand": 2,
    "hidden_dropout": 0.0,
    "hidden_size": 48,
    "hybrid_override_pattern": "M-M*-",
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "layer_norm_epsilon": 1e-05,
    "mamba_head_dim": 8,
    "mamba_hidden_act": "silu",
    "mamba_num_heads": 12,
    "mamba_proj_bias": False,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "mlp_hidden_act": "relu2",
    "model_type": "nemotron_h",
    "n_groups": 2,
    "num_attention_heads": 4,
    "num_hidden_layers": 5,
    "num_key_value_heads": 2,
    "num_logits_to_keep": 1,
    "rescale_prenorm_residual": True,
    "residual_in_fp32": False,
    "sliding_window": None,
    "ssm_state_size": 8,
    "tie_word_embeddings": False,
    "time_step_floor": 0.0001,
    "time_step_max": 0.1,
    "time_step_min": 1e-30,
    "torch_dtype": "float32",
    "use_bias": False,
    "use_cache": True,
    "use_conv_bias": True,
    "use_mamba_kernels": True,
    "vocab_size": 211,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hybrid_override_pattern": "M*E-", "num_hidden_layers": 4, "n_routed_experts": 4},
        {"num_hidden_layers": ...},
        {"n_groups": ..., "mamba_n_groups": 3, "conv_kernel": ..., "mamba_d_conv": 2},
    ],
)
def test_published(changes: dict[str, Any], tmp_path: Path) -> None:
    small = {"moe_intermediate_size": 12, "moe_shared_expert_intermediate_size": 20}
    check_hub_file(PUBLISHED, {**small, **changes}, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hybrid_override_pattern": "M*x"}, r"hybrid_override_pattern\[2\] = 'x' is not known here"),
        ({"layers_block_type": ["mamba", "conv"]}, r"layers_block_type\[1\] = 'conv' is not known here"),
        ({"hybrid_override_pattern": ""}, "name no layer"),
        ({"num_hidden_layers": 5}, "num_hidden_layers = 5, but .* names 4 layers"),
        ({"mamba_num_heads": 9}, "mamba_num_heads = 9 cannot be divided among n_groups = 8"),
        ({"n_group": 3}, "n_routed_experts = 8 cannot be divided among n_group = 3"),
        ({"n_group": 8, "topk_group": 8}, "no two best experts each"),
        ({"n_group": 4, "topk_group": 5}, "topk_group = 5 of n_group = 4"),
        ({"n_group": 4, "num_experts_per_tok": 3}, "num_experts_per_tok = 3 experts are not in topk_group"),
        ({"time_step_limit": [0.5, 0.1]}, "time_step_limit"),
        ({"moe_latent_size": 0}, "R = 0"),
        ({"sliding_window": 8}, "sliding_window = 8 is not implemented"),
        ({"layers_block_type": ["moe"], "moe_shared_expert_intermediate_size": 0}, "J = 0"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NemotronHConfig.from_dict(changes)


def test_equal_tables_are_tied(tmp_path: Path) -> None:
    """transformers has no rule to tie them, and writes both tables."""
    reference = reference_model("nemotron_h", **SMALL)
    reference.lm_head.weight.data.copy_(reference.get_input_embeddings().weight.data)
    ids = random_ids(2, 20)
    expected = logits_of(reference, ids)
    model, _ = load(save(reference, tmp_path, tie_word_embeddings=True))
    assert "head.weight" not in model.weights
    assert_close(model(ids), expected)
