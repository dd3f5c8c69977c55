"""Repositories with code of their own, read as the architecture of today that computes the same.

The reference is transformers' model of that architecture. Its tensors are renamed, and put into one matrix
where the repository has them in one, as the makers' conversions do the other way round; its config.json is
written with the repository's keys.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, check, logits_of, random_ids, reference_model, save
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedModel

from tinystar_np.conversion import convert
from tinystar_np.errors import ConfigError
from tinystar_np.loading import load
from tinystar_np.models import model_class
from tinystar_np.models.old_names import OLD_NAMES
from tinystar_np.models.text_part import text_config

Tensors = dict[str, np.ndarray]
LLAMA = {
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
}
SAID = {
    **LLAMA,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "vocab_size": 211,
}


def rope(theta: float, rule: str = "default", **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rule, "rope_theta": theta, **more}}


def write(directory: Path, raw: dict[str, Any], tensors: Tensors) -> Path:
    (directory / "config.json").write_text(json.dumps(raw))
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(arrays, directory / "model.safetensors")
    return directory


def tensors_of(reference: PreTrainedModel, directory: Path) -> Tensors:
    return load_file(save(reference, directory) / "model.safetensors")


def yi(tensors: Tensors) -> Tensors:
    renamed = {"input_layernorm": "ln1", "post_attention_layernorm": "ln2"}
    return {".".join(renamed.get(part, part) for part in name.split(".")): a for name, a in tensors.items()}


def mimo(tensors: Tensors) -> Tensors:
    drafts = ("self_attn.q_proj.bias", "mlp.down_proj.weight", "token_layernorm.weight", "input_proj.weight")
    return tensors | {f"model.mtp_layers.0.{name}": np.ones((3, 5), np.float32) for name in drafts}


def chatglm(tensors: Tensors) -> Tensors:
    """Rename what is one to one; lay queries, keys and values one below the other."""
    names = {
        "model.embed_tokens": "transformer.embedding.word_embeddings",
        "model.norm": "transformer.encoder.final_layernorm",
        "lm_head": "transformer.output_layer",
        "model.layers": "transformer.encoder.layers",
        "self_attn.o_proj": "self_attention.dense",
        "mlp.gate_up_proj": "mlp.dense_h_to_4h",
        "mlp.down_proj": "mlp.dense_4h_to_h",
    }
    found: Tensors = {"transformer.rotary_pos_emb.inv_freq": np.ones(3, np.float32)}
    for name, array in tensors.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue
        if ".q_proj." in name:
            parts = [tensors[name.replace(".q_proj.", f".{letter}_proj.")] for letter in "qkv"]
            array = np.concatenate(parts)
            name = name.replace("self_attn.q_proj", "self_attention.query_key_value")
        for today, theirs in names.items():
            name = name.replace(today, theirs)
        found[name] = array
    return found


# The first lines are today's model, the others what the repository's config.json says.
CHATGLM = {
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False,
    "architectures": ["ChatGLMModel"],
    "attention_dropout": 0.0,
    "attention_softmax_in_fp32": True,
    "bias_dropout_fusion": True,
    "eos_token_id": 2,
    "ffn_hidden_size": 40,
    "fp32_residual_connection": False,
    "hidden_dropout": 0.0,
    "hidden_size": 48,
    "kv_channels": 12,
    "layernorm_epsilon": 1e-05,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 6,
    "num_layers": 3,
    "original_rope": True,
    "pad_token_id": 0,
    "padded_vocab_size": 211,
    "post_layer_norm": True,
    "pre_seq_len": None,
    "prefix_projection": False,
    "quantization_bit": 0,
    "rmsnorm": True,
    "seq_length": 256,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_cache": True,
    "vocab_size": 211,
}
GLM = {**LLAMA, "num_key_value_heads": 2, "head_dim": 12, "attention_bias": True}
HALF = {"partial_rotary_factor": 0.5}
MINICPM = {"scale_emb": 12, "dim_model_base": 16, "scale_depth": 1.4}
GRANITE = {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 8**-0.5,
    "residual_multiplier": 1.4 / 3**0.5,
    "logits_scaling": 3.0,
}
NO_SCALES = {
    "embedding_multiplier": 1.0,
    "attention_multiplier": 8**-0.5,
    "residual_multiplier": 1 / 3**0.5,
    "logits_scaling": 48.0,
}
DYNAMIC = {"rotary": {"base": 500, "type": "dynamic", "scaling_factor": 2.0}}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], Any]] = {
    "Yi": ("Yi", {**rope(5e6), "num_key_value_heads": 2}, {"rope_theta": 5e6, "num_key_value_heads": 2}, yi),
    "aquila": ("aquila", {**rope(1e4)}, {}, dict),
    "aquila2": (
        "aquila",
        {**rope(1e6, "linear", factor=4.0), "num_key_value_heads": 3},
        {
            "rope_theta": 1e6,
            "rope_scaling": {"type": "linear", "factor": 4.0},
            "num_key_value_heads": 3,
        },
        dict,
    ),
    "xverse": ("xverse", {**rope(5e5)}, {"rope_theta": 5e5, "max_tokenizer_truncation": 128}, dict),
    "internlm": ("internlm", {**rope(1e4), "attention_bias": True}, {"bias": True}, dict),
    "internlm usual": ("internlm", {**rope(1e4), "attention_bias": True}, {}, dict),
    "internlm without biases": ("internlm", {**rope(1e4)}, {"bias": False}, dict),
    "internlm dynamic": (
        "internlm",
        {**rope(500.0, "dynamic", factor=2.0), "attention_bias": True},
        {"bias": True, **DYNAMIC},
        dict,
    ),
    "internlm origin": (
        "internlm",
        {**rope(500.0), "attention_bias": True},
        {"bias": True, "rotary": {"base": 500, "type": "origin"}},
        dict,
    ),
    "minicpm": (
        "minicpm",
        {**rope(1e4), **GRANITE, "tie_word_embeddings": True},
        {**MINICPM, "tie_word_embeddings": ..., "num_key_value_heads": 6},
        dict,
    ),
    "minicpm untied": ("minicpm", {**rope(1e4), **GRANITE}, MINICPM, dict),
    "minicpm usual": ("minicpm", {**rope(1e4), **NO_SCALES}, {}, dict),
    "mimo": (
        "mimo",
        {**rope(640000.0), "head_dim": 12, "num_key_value_heads": 2},
        {
            "attention_bias": True,
            "head_dim": 12,
            "num_key_value_heads": 2,
            "num_nextn_predict_layers": 1,
            "rope_theta": 640000,
            "use_sliding_window": False,
            "sliding_window": 32768,
            "max_window_layers": 36,
        },
        mimo,
    ),
    "orion": (
        "orion",
        {**rope(1e4, partial_rotary_factor=1.0), "layer_norm_eps": 1e-5, "num_key_value_heads": 6},
        {"pretraining_tp": 1, "max_sequence_length": 256, "rope_scaling": None},
        dict,
    ),
    "orion groups": (
        "orion",
        {**rope(1e6, partial_rotary_factor=1.0), "layer_norm_eps": 1e-5, "num_key_value_heads": 2},
        {"rope_theta": 1e6, "num_key_value_heads": 2},
        dict,
    ),
    "chatglm": ("chatglm", {**GLM, **rope(1e4, **HALF)}, CHATGLM, chatglm),
    "chatglm 32k": ("chatglm", {**GLM, **rope(5e5, **HALF)}, {**CHATGLM, "rope_ratio": 50}, chatglm),
    "chatglm without groups and biases": (
        "chatglm",
        {**GLM, **rope(1e4, **HALF), "num_key_value_heads": 6, "attention_bias": False},
        {**CHATGLM, "multi_query_attention": False, "add_qkv_bias": False},
        chatglm,
    ),
}


def raw_of(case: str) -> dict[str, Any]:
    """The repository's config.json."""
    model_type, _, said, _ = CASES[case]
    raw = {"model_type": model_type, **({} if model_type == "chatglm" else SAID), **said}
    return {key: value for key, value in raw.items() if value is not ...}


