"""DBRX against transformers: the norms of its routing, clips, and the objects in its config."""

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
from transformers import PreTrainedModel

from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.loading import load

# transformers wants a base there, which it does not use, and a clip, without which it breaks off.
ATTENTION = {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}
FFN = {"ffn_hidden_size": 20, "moe_num_experts": 5, "moe_top_k": 2}
SMALL = {"d_model": 48, "n_heads": 6, "n_layers": 2, "max_seq_len": 64}
CUTS = ([1, 2, 46, 1], [16, 34])


def dbrx(attention: dict[str, Any], ffn: dict[str, Any], **changes: Any) -> PreTrainedModel:
    parts = {"attn_config": {**ATTENTION, **attention}, "ffn_config": {**FFN, **ffn}}
    return reference_model("dbrx", **SMALL, **parts, **changes)


VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "as_it_comes": ({}, {}, {}),
    "clipped": ({"clip_qkv": 0.7}, {}, {}),
    "multi_head": ({"kv_n_heads": 6}, {}, {}),
    "multi_query": ({"kv_n_heads": 1}, {}, {}),
    "one": ({}, {"moe_top_k": 1}, {}),
    "all": ({}, {"moe_top_k": 5}, {}),
    "norm_of_2": ({}, {"moe_normalize_expert_weights": 2.0}, {}),
    "not_normed": ({}, {"moe_normalize_expert_weights": None}, {}),
    "gelu": ({}, {"ffn_act_fn": {"name": "gelu"}}, {}),
    "base": ({}, {}, {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}),
    "linear": ({}, {}, {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant(variant: str, tmp_path: Path) -> None:
    attention, ffn, changes = VARIANTS[variant]
    reference = dbrx(attention, ffn, **changes)
    model = check(reference, save(reference, tmp_path), length=50, cuts=CUTS)
    assert model.trained_length == 64


@pytest.mark.parametrize("variant", ["clipped", "base", "linear"])
def test_old_spelling(variant: str, tmp_path: Path) -> None:
    attention, ffn, changes = VARIANTS[variant]
    reference = dbrx(attention, ffn, **changes)
    save(reference, tmp_path)
    save(reference, tmp_path, **old_spelling(json.loads((tmp_path / "config.json").read_text())))
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_the_published_file_has_the_base_in_attn_config(tmp_path: Path) -> None:
    """transformers 5 does not read it there, and turns by its default."""
    reference = dbrx({}, {}, rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
    config = {
        "architectures": ["DbrxForCausalLM"],
        "attn_config": {"clip_qkv": 8, "kv_n_heads": 2, "model_type": "", "rope_theta": 500000},
        "auto_map": {"AutoConfig": "configuration_dbrx.DbrxConfig"},
        "d_model": 48,
        "emb_pdrop": 0.0,
        "ffn_config": {
            "ffn_hidden_size": 20,
            "model_type": "",
            "moe_jitter_eps": 0.01,
            "moe_loss_weight": 0.05,
            "moe_num_experts": 5,
            "moe_top_k": 2,
        },
        "initializer_range": 0.02,
        "max_seq_len": 32768,
        "model_type": "dbrx",
        "n_heads": 6,
        "n_layers": 2,
        "output_router_logits": False,
        "resid_pdrop": 0.0,
        "router_aux_loss_coef": 0.05,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.38.2",
        "use_cache": True,
        "vocab_size": 211,
    }
    save(reference, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_without_a_clip(tmp_path: Path) -> None:
    """transformers cannot do without; a limit that nothing reaches is as good."""
    reference = dbrx({"clip_qkv": 1e9}, {})
    save(reference, tmp_path, attn_config={"kv_n_heads": 2})
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))
    edit_config(tmp_path, attn_config={"kv_n_heads": 2, "clip_qkv": 0.7})
    assert np.abs(load(tmp_path)[0](ids) - logits_of(reference, ids)).max() > 0.1


def test_experts_are_views_of_the_file(tmp_path: Path) -> None:
    model, _ = load(save(dbrx({}, {}), tmp_path))
    gates = [model.weights[f"blocks.0.feed_forward.experts.{e}.gate.weight"] for e in range(5)]
    downs = [model.weights[f"blocks.0.feed_forward.experts.{e}.down.weight"] for e in range(5)]
    assert {gate.shape for gate in gates} == {(48, 20)}
    assert {down.shape for down in downs} == {(20, 48)}
    for first, second in zip(gates[:-1] + downs[:-1], gates[1:] + downs[1:], strict=True):
        assert isinstance(first, np.ndarray)
        assert isinstance(second, np.ndarray)
        assert second.ctypes.data - first.ctypes.data == 4 * 20 * 48


def test_a_file_with_fewer_experts(tmp_path: Path) -> None:
    save(dbrx({}, {}), tmp_path, ffn_config={**FFN, "moe_num_experts": 6})
    with pytest.raises(CheckpointError, match=r"shape \(5, 48\), the config asks for \(6, 48\)"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ffn_config": {"moe_top_k": 5}}, "moe_top_k = 5 of moe_num_experts = 4"),
        (
            {"ffn_config": {"moe_normalize_expert_weights": 0}},
            "moe_normalize_expert_weights = 0.0 must be above 0",
        ),
        ({"ffn_config": {"ffn_act_fn": {"name": "swoosh"}}}, "ffn_act_fn.name = 'swoosh' is not known"),
        ({"ffn_config": [1]}, r"ffn_config = \[1\], but it must be an object or null"),
        ({"attn_config": {"clip_qkv": -8}}, "clip_qkv = -8.0 must be above 0"),
        ({"attn_config": {"kv_n_heads": 4}}, "n_heads = 6 cannot be divided among kv_n_heads = 4"),
        ({"attn_config": {"kv_n_heads": "2"}}, "kv_n_heads = '2', but it must be int"),
        ({"n_heads": 5}, "d_model = 48 cannot be divided among n_heads = 5"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings = True is not implemented"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dbrx", **SMALL, **changes}))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
