"""The first files of some architectures: other keys, other names, matrices in one. Against today's models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, check, logits_of, random_ids, reference_model, save
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedModel

from tinystar_np.cli.main import tinystar
from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.loading import load
from tinystar_np.models import model_class
from tinystar_np.models.registry import OLD_SPELLINGS

Tensors = dict[str, np.ndarray]


def write(directory: Path, raw: dict[str, Any], tensors: Tensors) -> Path:
    (directory / "config.json").write_text(json.dumps(raw))
    save_file(
        {name: np.ascontiguousarray(array) for name, array in tensors.items()},
        directory / "model.safetensors",
    )
    return directory


def tensors_of(reference: PreTrainedModel, directory: Path) -> Tensors:
    return load_file(save(reference, directory) / "model.safetensors")


# --- Falcon: RefinedWebModel (7B, RW), RefinedWeb (40B)

FALCONS: dict[str, tuple[str, dict[str, Any]]] = {
    "7B": ("RefinedWebModel", {"multi_query": True, "parallel_attn": True}),
    "RW": ("RefinedWebModel", {"multi_query": False, "parallel_attn": False, "alibi": True, "bias": True}),
    "heads apart": ("RefinedWebModel", {"multi_query": False, "parallel_attn": True, "bias": True}),
    "40B": ("RefinedWeb", {"num_kv_heads": 2, "new_decoder_architecture": True, "parallel_attn": True}),
}
DEFAULTS = {"multi_query": False, "parallel_attn": False, "alibi": False, "bias": False}
FALCON = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6}


def falcon(settings: dict[str, Any]) -> PreTrainedModel:
    reference = reference_model("falcon", **{**FALCON, **DEFAULTS, **settings})
    if settings.get("alibi"):
        reference.config._attn_implementation = "sdpa"
    return reference


def falcon_config(model_type: str, settings: dict[str, Any]) -> dict[str, Any]:
    """As the first config.json of falcon-7b and falcon-40b say it."""
    raw = {
        "alibi": False,
        "apply_residual_connection_post_layernorm": False,
        "architectures": ["RWForCausalLM"],
        "bias": False,
        "hidden_dropout": 0.0,
        "hidden_size": 48,
        "layer_norm_epsilon": 1e-05,
        "model_type": model_type,
        "n_head": 6,
        "n_layer": 3,
        "vocab_size": 211,
    } | {key: value for key, value in settings.items() if key in DEFAULTS}
    return raw | ({"n_head_kv": settings["num_kv_heads"]} if "num_kv_heads" in settings else {})


@pytest.mark.parametrize(("model_type", "settings"), FALCONS.values(), ids=FALCONS)
def test_falcon(model_type: str, settings: dict[str, Any], tmp_path: Path) -> None:
    reference = falcon(settings)
    write(tmp_path, falcon_config(model_type, settings), tensors_of(reference, tmp_path))
    check(reference, tmp_path, length=40)


def test_falcon_defaults(tmp_path: Path) -> None:
    """What the first class takes for a missing key, today's does not."""
    reference = falcon({})
    raw = {key: value for key, value in falcon_config("RefinedWebModel", {}).items() if key not in DEFAULTS}
    write(tmp_path, raw, tensors_of(reference, tmp_path))
    ids = random_ids(2, 20)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


# --- Phi: mixformer-sequential, phi-msft, and phi with the keys of phi-msft

PHI = {"hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4}
PHI |= {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5}
PHI |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 8 / 12}}


def phi_tensors(today: Tensors, embedding: str, block: str, last: str) -> Tensors:
    """Fuse queries, keys and values, and rename: ``block`` is called with the layer's number."""
    renamed = {
        embedding: today["model.embed_tokens.weight"],
        **{f"{last}.ln.{part}": today[f"model.final_layernorm.{part}"] for part in ("weight", "bias")},
        **{
            f"{last}.linear.{part}": today[f"lm_head.{part}"]
            for part in ("weight", "bias")
            if f"lm_head.{part}" in today
        },
    }
    for i in range(PHI["num_hidden_layers"]):
        theirs, ours = f"model.layers.{i}", block.format(i, i + 1)
        for part in ("weight", "bias"):
            qkv = [today[f"{theirs}.self_attn.{letter}_proj.{part}"] for letter in "qkv"]
            renamed |= {
                f"{ours}.ln.{part}": today[f"{theirs}.input_layernorm.{part}"],
                f"{ours}.mixer.Wqkv.{part}": np.concatenate(qkv),
                f"{ours}.mixer.out_proj.{part}": today[f"{theirs}.self_attn.dense.{part}"],
                f"{ours}.mlp.fc1.{part}": today[f"{theirs}.mlp.fc1.{part}"],
                f"{ours}.mlp.fc2.{part}": today[f"{theirs}.mlp.fc2.{part}"],
            }
    return renamed


