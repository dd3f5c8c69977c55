"""A random walk over the spellings of files: small models in some that transformers reads, held against it.

A seed chooses other values of some keys; then how they are spelled, which old, strange or foreign keys stand
beside them, and in which of many ways the tensors lie. What transformers reads without missing a weight, ours
has to compute alike; it may refuse what the walk over keys (test_config_walk.py) knows as refused.
"""

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from parity import assert_close, logits_of, name_in_file, old_spelling, reference_model
from safetensors.torch import load_file, save_file
from switches import CONFIG_MAPPING, IDS, TYPES, keys_of, others, small, walked_keys
from transformers import AutoModelForCausalLM, PreTrainedModel

from tinystar_np.checkpoints.model_files import INDEX_FILE
from tinystar_np.errors import ConfigError
from tinystar_np.loading import load

pytestmark = pytest.mark.usefixtures("one_blas_thread")

Tensors = dict[str, torch.Tensor]
SEEDS = range(8)
SHARDS = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
REFUSED = ("per_layer_config", "quantization_config")
FOREIGN: list[tuple[str, Any]] = [
    *(("_name_or_path", "x"), ("auto_map", {"AutoConfig": "c.C"}), ("use_cache", False), ("n_ctx", 64)),
    *(("mlp_bias", True), ("attention_bias", False), ("qkv_bias", False), ("use_qk_norm", True)),
    *(("shared_expert_intermediate_size", 0), ("moe_intermediate_size", 0), ("intermediate_size", None)),
    *(("clip_qkv", 0.3), ("layer_norm_eps", 0.3), ("rms_norm_eps", 0.3), ("layer_norm_epsilon", 0.3)),
    *(("norm_eps", 0.3), ("hidden_act", "relu"), ("activation_function", "relu"), ("n_inner", 7)),
    *(("head_dim", None), ("rope_scaling", None), ("rope_theta", None), ("partial_rotary_factor", None)),
    *(("rotary_dim", None), ("rotary_pct", None), ("logit_scale", 0.2), ("logits_scaling", 3.0)),
    *(("attention_multiplier", 0.3), ("embedding_multiplier", 5.0), ("residual_multiplier", 0.5)),
    *(("final_logit_softcapping", 1.0), ("query_pre_attn_scalar", 3), ("sliding_window_pattern", 2)),
    *(("layer_types", None), ("no_rope_layers", None), ("qk_layernorm", False), ("parallel_attn", True)),
    *(("multi_query", True), ("new_decoder_architecture", True), ("bias", True), ("use_bias", True)),
    *(("first_k_dense_replace", 1), ("n_shared_experts", 1), ("n_group", None), ("topk_group", None)),
    *(("decoder_sparse_step", 0), ("mlp_only_layers", []), ("norm_topk_prob", True), ("rms_norm", True)),
    *(("state_size", 3), ("expand", None), ("seq_length", None), ("rope_local_base_freq", 30.0)),
    *(("num_key_value_heads", None), ("num_kv_heads", None), ("max_position_embeddings", None)),
]
"""Keys of one architecture in the files of others, and what says nothing."""


def other_values(rng: random.Random, model_type: str) -> dict[str, Any]:
    """The small model with other values of a few keys."""
    raw = small(model_type)
    keys = [key for key in walked_keys(model_type) if key in keys_of(model_type) and "." not in key]
    for key in rng.sample([key for key in keys if key not in REFUSED], rng.choice([0, 0, 1, 2, 3])):
        case = rng.choice(others(model_type, key))
        raw |= {**case.given, **case.also, key: case.value}
    if model_type != "dbrx" and rng.random() < 0.4:
        raw["tie_word_embeddings"] = rng.random() < 0.7
    return copy.deepcopy(raw)


