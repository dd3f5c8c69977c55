"""DBRX's own: the base in its published file, no clip, experts as views of the file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from parity import (
    assert_close,
    edit_config,
    logits_of,
    random_ids,
    reference_model,
    save,
)
from transformers import PreTrainedModel

from tinystar_np.loading import load

ATTENTION = {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}


FFN = {"ffn_hidden_size": 20, "moe_num_experts": 5, "moe_top_k": 2}


SMALL = {"d_model": 48, "n_heads": 6, "n_layers": 2, "max_seq_len": 64}


def dbrx(attention: dict[str, Any], ffn: dict[str, Any], **changes: Any) -> PreTrainedModel:
    parts = {"attn_config": {**ATTENTION, **attention}, "ffn_config": {**FFN, **ffn}}
    return reference_model("dbrx", **SMALL, **parts, **changes)


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