def mixformer_tensors(today: Tensors) -> Tensors:
    return phi_tensors(today, "layers.0.wte.weight", "layers.{1}", f"layers.{PHI['num_hidden_layers'] + 1}")


def msft_tensors(today: Tensors) -> Tensors:
    return phi_tensors(today, "transformer.embd.wte.weight", "transformer.h.{0}", "lm_head")


def phi_config(model_type: str, **changes: Any) -> dict[str, Any]:
    raw = {
        "activation_function": "gelu_new",
        "architectures": ["MixFormerSequentialForCausalLM" if "mix" in model_type else "PhiForCausalLM"],
        "embd_pdrop": 0.0,
        "layer_norm_epsilon": 1e-05,
        "model_type": model_type,
        "n_embd": 48,
        "n_head": 4,
        "n_inner": None,
        "n_layer": 3,
        "n_positions": 2048,
        "rotary_dim": 8,
        "tie_word_embeddings": False,
        "vocab_size": 211,
    }
    if "mix" in model_type:
        raw |= {"architecture": {"block_cls": "parallel", "mixer": {}, "mlp": {"mlp_cls": "mlp"}}}
        raw |= {"embd_layer": "default", "phyagi_version": "0.0.4.dev"}
    else:
        raw |= {"flash_attn": False, "flash_rotary": False, "fused_dense": False, "n_head_kv": None}
    return raw | changes


@pytest.mark.parametrize("vocab_size", [211, 256])
@pytest.mark.parametrize("model_type", ["mixformer-sequential", "phi-msft", "phi"])
def test_phi(model_type: str, vocab_size: int, tmp_path: Path) -> None:
    """The first class made room for a multiple of 64 tokens, whatever the file said."""
    reference = reference_model("phi", **PHI, vocab_size=vocab_size)
    rename = mixformer_tensors if "mix" in model_type else msft_tensors
    write(tmp_path, phi_config(model_type), rename(tensors_of(reference, tmp_path)))
    check(reference, tmp_path, length=40)


@pytest.mark.parametrize("rename", [dict, msft_tensors, mixformer_tensors])
@pytest.mark.parametrize("model_type", ["mixformer-sequential", "phi-msft"])
def test_phi_names_and_keys_of_different_times(model_type: str, rename: Any, tmp_path: Path) -> None:
    reference = reference_model("phi", **PHI)
    write(tmp_path, phi_config(model_type), rename(tensors_of(reference, tmp_path)))
    ids = random_ids(2, 20)
    assert_close(load(tmp_path, dtype="float32")[0](ids), logits_of(reference, ids))


def test_phi_with_groups_and_buffers(tmp_path: Path) -> None:
    reference = reference_model("phi", **PHI, num_key_value_heads=2)
    tensors = msft_tensors(tensors_of(reference, tmp_path))
    tensors["transformer.h.0.mixer.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    write(tmp_path, phi_config("phi-msft", n_head_kv=2), tensors)
    ids = random_ids(2, 20)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_phi_with_names_of_its_first_feed_forward_layer(tmp_path: Path) -> None:
    reference = reference_model("phi", **PHI)
    tensors = mixformer_tensors(tensors_of(reference, tmp_path))
    tensors = {
        name.replace(".fc1.", ".fc_in.").replace(".fc2.", ".fc_out."): a for name, a in tensors.items()
    }
    write(tmp_path, phi_config("mixformer-sequential"), tensors)
    ids = random_ids(2, 20)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_phi_turns_whole_heads_where_they_are_narrow(tmp_path: Path) -> None:
    """``rotary_dim`` is 32 unless something else is said, and no more than a head has."""
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}
    reference = reference_model("phi", **{**PHI, "rope_parameters": rope})
    raw = phi_config("phi-msft")
    del raw["rotary_dim"]
    write(tmp_path, raw, msft_tensors(tensors_of(reference, tmp_path)))
    ids = random_ids(2, 20)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


# --- StableLM: stablelm_epoch