@pytest.mark.parametrize("case", CASES)
def test_as_today(case: str, tmp_path: Path) -> None:
    model_type, today, _, renamed = CASES[case]
    settings = {key: value for key, value in LLAMA.items() if model_type != "orion" or key != "rms_norm_eps"}
    reference = reference_model(
        OLD_NAMES[model_type][0], **{"tie_word_embeddings": False, **settings, **today}
    )
    write(tmp_path, raw_of(case), renamed(tensors_of(reference, tmp_path)))
    check(reference, tmp_path, length=40)


def test_all_are_tried() -> None:
    assert {model_type for model_type, *_ in CASES.values()} == OLD_NAMES.keys()


@pytest.mark.parametrize("case", ["chatglm", "minicpm"])
def test_converted(case: str, tmp_path: Path) -> None:
    """A directory that is written from one says what today's would."""
    model_type, today, _, renamed = CASES[case]
    reference = reference_model(OLD_NAMES[model_type][0], **{"tie_word_embeddings": False, **LLAMA, **today})
    (tmp_path / "old").mkdir()
    write(tmp_path / "old", raw_of(case), renamed(tensors_of(reference, tmp_path / "old")))
    convert(tmp_path / "old", tmp_path / "new", dtype="float32")
    ids = random_ids(2, 20)
    assert_close(load(tmp_path / "new")[0](ids), logits_of(reference, ids))


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("aquila", {"hidden_size": ...}, "hidden_size of model_type 'aquila' must be given"),
    ("chatglm", {"add_bias_linear": True}, "add_bias_linear = True is not implemented"),
    ("chatglm", {"position_encoding_2d": True}, "position_encoding_2d = True is not implemented"),
    ("chatglm", {"kv_channels": None}, "kv_channels of model_type 'chatglm' must be given"),
    ("chatglm", {"kv_channels": "12"}, "head_dim = '12', but it must be int"),
    ("chatglm", {"rope_ratio": 0}, "rope_ratio = 0 must be above 0"),
    ("chatglm", {"rmsnorm": False}, "rmsnorm = False is not implemented"),
    ("internlm", {"rotary": {"type": "linear"}}, r"rotary\.type = 'linear' is not known"),
    ("mimo", {"attention_bias": False}, "attention_bias = False is not implemented"),
    ("minicpm", {"dim_model_base": 0}, "dim_model_base = 0 must be at least 1"),
    ("minicpm", {"hidden_act": "fatrelu"}, "hidden_act = 'fatrelu' is not known"),
    ("minicpm", {"num_experts": 8}, "num_experts = 8 is not implemented"),
    ("minicpm", {"num_hidden_layers": 0}, "num_hidden_layers = 0 must be at least 1"),
    ("minicpm", {"scale_depth": "deep"}, "scale_depth = 'deep' must be a number"),
    ("orion", {"attention_bias": True}, "attention_bias = True is not implemented"),
    ("xverse", {"num_experts": 64}, "num_experts = 64 is not implemented"),
]


@pytest.mark.parametrize(("case", "changes", "message"), BAD)
def test_bad_configs(case: str, changes: dict[str, Any], message: str) -> None:
    raw = {key: value for key, value in {**raw_of(case), **changes}.items() if value is not ...}
    with pytest.raises(ConfigError, match=message):
        model_class(text_config(raw)["model_type"]).Config.from_dict(text_config(raw))


def test_they_are_named_among_those_that_run() -> None:
    with pytest.raises(ConfigError, match="The nearest that runs is xverse"):
        model_class("xvers")
