"""MiniMax-01: the makers' files, in which half of each head is rotated, beside transformers that does it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, check, logits_of, random_ids, reference_model, save
from safetensors.numpy import load_file
from transformers import PreTrainedModel
from transformers.models.minimax import modeling_minimax
from transformers.models.minimax_m2.modeling_minimax_m2 import apply_rotary_pos_emb

from tinystar_np.cache import RecurrentState
from tinystar_np.errors import ConfigError
from tinystar_np.loading import load
from tinystar_np.models import model_class

FACTORS = ("full_attention", "linear_attention", "mlp")
# MiniMaxAI/MiniMax-Text-01, with smaller sizes
PUBLISHED: dict[str, Any] = {
    "architectures": ["MiniMaxText01ForCausalLM"],
    "attention_dropout": 0.0,
    "attn_type_list": [0, 0, 1, 0],
    "bos_token_id": None,
    "eos_token_id": None,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 48,
    "initializer_range": 0.02,
    "intermediate_size": 24,
    "layernorm_full_attention_alpha": 3.5565588200778455,
    "layernorm_full_attention_beta": 1.0,
    "layernorm_linear_attention_alpha": 3.5565588200778455,
    "layernorm_linear_attention_beta": 1.0,
    "layernorm_mlp_alpha": 3.5565588200778455,
    "layernorm_mlp_beta": 1.0,
    "max_position_embeddings": 10240000,
    "model_type": "minimax_text_01",
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "output_router_logits": False,
    "postnorm": True,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000000,
    "rotary_dim": 8,
    "router_aux_loss_coef": 0.001,
    "router_jitter_noise": 0.0,
    "shared_intermediate_size": 0,
    "shared_moe_mode": "sigmoid",
    "sliding_window": None,
    "tie_word_embeddings": False,
    "transformers_version": "4.45.2",
    "use_cache": True,
    "vocab_size": 211,
}


def the_makers(monkeypatch: pytest.MonkeyPatch) -> PreTrainedModel:
    """transformers' model, but that a part of each head is rotated."""

    def frequencies(config: Any, **_: Any) -> tuple[torch.Tensor, float]:
        exponents = torch.arange(0, 8, 2, dtype=torch.float) / 8
        return 1.0 / config.rope_parameters["rope_theta"] ** exponents, 1.0

    rotary = modeling_minimax.MiniMaxRotaryEmbedding
    monkeypatch.setattr(rotary, "compute_default_rope_parameters", staticmethod(frequencies))
    monkeypatch.setattr(modeling_minimax, "apply_rotary_pos_emb", apply_rotary_pos_emb)
    factors = {
        f"{part.replace('ention', 'n')}_{name}_factor": PUBLISHED[f"layernorm_{part}_{name}"]
        for part in FACTORS
        for name in ("alpha", "beta")
    }
    layers = {0: "linear_attention", 1: "full_attention"}
    kinds = {"layer_types": [layers[kind] for kind in PUBLISHED["attn_type_list"]]}
    given = PUBLISHED.keys() & modeling_minimax.MiniMaxConfig().to_dict().keys() - {"model_type"}
    settings = {key: PUBLISHED[key] for key in given if not key.endswith("_token_id")}
    return reference_model("minimax", **settings, **factors, **kinds, rope_theta=10000000)


def test_the_makers_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reference = the_makers(monkeypatch)
    save(reference, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED))
    names = load_file(tmp_path / "model.safetensors")
    assert "model.layers.0.block_sparse_moe.experts.0.w1.weight" in names
    model, _ = load(tmp_path, dtype="float32")
    ids = random_ids(2, 90)
    expected = logits_of(reference, ids)
    assert_close(model(ids), expected)
    cache = model.new_cache(2)
    pieces = [model(piece, cache=cache) for piece in np.split(ids, [1, 40, 41], axis=1)]
    assert_close(np.concatenate(pieces, axis=1), expected)
    assert [isinstance(state, RecurrentState) for state in cache.states] == [True, True, False, True]

    (tmp_path / "config.json").write_text(json.dumps({**PUBLISHED, "model_type": "minimax_m1"}))
    np.testing.assert_array_equal(load(tmp_path, dtype="float32")[0](ids), model(ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rotary_dim": 7}, "rotary_dim = 7, but it must be even, from 2 to the width of a head, 16"),
        ({"rotary_dim": 18}, "rotary_dim = 18"),
        ({"attn_type_list": [0, 2, 1, 0]}, "attn_type_list = .* of 0 and 1"),
        ({"attn_type_list": [0, 1]}, "layer_types names 2 layers"),
        ({"shared_intermediate_size": [0, 8, 0, 0]}, "shared_intermediate_size = .* not implemented"),
        ({"postnorm": False}, "postnorm = False is not implemented"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_class("minimax").Config.from_dict({**PUBLISHED, **changes})


def test_odd_numbers_of_layers_and_heads(tmp_path: Path) -> None:
    small = {"vocab_size": 211, "hidden_size": 36, "intermediate_size": 20, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 3, "num_key_value_heads": 1, "layer_types": ["linear_attention"]}
    small |= {"num_local_experts": 3, "linear_attn_alpha_factor": 2.0}
    reference = reference_model("minimax", **small)
    check(reference, save(reference, tmp_path), length=80)