STABLELM = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6}
STABLELM |= {"num_key_value_heads": 3, "layer_norm_eps": 1e-3}
STABLELM |= {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}}
OLD_STABLELM = {
    "architectures": ["StableLMEpochForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 48,
    "intermediate_size": 80,
    "max_position_embeddings": 4096,
    "model_type": "stablelm_epoch",
    "norm_eps": 1e-3,
    "num_attention_heads": 6,
    "num_heads": 6,
    "num_hidden_layers": 3,
    "num_key_value_heads": 3,
    "rope_pct": 0.5,
    "rope_theta": 500,
    "rotary_scaling_factor": 1.0,
    "tie_word_embeddings": False,
    "vocab_size": 211,
}


@pytest.mark.parametrize("biases", [{}, {"use_qkv_bias": True}], ids=["3B", "1.6B"])
def test_stablelm(biases: dict[str, bool], tmp_path: Path) -> None:
    reference = reference_model("stablelm", **STABLELM, **biases)
    write(tmp_path, OLD_STABLELM | biases, tensors_of(reference, tmp_path))
    check(reference, tmp_path, length=40)


# --- OLMo: hf_olmo, and olmo with its keys

OLMO = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6}
OLD_OLMO = {
    "activation_type": "swiglu",
    "alibi": False,
    "alibi_bias_max": 8.0,
    "architectures": ["OLMoForCausalLM"],
    "attention_layer_norm": False,
    "attention_layer_norm_with_affine": False,
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "sequential",
    "clip_qkv": None,
    "d_model": 48,
    "embedding_size": 211,
    "flash_attention": True,
    "include_bias": False,
    "init_device": "meta",
    "layer_norm_type": "default",
    "layer_norm_with_affine": False,
    "max_sequence_length": 2048,
    "mlp_hidden_size": 160,
    "mlp_ratio": 4,
    "model_type": "hf_olmo",
    "multi_query_attention": False,
    "n_heads": 6,
    "n_layers": 3,
    "precision": "amp_bf16",
    "rope": True,
    "rope_full_precision": True,
    "scale_logits": False,
    "vocab_size": 200,
    "weight_tying": False,
}
OLMOS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "7B": ({}, {}),
    "1B, tied": ({"tie_word_embeddings": True}, {"weight_tying": True}),
    "clipped": ({"clip_qkv": 0.5}, {"clip_qkv": 0.5}),
    "groups": ({"num_key_value_heads": 2}, {"n_kv_heads": 2}),
    "one group": ({"num_key_value_heads": 1}, {"multi_query_attention": True}),
    "width by ratio": ({"intermediate_size": 96}, {"mlp_hidden_size": None}),
    "base": ({"rope_parameters": {"rope_type": "default", "rope_theta": 90.0}}, {"rope_theta": 90}),
    "no room": ({}, {"embedding_size": None, "vocab_size": 211}),
    "first files": ({}, {"model_type": "olmo"}),
}


def olmo_tensors(today: Tensors) -> Tensors:
    renamed = {"model.transformer.wte.weight": today["model.embed_tokens.weight"]}
    if "lm_head.weight" in today:
        renamed["model.transformer.ff_out.weight"] = today["lm_head.weight"]
    for i in range(OLMO["num_hidden_layers"]):
        theirs, ours = f"model.layers.{i}", f"model.transformer.blocks.{i}"
        qkv = [today[f"{theirs}.self_attn.{letter}_proj.weight"] for letter in "qkv"]
        both = [today[f"{theirs}.mlp.{name}_proj.weight"] for name in ("up", "gate")]
        renamed |= {
            f"{ours}.att_proj.weight": np.concatenate(qkv),
            f"{ours}.attn_out.weight": today[f"{theirs}.self_attn.o_proj.weight"],
            f"{ours}.ff_proj.weight": np.concatenate(both),
            f"{ours}.ff_out.weight": today[f"{theirs}.mlp.down_proj.weight"],
        }
    return renamed


@pytest.mark.parametrize(("settings", "changes"), OLMOS.values(), ids=OLMOS)
def test_olmo(settings: dict[str, Any], changes: dict[str, Any], tmp_path: Path) -> None:
    reference = reference_model("olmo", **{**OLMO, **settings})
    write(tmp_path, OLD_OLMO | changes, olmo_tensors(tensors_of(reference, tmp_path)))
    check(reference, tmp_path, length=40)


def test_olmo_rounded(tmp_path: Path) -> None:
    """Two matrices of one tensor, each rounded by itself: as where they are apart."""
    reference = reference_model("olmo", **OLMO)
    tensors = tensors_of(reference, tmp_path)
    ids = random_ids(2, 20)
    for dtype in ("bfloat16", "int8"):
        write(tmp_path, json.loads(reference.config.to_json_string()), tensors)
        apart = load(tmp_path, dtype=dtype)[0](ids)
        write(tmp_path, OLD_OLMO, olmo_tensors(tensors))
        assert_close(load(tmp_path, dtype=dtype)[0](ids), apart, tolerance=1e-5)


