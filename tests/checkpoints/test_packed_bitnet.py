"""BitNet's ternary weights in every way that files have them, against transformers' own layers.

Rounding is a staircase (kernels/ternary.py): a number on the edge of a step may fall to either side in two
programs. The texts here are short, so that none does; layers are also compared by themselves.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, edit_config, logits_of, random_ids, reference_model
from safetensors.torch import save_file
from transformers import BitNetQuantConfig
from transformers.integrations import bitnet

from tinystar_np import fast
from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.kernels.linear import unpacked
from tinystar_np.kernels.packed import TernaryMatrix
from tinystar_np.kernels.ternary import pack, rounded_vectors, ternary
from tinystar_np.loading import load
from tinystar_np.models import model_class

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
AUTO = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}
FORMS: dict[str, tuple[dict[str, Any], bool]] = {  # settings, and whether the weights are packed
    "packed": (AUTO, True),
    "not packed": (AUTO, False),
    "packed, divided": ({"quant_method": "bitnet"}, True),
    "as trained": ({**AUTO, "quantization_mode": "online", "modules_to_not_convert": ["lm_head"]}, False),
}


def saved(directory: Path, settings: dict[str, Any], packed: bool, **config: Any) -> torch.nn.Module:
    """Save a small model in one of the forms; returns transformers' with its layers for them."""
    model = reference_model("bitnet", **SIZES, **config)
    model.save_pretrained(directory)
    edit_config(directory, quantization_config=settings)
    tensors = dict(model.state_dict())
    quantisation = BitNetQuantConfig(**{k: v for k, v in settings.items() if k != "quant_method"})
    trained = {name: tensor.clone() for name, tensor in tensors.items()}
    bitnet.replace_with_bitnet_linear(model, ["lm_head"], quantisation)
    for name, layer in model.named_modules():
        if not isinstance(layer, bitnet.AutoBitLinear | bitnet.BitLinear):
            continue
        layer.to_empty(device="cpu")
        weight = trained[f"{name}.weight"]
        if layer.bias is not None:
            layer.bias.data = trained[f"{name}.bias"]
        if quantisation.quantization_mode == "online":
            layer.weight.data = weight
            continue
        scale = weight.abs().mean()
        values = (weight / scale).round().clamp(-1, 1)
        codes = bitnet.pack_weights(values.clone())
        if isinstance(layer, bitnet.BitLinear):
            layer.dtype, layer.weight, layer.weight_scale = torch.float32, codes, (1 / scale).reshape(1)
        else:
            layer.weight.data, layer.weight_scale = values, scale.reshape(1)
        tensors[f"{name}.weight"] = codes if packed else values
        tensors[f"{name}.weight_scale"] = layer.weight_scale
    save_file({name: t.detach().clone() for name, t in tensors.items()}, directory / "model.safetensors")
    return model.eval()


@pytest.fixture(autouse=True)
def uncompiled() -> Iterator[None]:
    """transformers compiles what unpacks and rounds, which takes a minute and needs a compiler."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize("config", [{}, {"attention_bias": True, "tie_word_embeddings": True}], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_as_transformers_computes(form: str, config: dict[str, Any], tmp_path: Path) -> None:
    settings, packed = FORMS[form]
    if settings == AUTO and config:  # biases are scaled as well there, and refused here: see below
        config = {"tie_word_embeddings": True}
    reference = saved(tmp_path, settings, packed, **config)
    ids = random_ids(1, 8)
    expected = logits_of(reference, ids)
    dense, _ = load(tmp_path, dtype="float32")
    assert_close(dense(ids), expected)
    model, _ = load(tmp_path)
    matrix = model.weights["blocks.0.attention.q.weight"]
    assert isinstance(matrix, TernaryMatrix)
    assert matrix.nbytes == 48 * 48 // 4
    assert_close(model(ids), expected)
    cache = model.new_cache()
    pieces = [model(piece, cache=cache) for piece in np.split(ids, [3, 4], axis=1)]
    assert_close(np.concatenate(pieces, axis=1), expected)


def test_a_layer_by_itself() -> None:
    """Of the same vectors, thousands of them, without a step of difference."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((40, 33), dtype=np.float32)
    x = random.standard_normal((500, 33), dtype=np.float32)
    values, scale = ternary(weight)
    layer = bitnet.AutoBitLinear(33, 40, bias=False, online_quant=True)
    layer.weight.data = torch.from_numpy(weight)
    expected = layer(torch.from_numpy(x)).detach().numpy()
    matrix = TernaryMatrix(pack(values), float(scale), transposed=True)
    assert_close(fast.matmul(rounded_vectors(x), matrix), expected)
    np.testing.assert_array_equal(unpacked(matrix), values.T * scale)
    np.testing.assert_array_equal(pack(values), bitnet.pack_weights(torch.from_numpy(values.copy())).numpy())


def test_a_vector_of_zeros() -> None:
    assert not rounded_vectors(np.zeros((2, 3), dtype=np.float32)).any()


def test_of_another_architecture_it_is_refused() -> None:
    """Its activations would have to be rounded as well."""
    with pytest.raises(ConfigError, match=r"quantization_config = .* is not implemented"):
        model_class("llama").Config.from_dict({"quantization_config": AUTO})


def test_biases_that_transformers_scales_are_refused() -> None:
    with pytest.raises(ConfigError, match="attention_bias = True is not implemented for ternary weights"):
        model_class("bitnet").Config.from_dict({"quantization_config": AUTO, "attention_bias": True})


@pytest.mark.parametrize(
    "change",
    [
        {"use_rms_norm": True},
        {"linear_class": "bits"},
        {"quantization_mode": "never"},
        {"modules_to_not_convert": ["model.layers.0.mlp"]},
        {"linear_class": "bitlinear", "quantization_mode": "online"},
    ],
)
def test_what_is_not_read(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="quantization_config"):
        model_class("bitnet").Config.from_dict({"quantization_config": {**AUTO, **change}})


@pytest.mark.parametrize("fault", ["no scale", "a scale of 0", "other numbers"])
def test_damaged_files(fault: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    settings, packed = FORMS["not packed" if fault == "other numbers" else "packed, divided"]
    saved(tmp_path, settings, packed)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    if fault == "no scale":
        del tensors[f"{name}_scale"]
    elif fault == "a scale of 0":
        tensors[f"{name}_scale"] = torch.zeros(1)
    else:
        tensors[name][0, 0] = 0.5
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="up_proj"):
        load(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bitnet"
