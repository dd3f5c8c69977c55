"""bitsandbytes: matrices packed here by the definition, and by the package itself where it is installed."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_models import GPT2, Packed, assert_equal_weights, assert_shared_alike, save_packed
from parity import assert_close, logits_of, random_ids

from tinystar_np.errors import CheckpointError
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.loading import load

SETTINGS = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
IN_8_BITS = {"quant_method": "bitsandbytes", "load_in_8bit": True}
# The definition does not depend on which sixteen numbers there are.
MAP = torch.tensor([-1.0, -0.7, -0.5, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.15, 0.25, 0.3, 0.4, 0.6, 0.7, 1.0])


def as_bytes(state: dict[str, Any]) -> torch.Tensor:
    return torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)


def by_definition(weight: torch.Tensor, block: int, nested: bool) -> Packed:
    """The weights in a row, in blocks, the first of two codes in the upper half of a byte."""
    flat = weight.reshape(-1)
    count = -(-len(flat) // block)
    padded = torch.zeros(count * block)
    padded[: len(flat)] = flat
    absmax = padded.reshape(count, block).abs().amax(1)
    state: dict[str, Any] = {
        "quant_type": "nf4",
        "blocksize": block,
        "dtype": "float32",
        "shape": [*weight.shape],
    }
    parts: dict[str, torch.Tensor] = {"weight.quant_map": MAP}
    if nested:
        offset = absmax.mean()
        table = torch.linspace(-1, 1, 256)
        groups = torch.arange(count) // 8
        rest = absmax - offset
        largest = torch.stack([rest[groups == g].abs().max() for g in range(int(groups.max()) + 1)])
        of_scales = (rest / largest[groups] * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        absmax = table[of_scales.long()] * largest[groups] + offset
        parts |= {
            "weight.absmax": of_scales,
            "weight.nested_absmax": largest,
            "weight.nested_quant_map": table,
        }
        state |= {"nested_blocksize": 8, "nested_dtype": "float32", "nested_offset": offset.item()}
    else:
        parts["weight.absmax"] = absmax
    scales = absmax.repeat_interleave(block)[: len(flat)]
    codes = ((flat / scales)[:, None] - MAP).abs().argmin(1)
    parts["weight"] = (codes[::2] << 4 | codes[1::2]).to(torch.uint8)[:, None]
    parts["weight.quant_state.bitsandbytes__nf4"] = as_bytes(state)
    return (MAP[codes] * scales).reshape(weight.shape), parts


def in_8_bits(weight: torch.Tensor) -> Packed:
    largest = weight.abs().amax(1)
    codes = torch.round(weight / largest[:, None] * 127).to(torch.int8)
    wide = codes.float() * (largest / 127)[:, None]
    return wide, {"weight": codes, "SCB": largest, "weight_format": torch.tensor(0, dtype=torch.uint8)}


def by_package(weight: torch.Tensor, kind: str, nested: bool) -> Packed:
    functional = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed").functional
    codes, state = functional.quantize_4bit(weight, quant_type=kind, blocksize=64, compress_statistics=nested)
    parts = {f"weight.{name}": tensor for name, tensor in state.as_dict(packed=True).items()}
    # As one row: its kernel for processors (0.50) begins a block with each row, which rounding does not do.
    state.shape = torch.Size([1, weight.numel()])
    return functional.dequantize_4bit(codes, state).reshape(weight.shape), parts | {"weight": codes}


PACKERS: dict[str, Callable[[torch.Tensor], Packed]] = {
    "blocks of 64": partial(by_definition, block=64, nested=False),
    "blocks across rows": partial(by_definition, block=256, nested=False),
    "quantised twice": partial(by_definition, block=64, nested=True),
    "bitsandbytes, NF4": partial(by_package, kind="nf4", nested=False),
    "bitsandbytes, NF4 twice": partial(by_package, kind="nf4", nested=True),
    "bitsandbytes, FP4": partial(by_package, kind="fp4", nested=False),
    "bitsandbytes, FP4 twice": partial(by_package, kind="fp4", nested=True),
    "8 bits": in_8_bits,
}


@pytest.mark.parametrize("packer", PACKERS)
def test_bit_for_bit(packer: str, tmp_path: Path) -> None:
    settings = IN_8_BITS if packer == "8 bits" else SETTINGS
    reference = save_packed(tmp_path, PACKERS[packer], settings)
    ids = random_ids(2, 30)
    expected = logits_of(reference, ids)
    wide, _ = load(tmp_path, "float32")
    assert_equal_weights(wide, reference)
    model, _ = load(tmp_path)
    assert_close(model(ids), expected)
    assert_close(model(ids[0, :1]), expected[0, :1])
    assert_shared_alike(tmp_path, model, ids)
    assert {type(a) for name, a in model.weights.items() if "feed_forward." in name} == {CodedMatrix}
    for dtype in ("bfloat16", "int8"):
        assert_close(load(tmp_path, dtype)[0](ids), expected, 0.2)


@pytest.mark.parametrize("packer", ["blocks of 64", "quantised twice", "8 bits"])
def test_layers_that_lie_as_in_out_are_packed_as_out_in(packer: str, tmp_path: Path) -> None:
    """transformers transposes those of GPT-2 before it rounds them."""
    settings = IN_8_BITS if packer == "8 bits" else SETTINGS
    reference = save_packed(tmp_path, PACKERS[packer], settings, model_type="gpt2", sizes=GPT2)
    ids = random_ids(2, 30)
    model, _ = load(tmp_path)
    assert_close(model(ids), logits_of(reference, ids))
    assert type(model.weights["blocks.1.feed_forward.up.weight"]) is CodedMatrix


def test_every_8_bit_weight_is_within_a_rounding_of_the_packages() -> None:
    """It multiplies by the scale and then by 1/127, with two roundings."""
    functional = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed").functional
    weight = torch.randn(50, 40)
    codes, largest, _ = functional.int8_vectorwise_quant(weight)
    theirs = functional.int8_vectorwise_dequant(codes, largest).numpy()
    ours = codes.numpy().astype(np.float32) * (largest.numpy() / np.float32(127))[:, None]
    np.testing.assert_allclose(ours, theirs, rtol=2e-7)


NAME = "model.layers.1.mlp.down_proj.weight"
STATE = {"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [64, 160]}
JSON = f"{NAME}.quant_state.bitsandbytes__nf4"
Changes = dict[str, torch.Tensor | None]
DAMAGED: dict[str, tuple[Changes, str]] = {
    "no map": ({f"{NAME}.quant_map": None}, rf"'{NAME}' is packed and needs '{NAME}\.quant_map', which"),
    "no scales": ({f"{NAME}.absmax": None}, rf"'{NAME}' is packed and needs '{NAME}\.absmax', which"),
    "scales of another shape": (
        {f"{NAME}.absmax": torch.ones(161)},
        rf"'{NAME}\.absmax' has shape \(161,\), but '{NAME}' needs \(160,\)",
    ),
    "scales of 8 bits": (
        {f"{NAME}.absmax": torch.ones(160, dtype=torch.uint8)},
        rf"needs '{NAME}\.nested_quant_map', which is missing",
    ),
    "a map of another type": ({f"{NAME}.quant_map": torch.ones(16).half()}, "element type F16, but"),
    "codes of another type": ({NAME: torch.ones(64, 160)}, "element type F32, but .* needs U8"),
    "codes of another shape": (
        {NAME: torch.ones(5, 1, dtype=torch.uint8)},
        rf"'{NAME}': its shape is \(5, 1\), but its state says \(64, 160\) weights",
    ),
    "no JSON": ({JSON: torch.ones(9, dtype=torch.uint8)}, "model.safetensors: .*JSON"),
    "a huge shape": ({JSON: as_bytes(STATE | {"shape": [2**40, 2]})}, "are no sizes of a matrix"),
    "a block of 0": ({JSON: as_bytes(STATE | {"blocksize": 0})}, "are no sizes of a matrix"),
    "one axis": ({JSON: as_bytes(STATE | {"shape": [10240]})}, "are no sizes of a matrix"),
    "an offset of text": ({JSON: as_bytes(STATE | {"nested_offset": "1"})}, "nested_offset is no number"),
    "an infinite offset": ({JSON: as_bytes(STATE | {"nested_offset": 1e300})}, "nested_offset is no number"),
    "an offset beyond floats": ({JSON: as_bytes(STATE | {"nested_offset": 10**400})}, "nested_offset is no"),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_damaged(fault: str, tmp_path: Path) -> None:
    changes, message = DAMAGED[fault]
    save_packed(tmp_path, PACKERS["blocks of 64"], SETTINGS, changes=changes)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("part", ["SCB", "weight_format"])
def test_damaged_8_bits(part: str, tmp_path: Path) -> None:
    name = f"{NAME.removesuffix('weight')}{part}"
    wrong = torch.tensor(3, dtype=torch.uint8) if part == "weight_format" else torch.ones(65)
    save_packed(tmp_path, in_8_bits, IN_8_BITS, changes={name: wrong})
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load(tmp_path)
