"""``convert`` into MXFP4: rounded once, then read alike by this package and by transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import edit_config, logits_of, random_ids, reference_model, save
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, CompressedTensorsConfig, Mxfp4Config, PreTrainedModel

from tinystar_np.cli.main import tinystar
from tinystar_np.conversion import convert
from tinystar_np.errors import InputError
from tinystar_np.fast.mapped import on_file
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.linear import unpacked
from tinystar_np.kernels.mxfp4 import dequantise, to_mxfp4
from tinystar_np.kernels.packed import Bfloat16Matrix
from tinystar_np.loading import load

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
DENSE: dict[str, dict[str, Any]] = {
    "llama": SMALL | {"tie_word_embeddings": False},
    "qwen2": SMALL | {"tie_word_embeddings": True},
    "phi3": SMALL | {"bos_token_id": 0, "eos_token_id": 0},
    "gpt_neox": SMALL,
    "mamba2": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_heads": 8,
        "head_dim": 16,
        "state_size": 8,
        "n_groups": 2,
    },
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64},
}
EXPERTS: dict[str, dict[str, Any]] = {
    "mixtral": SMALL | {"num_local_experts": 3},
    "qwen3_moe": SMALL | {"num_experts": 4, "moe_intermediate_size": 32, "num_experts_per_tok": 2},
}
GPT_OSS = SMALL | {"num_local_experts": 4, "head_dim": 16, "num_experts_per_tok": 2}
IDS = random_ids(2, 40)


def source(directory: Path, model_type: str, stored: torch.dtype = torch.float32) -> Path:
    sizes = {**DENSE, **EXPERTS, "gpt_oss": GPT_OSS}[model_type]
    return save(reference_model(model_type, **sizes).to(stored), directory)


def in_transformers(directory: Path, settings: Any) -> PreTrainedModel:
    theirs, report = AutoModelForCausalLM.from_pretrained(
        directory,
        quantization_config=settings,
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
    )
    assert not any(report.values())
    return theirs.eval()


def compressed_tensors() -> Any:
    pytest.importorskip("compressed_tensors", reason="transformers reads MXFP4 with this package only")
    return CompressedTensorsConfig(dequantize=True)


def assert_equal_weights(theirs: PreTrainedModel, wide: Path) -> None:
    expected = AutoModelForCausalLM.from_pretrained(wide, dtype=torch.float32).state_dict()
    found = theirs.state_dict()
    assert found.keys() == expected.keys()
    for name, weights in found.items():
        assert torch.equal(weights.float(), expected[name]), name


@pytest.mark.parametrize("model_type", DENSE)
def test_transformers_reads_the_same_weights(model_type: str, tmp_path: Path) -> None:
    convert(source(tmp_path / "old", model_type), tmp_path / "new", "mxfp4")
    convert(tmp_path / "new", tmp_path / "wide", "float32")
    theirs = in_transformers(tmp_path / "new", compressed_tensors())
    assert_equal_weights(theirs, tmp_path / "wide")
    model, _ = load(tmp_path / "new")
    expected = logits_of(theirs, IDS)
    assert np.abs(model(IDS) - expected).max() < 1e-5 * np.abs(expected).max()
    assert sum(isinstance(matrix, CodedMatrix) for matrix in model.weights.values()) >= 4
    assert json.loads((tmp_path / "new" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("model_type", EXPERTS)
def test_experts_with_tensors_of_their_own(model_type: str, tmp_path: Path) -> None:
    """transformers widens them to bfloat16, and computes with them in it: its weights are compared."""
    convert(source(tmp_path / "old", model_type), tmp_path / "new", "mxfp4")
    convert(tmp_path / "new", tmp_path / "wide", "float32")
    assert_equal_weights(in_transformers(tmp_path / "new", compressed_tensors()), tmp_path / "wide")
    expected = load(tmp_path / "wide")[0](IDS)
    assert np.abs(load(tmp_path / "new")[0](IDS) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("model_type", ["llama", "gpt_neox", "phi3"])
def test_transformers_computes_with_packed_weights_in_bfloat16(model_type: str, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors", reason="transformers reads MXFP4 with this package only")
    convert(source(tmp_path / "old", model_type), tmp_path / "new", "mxfp4")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "new", attn_implementation="eager").eval()
    assert sum(parameter.dtype == torch.uint8 for parameter in theirs.parameters()) >= 8
    convert(tmp_path / "new", tmp_path / "wide", "bfloat16")
    wide = AutoModelForCausalLM.from_pretrained(tmp_path / "wide", attn_implementation="eager").eval()
    with torch.no_grad():
        found, expected = (each(torch.from_numpy(IDS)).logits for each in (theirs, wide))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_what_is_rounded_and_what_is_not(stored: torch.dtype, tmp_path: Path) -> None:
    old = source(tmp_path / "old", "llama", stored)
    done = convert(old, tmp_path / "new", "mxfp4")
    before, after = (load_file(folder / "model.safetensors") for folder in (old, tmp_path / "new"))
    rounded = {name.removesuffix("_packed") for name in after if name.endswith("_packed")}
    assert len(rounded) == 14  # not the output layer
    assert done.of_this_type == sum(before[name].numel() for name in rounded)
    assert done.numbers == sum(tensor.numel() for tensor in before.values())
    assert done.nbytes == sum(tensor.nbytes for tensor in after.values())
    for name, tensor in before.items():
        if name in rounded:
            codes, exponents = to_mxfp4(tensor.float().numpy())
            np.testing.assert_array_equal(after[f"{name}_packed"], codes)
            np.testing.assert_array_equal(after[f"{name}_scale"], exponents)
        else:
            matrix = tensor.ndim == 2
            assert torch.equal(after[name], tensor.bfloat16() if matrix else tensor), name
    said = json.loads((tmp_path / "new" / "config.json").read_text())["quantization_config"]
    assert said["ignore"] == ["lm_head", "model.embed_tokens"]
    model, _ = load(tmp_path / "new")
    kinds = {type(matrix) for name, matrix in model.weights.items() if name.endswith(".weight")}
    assert kinds == {CodedMatrix, Bfloat16Matrix}
    assert all(on_file(m.stored) for m in model.weights.values() if not isinstance(m, np.ndarray))


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_gpt_oss_is_written_as_it_was_published(stored: torch.dtype, tmp_path: Path) -> None:
    old = source(tmp_path / "old", "gpt_oss", stored)
    convert(old, tmp_path / "new", "mxfp4", largest_file=50_000)
    names = json.loads((tmp_path / "new" / "model.safetensors.index.json").read_text())["weight_map"]
    assert {"model.layers.1.mlp.experts.down_proj_blocks", "model.layers.1.mlp.experts.down_proj_scales"} < {
        *names
    }
    theirs = in_transformers(tmp_path / "new", Mxfp4Config(dequantize=True))
    model, _ = load(tmp_path / "new")
    expected = logits_of(theirs, IDS)
    assert np.abs(model(IDS) - expected).max() < 1e-5 * np.abs(expected).max()
    wide, _ = load(old, "float32")
    for name in ("gate_up", "down"):
        matrix = model.weights[f"blocks.1.feed_forward.experts.3.{name}.weight"]
        plain = wide.weights[f"blocks.1.feed_forward.experts.3.{name}.weight"]
        assert isinstance(plain, np.ndarray)
        rounded = dequantise(*to_mxfp4(np.ascontiguousarray(plain.T))).T
        np.testing.assert_array_equal(unpacked(matrix), rounded)
    assert isinstance(model.weights["blocks.1.attention.q.weight"], Bfloat16Matrix)
    convert(tmp_path / "new", tmp_path / "again", "mxfp4")  # nothing is rounded twice
    np.testing.assert_array_equal(load(tmp_path / "again")[0](IDS), model(IDS))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "mxfp4"])
def test_it_can_be_converted_again(dtype: str, tmp_path: Path) -> None:
    convert(source(tmp_path / "old", "llama"), tmp_path / "new", "mxfp4")
    convert(tmp_path / "new", tmp_path / "again", dtype)
    first, again = load(tmp_path / "new")[0](IDS), load(tmp_path / "again")[0](IDS)
    tolerance = 0.1 if dtype == "int8" else 1e-5
    assert np.abs(again - first).max() < tolerance * np.abs(first).max()


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_from_other_types(dtype: str, tmp_path: Path) -> None:
    convert(source(tmp_path / "old", "llama"), tmp_path / "narrow", dtype)
    convert(tmp_path / "narrow", tmp_path / "wide", "float32")
    for name in ("narrow", "wide"):
        convert(tmp_path / name, tmp_path / f"{name} new", "mxfp4")
    found = [load_file(tmp_path / f"{name} new" / "model.safetensors") for name in ("narrow", "wide")]
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_widths_that_do_not_fit(tmp_path: Path) -> None:
    narrow = SMALL | {"hidden_size": 24, "intermediate_size": 40}
    save(reference_model("llama", **narrow), tmp_path / "old")
    with pytest.raises(InputError, match="a multiple of 32: none of its linear layers has"):
        convert(tmp_path / "old", tmp_path / "new", "mxfp4")
    save(reference_model("gpt_oss", **GPT_OSS | {"intermediate_size": 40}), tmp_path / "experts")
    with pytest.raises(InputError, match=r"'model.layers.0.mlp.experts.down_proj' has others"):
        convert(tmp_path / "experts", tmp_path / "new", "mxfp4")
    assert not (tmp_path / "new").exists()


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = source(tmp_path / "old", "llama"), tmp_path / "new"
    edit_config(old, dtype="float32")
    assert tinystar(["convert", str(old), str(new), "--dtype", "mxfp4"]) == 0
    assert capsys.readouterr().out == f"{new}: 87.9 KB, 69% of 88.8 K weights as mxfp4\n"
    assert tinystar(["inspect", str(new)]) == 0
    assert "14 tensors MXFP4" in capsys.readouterr().out
