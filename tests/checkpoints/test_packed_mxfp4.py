"""gpt-oss in MXFP4: dequantised bit for bit as transformers does it, and the logits of the same weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, edit_config, logits_of, random_ids, reference_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Mxfp4Config
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from tinystar_np.errors import CheckpointError
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.mxfp4 import E2M1, E8M0, dequantise
from tinystar_np.loading import load

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "sliding_window": 8,
}


def random_experts(*shape: int, seed: int, exponents: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Random codes (*shape, 16) and exponents (*shape)."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 256, (*shape, 16), generator=generator, dtype=torch.uint8)
    return codes, torch.randint(*exponents, shape, generator=generator, dtype=torch.uint8)


def save_mxfp4(directory: Path, **changes: Any) -> torch.nn.Module:
    """Save a small gpt-oss with experts in MXFP4; return transformers' model with the same weights."""
    reference = reference_model("gpt_oss", **SMALL)
    reference.save_pretrained(directory)
    edit_config(
        directory, quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    )
    tensors = dict(reference.state_dict())
    with torch.no_grad():
        for i, block in enumerate(reference.model.layers):
            for name, outputs, inputs in (("gate_up_proj", 192, 64), ("down_proj", 64, 96)):
                codes, scales = random_experts(5, outputs, inputs // 32, seed=i, exponents=(119, 126))
                wide = convert_moe_packed_tensors(codes, scales, dtype=torch.float32)
                getattr(block.mlp.experts, name).copy_(wide)
                base = f"model.layers.{i}.mlp.experts.{name}"
                del tensors[base]
                tensors |= {f"{base}_blocks": codes, f"{base}_scales": scales}
    tensors |= changes
    save_file(
        {name: t.contiguous() for name, t in tensors.items() if t is not None},
        directory / "model.safetensors",
    )
    return reference


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_code_and_exponent_as_in_transformers(dtype: torch.dtype) -> None:
    """255 stands for NaN in the standard; transformers makes it 2¹²⁸."""
    codes = np.tile(np.arange(256, dtype=np.uint8), 16).reshape(1, 1, 256, 16).repeat(255, axis=0)
    exponents = np.broadcast_to(np.arange(255, dtype=np.uint8)[:, None, None], (255, 1, 256)).copy()
    expected = convert_moe_packed_tensors(torch.from_numpy(codes), torch.from_numpy(exponents), dtype=dtype)
    with np.errstate(over="ignore"):  # 6 · 2¹²⁷ is infinite
        ours = dequantise(codes.reshape(255, 1, -1), exponents).transpose(0, 2, 1)
    np.testing.assert_array_equal(ours.view(np.uint32), expected.float().numpy().view(np.uint32))
    assert np.isnan(dequantise(codes[:1, 0, :1], np.full((1, 1), 255, np.uint8))).all()


def test_the_matrix_is_the_kernel() -> None:
    codes, scales = random_experts(7, 3, seed=1, exponents=(0, 255))
    matrix = CodedMatrix(
        codes.numpy().reshape(7, -1), E2M1, scales.numpy(), block=(1, 32), scale_code=E8M0, transposed=True
    )
    expected = dequantise(matrix.stored, scales.numpy())
    np.testing.assert_array_equal(matrix.rows(slice(None)), expected)
    np.testing.assert_array_equal(matrix.rows(np.array([[3], [0]])), expected[[[3], [0]]])
    np.testing.assert_array_equal(matrix.part(slice(2, 5)).rows(slice(1, None)), expected[3:5])
    assert matrix.shape == (96, 7)
    assert matrix.nbytes == 7 * 3 * 17


def test_logits(tmp_path: Path) -> None:
    reference = save_mxfp4(tmp_path)
    ids = random_ids(2, 50)
    expected = logits_of(reference, ids)
    for dtype in ("auto", "float32", "bfloat16"):
        model, _ = load(tmp_path, dtype)
        if dtype != "bfloat16":  # which rounds attention; the experts' weights are exact in it
            assert_close(model(ids), expected)
        experts = [array for name, array in model.weights.items() if ".experts." in name and "weight" in name]
        assert len(experts) == 2 * 5 * 2
        assert {type(array) for array in experts} == {CodedMatrix} or dtype != "auto"
    for array in experts:
        assert not np.any(array.stored & 0xFFF & ~np.uint16(0xFFC0)), "more than two bits of mantissa"
    assert load(tmp_path, "int8")[0](ids).shape == expected.shape
    model, _ = load(tmp_path)
    cache = model.new_cache()
    alone = np.concatenate([model(ids[:1, t : t + 1], cache)[0] for t in range(50)])
    assert_close(alone, expected[0])


def test_transformers_reads_the_same_file(tmp_path: Path) -> None:
    save_mxfp4(tmp_path)
    reference = AutoModelForCausalLM.from_pretrained(
        tmp_path,
        quantization_config=Mxfp4Config(dequantize=True),
        dtype=torch.float32,
        attn_implementation="eager",
    )
    ids = random_ids(2, 30)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


NAME = "model.layers.1.mlp.experts.down_proj"
BYTES = torch.uint8
DAMAGED = {
    "no scales": (
        {f"{NAME}_scales": None},
        rf"'{NAME}_blocks' is packed and needs '{NAME}_scales', which is",
    ),
    "scales of another shape": (
        {f"{NAME}_scales": torch.zeros(5, 64, 2, dtype=BYTES)},
        rf"'{NAME}_scales' has shape \(5, 64, 2\), but '{NAME}_blocks' needs \(5, 64, 3\)",
    ),
    "scales of another type": (
        {f"{NAME}_scales": torch.zeros(5, 64, 3)},
        rf"'{NAME}_scales' has element type F32, but '{NAME}_blocks' needs U8",
    ),
    "codes of another type": (
        {f"{NAME}_blocks": torch.zeros(5, 64, 3, 16, dtype=torch.int32)},
        rf"'{NAME}_blocks' has element type I32, but",
    ),
    "axes": ({f"{NAME}_blocks": torch.zeros(5, 64, 48, dtype=BYTES)}, "axes"),
    "narrow blocks": ({f"{NAME}_blocks": torch.zeros(5, 64, 3, 8, dtype=BYTES)}, "blocks have 8 bytes"),
    "another width": (
        {
            f"{NAME}_blocks": torch.zeros(5, 64, 2, 16, dtype=BYTES),
            f"{NAME}_scales": torch.zeros(5, 64, 2, dtype=BYTES),
        },
        rf"'{NAME}' has shape \(5, 64, 64\), the config asks for \(5, 96, 64\)",
    ),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_damaged(fault: str, tmp_path: Path) -> None:
    changes, message = DAMAGED[fault]
    save_mxfp4(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


def test_without_the_setting_its_parts_are_unknown(tmp_path: Path) -> None:
    save_mxfp4(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["quantization_config"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="down_proj_blocks"):
        load(tmp_path)
