"""Configs and weights that do not fit: each is refused with the key or tensor named."""

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tinystar_np.errors import CheckpointError, ConfigError, InputError
from tinystar_np.loading import load


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "xlnet"}, r"model_type 'xlnet', which is not implemented here.\nImplemented: .*gpt2"),
        ({"n_head": 5}, "n_embd = 48 cannot be divided among n_head = 5"),
        ({"n_head": 0}, "H = 0"),
        ({"n_layer": -1}, "L = -1"),
        ({"n_embd": 48.5}, "n_embd = 48.5, but it must be int"),
        ({"n_layer": True}, "n_layer = True, but it must be int"),
        ({"n_inner": "wide"}, "n_inner = 'wide', but it must be int or null"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon = nan"),
        ({"layer_norm_epsilon": float("inf")}, "layer_norm_epsilon = inf"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon = 0.0 must be above 0"),
        ({"scale_attn_weights": "yes"}, "scale_attn_weights = 'yes', but it must be bool"),
        (
            {"activation_function": "prelu"},
            "activation_function = 'prelu' is not known here. Known: .*gelu_new",
        ),
        ({"add_cross_attention": True}, "add_cross_attention = True is not implemented"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_configs(changes: dict[str, Any], message: str, save_gpt2: Any) -> None:
    _, directory = save_gpt2()
    raw = json.loads((directory / "config.json").read_text()) | changes
    (directory / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match=message):
        load(directory)


def test_newer_spellings_of_the_sizes_are_read(save_gpt2: Any) -> None:
    _, directory = save_gpt2()
    raw = json.loads((directory / "config.json").read_text())
    names = {"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers"}
    raw = {names.get(key, key): value for key, value in raw.items()}
    (directory / "config.json").write_text(json.dumps(raw))
    assert load(directory)[0].config.n_embd == 48


def edit_weights(directory: Any, edit: Any) -> None:
    tensors = load_file(directory / "model.safetensors")
    edit(tensors)
    save_file(tensors, directory / "model.safetensors")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("transformer.h.1.ln_2.bias"), r"it lacks 'h.1.ln_2.bias'\."),
        (
            lambda t: t.update(adapter=torch.zeros(3)),
            r"it has 'adapter', which this architecture does not know",
        ),
        (
            lambda t: [t.pop(n) for n in list(t) if n.startswith("transformer.h.2")],
            r"it lacks 'h.2.attn.c_attn.bias', 'h.2.attn.c_attn.weight', .* and 8 more tensors",
        ),
        (
            lambda t: t.update({"transformer.h.0.mlp.c_fc.weight": torch.zeros(48, 191)}),
            r"model.safetensors: tensor 'transformer.h.0.mlp.c_fc.weight' has shape \(48, 191\), "
            r"the config asks for \(48, 192\)",
        ),
        (lambda t: t.update({"wte.weight": torch.zeros(211, 48)}), "'wte.weight' is there twice"),
        (
            lambda t: t.update({"transformer.wpe.weight": torch.zeros(96, 48, dtype=torch.int32)}),
            "transformer.wpe.weight.*I32",
        ),
    ],
)
def test_weights(edit: Any, message: str, save_gpt2: Any) -> None:
    _, directory = save_gpt2()
    edit_weights(directory, edit)
    with pytest.raises(CheckpointError, match=message):
        load(directory)


def test_an_untied_model_needs_its_output_layer(save_gpt2: Any) -> None:
    _, directory = save_gpt2(tie_word_embeddings=False)
    edit_weights(directory, lambda t: t.pop("lm_head.weight"))
    with pytest.raises(CheckpointError, match=r"it lacks 'lm_head.weight'"):
        load(directory)


def test_dtype(save_gpt2: Any) -> None:
    with pytest.raises(InputError, match="dtype = 'float8'"):
        load(save_gpt2()[1], dtype="float8")


def test_a_billion_layers(save_gpt2: Any) -> None:
    """Refused at once: their names alone would fill the memory."""
    _, directory = save_gpt2()
    raw = json.loads((directory / "config.json").read_text()) | {"n_layer": 10**9}
    (directory / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match="L = 1000000000; it must be at least 1 and at most 10000"):
        load(directory)