# --- what they ask for and nobody computes here

BAD: list[tuple[dict[str, Any], str]] = [
    (
        falcon_config("RefinedWeb", {}) | {"apply_residual_connection_post_layernorm": True},
        "post_layernorm = True",
    ),
    (falcon_config("RefinedWeb", {"num_kv_heads": 2}) | {"parallel_attn": False}, "parallel_attn = False"),
    (falcon_config("RefinedWebModel", {}) | {"n_head": 5}, "In this file .*n_head"),
    (phi_config("phi-msft", n_embd=50), "In this file .*hidden_size is n_embd"),
    (phi_config("phi-msft", rotary_dim=7), "rotary_dim = 7"),
    (phi_config("phi-msft", rotary_dim=0), "rotary_dim = 0"),
    (
        phi_config("mixformer-sequential", architecture={"block_cls": "sequential"}),
        r"block_cls = 'sequential'",
    ),
    (phi_config("mixformer-sequential", architecture={"mixer": {"mixer_cls": "conv"}}), "mixer_cls = 'conv'"),
    (
        phi_config("mixformer-sequential", architecture={"mixer": {"softmax_scale": 0.5}}),
        "softmax_scale = 0.5",
    ),
    (phi_config("mixformer-sequential", architecture={"mixer": "mha"}), "architecture.mixer = 'mha'"),
    (phi_config("mixformer-sequential", architecture=[{"block_cls": "parallel"}]), "architecture = "),
    (OLD_STABLELM | {"rotary_scaling_factor": 2.0}, "rotary_scaling_factor = 2.0 is not implemented"),
    (OLD_STABLELM | {"norm_eps": 0}, "In this file layer_norm_eps is norm_eps"),
    (OLD_OLMO | {"rope": False}, "rope = False is not implemented"),
    (OLD_OLMO | {"alibi": True}, "alibi = True is not implemented"),
    (OLD_OLMO | {"layer_norm_type": "rms"}, "layer_norm_type = 'rms' is not implemented"),
    (OLD_OLMO | {"layer_norm_with_affine": True}, "layer_norm_with_affine = True is not implemented"),
    (OLD_OLMO | {"include_bias": True}, "include_bias = True is not implemented"),
    (OLD_OLMO | {"activation_type": "gelu"}, "activation_type = 'gelu' is not implemented"),
    (OLD_OLMO | {"block_type": "llama"}, "block_type = 'llama' is not implemented"),
    (OLD_OLMO | {"block_group_size": 4}, "block_group_size = 4 is not implemented"),
    (OLD_OLMO | {"attention_layer_norm": True}, "attention_layer_norm = True is not implemented"),
    (OLD_OLMO | {"scale_logits": True}, "scale_logits = True is not implemented"),
    (OLD_OLMO | {"mlp_hidden_size": 161}, "mlp_hidden_size = 161"),
    (OLD_OLMO | {"embedding_size": 199}, "embedding_size = 199 is less than vocab_size = 200"),
    ({"model_type": "minimax_text_01", "rotary_dim": 7}, "rotary_dim = 7, but it must be even"),
    ({"model_type": "minimax_m1", "attn_type_list": [0, 2]}, r"attn_type_list = \[0, 2\]"),
    ({"model_type": "MiniMaxText01", "postnorm": False}, "postnorm = False is not implemented"),
]


@pytest.mark.parametrize(("raw", "message"), BAD)
def test_bad_configs(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_class(raw["model_type"]).Config.from_dict(raw)


def test_each_is_tried_and_named() -> None:
    tried = {raw["model_type"] for raw, _ in BAD}
    assert tried == OLD_SPELLINGS.keys()
    page = (Path(__file__).parents[2] / "docs" / "model_types.md").read_text(encoding="utf-8")
    assert [name for name in tried if f"| `{name}` |" not in page] == []


def test_a_missing_tensor_is_named_as_in_the_file(tmp_path: Path) -> None:
    tensors = olmo_tensors(tensors_of(reference_model("olmo", **OLMO), tmp_path))
    del tensors["model.transformer.blocks.1.ff_proj.weight"]
    with pytest.raises(CheckpointError, match=r"it lacks 'model\.transformer\.blocks\.1\.ff_proj\.weight'\."):
        load(write(tmp_path, OLD_OLMO, tensors))


@pytest.mark.parametrize("raw", [OLD_OLMO, OLD_STABLELM, phi_config("phi"), falcon_config("RefinedWeb", {})])
def test_inspect(raw: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert tinystar(["inspect", str(tmp_path)]) == 0
    assert "text part" not in capsys.readouterr().out