def respelled(rng: random.Random, model_type: str, raw: dict[str, Any]) -> dict[str, Any]:
    """The same config.json in other words, with some beside them."""
    if rng.random() < 0.6 and "rope_theta" in raw.get("rope_parameters", {}):
        changes = old_spelling(raw)
        raw = {key: value for key, value in {**raw, **changes}.items() if value is not None}
    if "dtype" in raw and rng.random() < 0.5:
        raw["torch_dtype"] = raw.pop("dtype")
    for other, name in CONFIG_MAPPING[model_type].attribute_map.items():
        if name in raw and rng.random() < 0.3:
            raw[other] = raw.pop(name)
    for key, default in keys_of(model_type).items():
        if raw.get(key, rng) == default and rng.random() < 0.15:
            del raw[key]
    raw |= {key: value for key, value in rng.sample(FOREIGN, rng.choice([0, 1, 2, 3, 4])) if key not in raw}
    return dict(rng.sample([*raw.items()], len(raw)))


def laid_out(rng: random.Random, reference: PreTrainedModel, saved: Tensors) -> Tensors:
    """The same tensors under other names, a tied one under either or both, and old buffers."""
    tensors = saved
    if rng.random() < 0.4:  # as safetensors.torch.save_model names them
        tensors = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    table, head = reference.get_input_embeddings().weight, "lm_head.weight"
    if table is reference.get_output_embeddings().weight:
        embedding = next(n for n, p in reference.named_parameters() if p is table)
        if embedding not in tensors and head in tensors:  # BLT's is saved under the head's name
            tensors[embedding] = tensors[head]
        embedding = name_in_file(tensors, embedding, table)
        tensors.pop(head, None)
        match rng.choice(["embedding", "both", "head"]):
            case "both":
                tensors[head] = tensors[embedding].clone()
            case "head":
                tensors[head] = tensors.pop(embedding)
    rotates = any(name.endswith("rotary_emb") for name, _ in reference.named_modules())
    if rotates and any(".self_attn." in name for name in tensors) and rng.random() < 0.3:
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
    prefix = reference.base_model_prefix + "."
    if rng.random() < 0.25:
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def write(rng: random.Random, directory: Path, raw: dict[str, Any], tensors: Tensors) -> None:
    """One file, or two and an index, which may name a head that is in none."""
    for path in directory.iterdir():
        path.unlink()
    (directory / "config.json").write_text(json.dumps(raw))
    if rng.random() < 0.7:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        return
    names = rng.sample([*tensors], len(tensors))
    weight_map = {"lm_head.weight": SHARDS[0]} if raw.get("tie_word_embeddings") else {}
    for shard, some in zip(SHARDS, (names[::2], names[1::2]), strict=True):
        save_file({name: tensors[name] for name in some}, directory / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(some, shard)
    (directory / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))


def what_transformers_says(directory: Path) -> np.ndarray | None:
    """Its logits; None where it cannot read the files, or misses a weight."""
    try:
        theirs, found = AutoModelForCausalLM.from_pretrained(
            directory, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
        )
        if getattr(theirs.config, "alibi", False):
            theirs.config._attn_implementation = "sdpa"  # Falcon adds it twice in the other form
        logits = logits_of(theirs.eval(), IDS)
    except Exception:
        return None
    whole = not (found["missing_keys"] or found["mismatched_keys"] or found["unexpected_keys"])
    return logits if whole and np.isfinite(logits).all() else None


@pytest.mark.parametrize("model_type", TYPES)
def test_what_transformers_reads_is_computed_alike(model_type: str, tmp_path: Path) -> None:
    compared = 0
    for seed in SEEDS:
        rng = random.Random(f"{model_type} {seed}")
        raw = other_values(rng, model_type)
        try:
            reference = reference_model(model_type, **copy.deepcopy(raw))
        except (
            TypeError,
            ValueError,
            KeyError,
            AttributeError,
            RuntimeError,
            ArithmeticError,
            StrictDataclassError,
        ):
            continue  # values that do not go together
        reference.save_pretrained(tmp_path)
        spelled = respelled(rng, model_type, json.loads((tmp_path / "config.json").read_text()))
        write(rng, tmp_path, spelled, laid_out(rng, reference, load_file(tmp_path / "model.safetensors")))
        expected = what_transformers_says(tmp_path)
        if expected is None:
            continue
        try:
            model, _ = load(tmp_path, dtype="float32")
        except ConfigError as error:
            if "is not implemented" in str(error) or "rotates whole heads" in str(error):
                continue  # as test_config_walk.py knows
            raise
        assert_close(model(IDS), expected, what=f"seed {seed}")
        compared += 1
    assert compared
