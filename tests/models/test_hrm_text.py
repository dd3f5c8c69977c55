"""HRM-Text: layers that run at several depths have one set of weights, and a cache at each depth."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import assert_close, logits_of, random_ids, reference_model, save
from parity_cases import ROWS
from safetensors.torch import load_file, save_file

from tinystar_np.errors import ConfigError
from tinystar_np.layers.basic import Linear
from tinystar_np.loading import load
from tinystar_np.models.hrm_text import HrmTextConfig
from tinystar_np.models.memory import linears_of

CYCLING = {**ROWS["hrm_text"].smallest, "H_cycles": 2, "L_cycles": 3}
# As the makers' script writes it (conversion/convert_to_hf.py), but for smaller sizes.
MAKERS = {
    "model_type": "hrm_text",
    "architectures": ["HrmTextForCausalLM"],
    "vocab_size": 211,
    "hidden_size": 32,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "H_cycles": 2,
    "L_cycles": 3,
    "L_bp_steps": [0, 3],
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "initializer_range": 0.025515518153991442,
    "embedding_scale": 39.191835884530846,
    "prefix_lm": True,
    "pad_token_id": 0,
}


def cycling(directory: Path) -> Path:
    return save(reference_model("hrm_text", **CYCLING), directory)


def test_weights_are_shared_and_caches_are_not(tmp_path: Path) -> None:
    model, _ = load(cycling(tmp_path))
    stored = load_file(tmp_path / "model.safetensors")
    assert model.parameters == sum(tensor.numel() for tensor in stored.values())
    assert len(model.blocks) == 2 * (3 + 1) * 2
    uses = [id(vars(block)["attention"].q.weight) for block in model.blocks]
    low, high = uses[:2], uses[6:8]
    assert uses == (low * 3 + high) * 2
    assert len({*low, *high}) == 4
    cache = model.new_cache()
    model(random_ids(5), cache=cache)
    assert len(cache.states) == len(model.blocks)
    keys = [state.keys[:, :, :5] for state in cache.states]
    assert all(not np.array_equal(keys[0], other) for other in keys[1:])


def test_a_matrix_of_several_depths_is_copied_once(tmp_path: Path) -> None:
    model, _ = load(cycling(tmp_path), "float32")
    ids = random_ids(9)
    before = model(ids)
    model.move_into_memory()
    matrices = {id(linear.weight) for linear in linears_of(list(model.blocks))}
    stored = [name for name, array in model.weights.items() if "blocks" in name and array.ndim == 2]
    assert len(matrices) == len(stored)
    assert all(isinstance(linear, Linear) for linear in linears_of(list(model.blocks)))
    np.testing.assert_allclose(model(ids), before, rtol=1e-5, atol=1e-5)


def test_fused_or_apart(tmp_path: Path) -> None:
    """As transformers saves them, and as it has them in memory."""
    reference = reference_model("hrm_text", **CYCLING)
    ids = random_ids(2, 20)
    for original in (True, False):
        directory = tmp_path / str(original)
        reference.save_pretrained(directory, save_original_format=original)
        names = load_file(directory / "model.safetensors").keys()
        assert any("gqkv_proj" in name for name in names) == original
        assert_close(load(directory)[0](ids), logits_of(reference, ids))


def test_the_makers_files(tmp_path: Path) -> None:
    """Layers of a stack are counted, and the tensors are named as their script names them."""
    keys = {key: value for key, value in MAKERS.items() if key not in ("model_type", "architectures")}
    theirs = {"rope_theta", "num_key_value_heads", "L_bp_steps"}
    reference = reference_model("hrm_text", **{key: keys[key] for key in keys.keys() - theirs})
    reference.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    stack = "model.H_module.layers.1."
    assert {f"{stack}attn.gqkv_proj.weight", f"{stack}attn.o_proj.weight"} <= tensors.keys()
    assert {f"{stack}mlp.gate_up_proj.weight", "model.z_L_init"} <= tensors.keys()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(MAKERS))
    model, _ = load(tmp_path)
    ids = random_ids(2, 40)
    assert_close(model(ids), logits_of(reference, ids))
    assert model.trained_length == 4096


def test_as_transformers_generates_with_its_cache(tmp_path: Path) -> None:
    directory = cycling(tmp_path)
    reference = reference_model("hrm_text", **CYCLING)
    prompt = random_ids(12)
    more = {"max_new_tokens": 15, "do_sample": False, "eos_token_id": None}
    expected = reference.generate(torch.from_numpy(prompt[None]), **more)[0, 12:].tolist()
    model, _ = load(directory)
    cache, ids = model.new_cache(), list[int]()
    while len(ids) < len(expected):
        ids.append(int(model(ids[-1:] or prompt, cache=cache, last_only=True).argmax()))
    assert ids == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"H_cycles": 0}, "H_cycles = 0 must be at least 1"),
        ({"L_cycles": 0}, "L_cycles = 0 must be at least 1"),
        ({"num_layers_per_stack": 0}, "num_layers_per_stack = 0 must be at least 1"),
        ({"H_cycles": 10**9}, "at most 1000"),
        ({"embedding_scale": None, "initializer_range": 0}, "initializer_range = 0.*divided by it"),
    ],
)
def test_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HrmTextConfig.from_dict({**MAKERS, **changes})
