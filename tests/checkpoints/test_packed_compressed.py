"""What the compressed-tensors package writes, packed and unpacked by the package itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_models import Packed, assert_shared_alike, save_packed
from parity import assert_close, logits_of, random_ids
from transformers import AutoModelForCausalLM, CompressedTensorsConfig

from tinystar_np import fast
from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.packed import Int8Matrix
from tinystar_np.loading import load
from tinystar_np.seeing.comparison.with_transformers import compare_with_transformers

pytest.importorskip("compressed_tensors", reason="the package of this format is not installed")

from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

SCHEMES: dict[str, tuple[str, dict[str, Any]]] = {
    "4 bits in groups": ("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 32}),
    "4 bits in groups, zero points": (
        "pack-quantized",
        {"num_bits": 4, "strategy": "group", "group_size": 16, "symmetric": False},
    ),
    "4 bits by output": ("pack-quantized", {"num_bits": 4, "strategy": "channel"}),
    "4 bits by output, zero points": (
        "pack-quantized",
        {"num_bits": 4, "strategy": "channel", "symmetric": False},
    ),
    "4 bits, one scale": ("pack-quantized", {"num_bits": 4, "strategy": "tensor"}),
    "8 bits packed": ("pack-quantized", {"num_bits": 8, "strategy": "group", "group_size": 32}),
    "8 bits packed, zero points": (
        "pack-quantized",
        {"num_bits": 8, "strategy": "group", "group_size": 32, "symmetric": False},
    ),
    "8 bits": ("int-quantized", {"num_bits": 8, "strategy": "channel"}),
    "8 bits in groups": ("int-quantized", {"num_bits": 8, "strategy": "group", "group_size": 32}),
    "8 bits, zero points": ("int-quantized", {"num_bits": 8, "strategy": "channel", "symmetric": False}),
    "4 bits in bytes": ("naive-quantized", {"num_bits": 4, "strategy": "group", "group_size": 32}),
    "FP8 by output": ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}),
    "FP8, one scale": ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"}),
    "FP8 in blocks": (
        "naive-quantized",
        {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [32, 32]},
    ),
    "NVFP4": (
        "nvfp4-pack-quantized",
        {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
    ),
    "MXFP4": (
        "mxfp4-pack-quantized",
        {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32},
    ),
}


def packer(form: str, given: dict[str, Any]) -> Callable[[torch.Tensor], Packed]:
    """Pack and unpack by the package, with scales that use the whole range."""
    arguments = QuantizationArgs(**given)
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments, format=form)
    compressor = BaseCompressor.get_value_from_registry(form)
    largest = {("int", 4): 7, ("int", 8): 127, ("float", 8): 448, ("float", 4): 6}[
        given.get("type", "int"), given["num_bits"]
    ]

    def pack(weight: torch.Tensor) -> Packed:
        rows, columns = weight.shape
        height, width = {
            "tensor": (rows, columns),
            "channel": (1, columns),
            "block": given.get("block_structure"),
        }.get(given["strategy"]) or (1, given["group_size"])
        blocks = weight.reshape(rows // height, height, columns // width, width)
        symmetric = given.get("symmetric", True)
        if symmetric:
            scales = blocks.abs().amax((1, 3)) / largest
        else:
            low, high = blocks.amin((1, 3)).clamp(max=0), blocks.amax((1, 3)).clamp(min=0)
            scales = (high - low) / (2 ** given["num_bits"] - 1)
        if form == "mxfp4-pack-quantized":
            scales = 2.0 ** scales.log2().ceil()
        state = {
            "weight": weight,
            "weight_scale": scales.reshape(-1) if height > 1 == scales.numel() else scales,
        }
        if not symmetric:
            low = torch.round(-low / scales) - 2 ** (given["num_bits"] - 1)
            state["weight_zero_point"] = low.to(torch.int8)
        if form == "nvfp4-pack-quantized":
            whole = 448 / scales.max()
            state |= {"weight_global_scale": whole.reshape(1)}
            state["weight_scale"] = (scales * whole).to(torch.float8_e4m3fn).float()
        parts = compressor.compress(state, scheme)
        wide = compressor.decompress({name: tensor.clone() for name, tensor in parts.items()}, scheme)[
            "weight"
        ]
        if form != "nvfp4-pack-quantized":
            return wide.float(), parts
        # The package computes this in bfloat16: here it is as float32, and equal when it is rounded.
        numbers = unpack_fp4_from_uint8(parts["weight_packed"], rows, columns, torch.float32)
        scales = parts["weight_scale"].float() / parts["weight_global_scale"]
        exact = numbers * scales.repeat_interleave(width, dim=1)
        assert torch.equal(exact.bfloat16(), wide.bfloat16())
        return exact, parts

    return pack


def settings(form: str, given: dict[str, Any], **more: Any) -> dict[str, Any]:
    """As the package writes it into config.json."""
    group = {
        "targets": ["Linear"],
        "format": form,
        "weights": QuantizationArgs(**given).model_dump(mode="json"),
    }
    said = {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed"}
    return said | {"ignore": ["lm_head"], "config_groups": {"group_0": group}, **more}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_as_the_package_unpacks(scheme: str, tmp_path: Path) -> None:
    form, given = SCHEMES[scheme]
    reference = save_packed(tmp_path, packer(form, given), settings(form, given))
    ids = random_ids(2, 30)
    expected = logits_of(reference, ids)
    wide, _ = load(tmp_path, "float32")
    ours = wide.weights["blocks.1.feed_forward.gate.weight"]
    theirs = reference.model.layers[1].mlp.gate_proj.weight.detach().numpy().T
    np.testing.assert_array_equal(ours, theirs)
    assert_close(wide(ids), expected)
    model, _ = load(tmp_path)
    assert_close(model(ids), wide(ids))
    assert_close(model(ids[0, :1]), wide(ids[0, :1]))
    assert_shared_alike(tmp_path, model, ids)
    kinds = {
        type(array) for name, array in model.weights.items() if "feed_forward" in name and "norm" not in name
    }
    assert kinds == {Int8Matrix if scheme == "8 bits" else CodedMatrix}


@pytest.mark.parametrize("scheme", ["4 bits in groups, zero points", "8 bits in groups", "FP8 by output"])
def test_transformers_reads_the_same_file(scheme: str, tmp_path: Path) -> None:
    form, given = SCHEMES[scheme]
    save_packed(tmp_path, packer(form, given), settings(form, given))
    reference = AutoModelForCausalLM.from_pretrained(
        tmp_path,
        quantization_config=CompressedTensorsConfig(dequantize=True),
        dtype=torch.float32,
        attn_implementation="eager",
    )
    ids = random_ids(2, 30)
    model, _ = load(tmp_path)
    assert_close(model(ids), logits_of(reference, ids))
    rows = compare_with_transformers(model, ids[0].tolist(), tmp_path)
    assert len(rows) > 10
    assert not any(row.exceeds(1e-5) for row in rows)


FORM, GIVEN = SCHEMES["4 bits in groups, zero points"]
NAME = "model.layers.1.mlp.down_proj.weight"


def test_columns_in_the_order_of_activations(tmp_path: Path) -> None:
    """ "actorder": which group a column is in, the file says."""
    groups = torch.randperm(64, generator=torch.Generator().manual_seed(1)) // 16
    name = "model.layers.1.mlp.up_proj.weight"
    changes = {f"{name}_g_idx": groups.int()}
    reference = save_packed(tmp_path, packer(FORM, GIVEN), settings(FORM, GIVEN), changes=changes)
    model, _ = load(tmp_path)
    plain = reference.model.layers[1].mlp.up_proj.weight.detach()
    matrix = model.weights["blocks.1.feed_forward.up.weight"]
    codes = matrix.code.decode(matrix.stored)[:, np.argsort(matrix.order)]
    scales, zeros, _ = matrix.shared(slice(None))
    expected = (codes - zeros[:, groups]) * scales[:, groups]
    np.testing.assert_array_equal(matrix.rows(slice(None)), expected)
    assert expected.shape == plain.shape
    x = np.random.default_rng(2).standard_normal((1, 64), dtype=np.float32)
    assert_close(fast.matmul(x, matrix), x @ expected.T)


INT = torch.int32
DAMAGED: dict[str, tuple[dict[str, torch.Tensor | None], str]] = {
    "no scales": ({f"{NAME}_scale": None}, rf"'{NAME}_packed' is packed and needs '{NAME}_scale', which"),
    "no shape": ({f"{NAME}_shape": None}, rf"'{NAME}_packed' is packed and needs '{NAME}_shape', which"),
    "scales of another shape": (
        {f"{NAME}_scale": torch.ones(64, 9)},
        rf"'{NAME}_scale': its shape is \(64, 9\), for \(64, 160\) weights in groups of 16",
    ),
    "scales of another type": ({f"{NAME}_scale": torch.ones(64, 10, dtype=INT)}, "element type I32"),
    "zero points of another shape": (
        {f"{NAME}_zero_point": torch.ones(9, 10, dtype=INT)},
        rf"'{NAME}_zero_point' has shape \(9, 10\), but '{NAME}_packed' needs \(64, 10\) or \(8, 10\)",
    ),
    "codes of another shape": (
        {f"{NAME}_packed": torch.ones(64, 19, dtype=INT)},
        rf"'{NAME}_packed': its shape is \(64, 19\), but '{NAME}_shape' says \(64, 160\)",
    ),
    "an absurd shape": ({f"{NAME}_shape": torch.tensor([64, 2**62])}, "says .*4611686018427387904"),
    "a negative shape": ({f"{NAME}_shape": torch.tensor([64, -160])}, r"says \(64, -160\)"),
    "groups of the wrong size": (
        {f"{NAME}_g_idx": torch.zeros(160, dtype=INT)},
        rf"'{NAME}_g_idx': it does not divide 160 columns into groups of 16",
    ),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_damaged(fault: str, tmp_path: Path) -> None:
    changes, message = DAMAGED[fault]
    save_packed(tmp_path, packer(FORM, GIVEN), settings(FORM, GIVEN), changes=changes)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


REFUSED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"num_bits": 3}, {}),
    ({}, {"format": "marlin-24"}),
    ({}, {"sparsity_config": {"format": "sparse-24-bitmask"}}),
    ({}, {"transform_config": {"config_groups": {"R1": {"type": "hadamard"}}}}),
    ({}, {"quantization_status": "frozen"}),
    ({}, {"config_groups": {}}),
]


@pytest.mark.parametrize(("given", "more"), REFUSED)
def test_other_settings_are_refused(given: dict[str, Any], more: dict[str, Any], tmp_path: Path) -> None:
    save_packed(tmp_path, packer(FORM, GIVEN), settings(FORM, GIVEN | given, **more))
    with pytest.raises(ConfigError, match=r"quantization_config = .* is not implemented"):
        load(tmp_path)
