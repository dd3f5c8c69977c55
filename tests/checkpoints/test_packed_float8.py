"""FP8: all 256 codes, scales of blocks, outputs and matrices, as transformers and torch have them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_models import Packed, assert_shared_alike, save_packed
from parity import assert_close, edit_config, logits_of, random_ids, reference_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, FineGrainedFP8Config
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.checkpoints.packed_formats import with_packed
from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.float8 import E4M3, E5M2
from tinystar_np.loading import load

FP8 = torch.float8_e4m3fn
BLOCKS = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [32, 32]}
WHOLE = {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}


@pytest.mark.parametrize(("code", "dtype"), [(E4M3, FP8), (E5M2, torch.float8_e5m2)])
def test_every_code_as_in_torch(code: Any, dtype: torch.dtype) -> None:
    codes = np.arange(256, dtype=np.uint8)
    expected = torch.from_numpy(codes).view(dtype).float().numpy()
    ours = code.decode(codes)
    np.testing.assert_array_equal(ours, expected)  # NaN is equal to NaN here
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(ours)[numbers], np.signbit(expected)[numbers])


def by_blocks(weight: torch.Tensor, side: int = 32, scale: torch.dtype = torch.float32) -> Packed:
    """As DeepSeek packs: the largest weight of a block becomes 448."""
    rows, columns = weight.shape
    grid = -(-rows // side), -(-columns // side)
    padded = torch.zeros(grid[0] * side, grid[1] * side)
    padded[:rows, :columns] = weight
    largest = padded.view(grid[0], side, grid[1], side).abs().amax((1, 3))
    scales = (largest / 448).to(scale)
    wide = scales.float().repeat_interleave(side, 0).repeat_interleave(side, 1)[:rows, :columns]
    codes = (weight / wide).to(FP8)
    return codes.float() * wide, {"weight": codes, "weight_scale_inv": scales}


def with_one_scale(weight: torch.Tensor) -> Packed:
    scale = weight.abs().max() / 448
    codes = (weight / scale).to(FP8)
    return codes.float() * scale, {
        "weight": codes,
        "weight_scale_inv": scale,
        "activation_scale": torch.tensor(0.5),
    }


def by_output(weight: torch.Tensor) -> Packed:
    scales = weight.abs().amax(1, keepdim=True) / 448
    codes = (weight / scales).to(FP8)
    return codes.float() * scales, {"weight": codes, "weight_scale": scales}


def in_bfloat16(weight: torch.Tensor) -> Packed:
    return by_blocks(weight, scale=torch.bfloat16)


@pytest.mark.parametrize("pack", [by_blocks, in_bfloat16, with_one_scale, by_output])
@pytest.mark.filterwarnings("ignore:.*scales for rounding activations")
def test_logits(pack: Callable[[torch.Tensor], Packed], tmp_path: Path) -> None:
    settings = {with_one_scale: WHOLE, by_output: {"quant_method": "fbgemm_fp8"}}.get(pack, BLOCKS)
    reference = save_packed(tmp_path, pack, settings)
    ids = random_ids(2, 40)
    expected = logits_of(reference, ids)
    for dtype in ("auto", "float32"):
        model, _ = load(tmp_path, dtype)
        assert_close(model(ids), expected)
        assert_close(model(ids[0, :1]), expected[0, :1])
        if dtype == "auto":
            assert_shared_alike(tmp_path, model, ids)
        kept = [array for array in model.weights.values() if isinstance(array, CodedMatrix)]
        assert len(kept) == (2 * 7 if dtype == "auto" else 0)
    for dtype in ("bfloat16", "int8"):
        assert_close(load(tmp_path, dtype)[0](ids), expected, 0.2)


@pytest.mark.parametrize(("pack", "side"), [(by_blocks, 32), (in_bfloat16, 32), (by_blocks, 16)])
def test_transformers_reads_the_same_file(
    pack: Callable[[torch.Tensor], Packed], side: int, tmp_path: Path
) -> None:
    """Widened when it is loaded, which is all that it can do without a graphics card."""
    pytest.importorskip("accelerate", reason="transformers reads FP8 with this package only")
    side_by_side = partial(pack, side=side) if pack is by_blocks else pack
    save_packed(tmp_path, side_by_side, BLOCKS | {"weight_block_size": [side, side]})
    reference, report = AutoModelForCausalLM.from_pretrained(
        tmp_path,
        quantization_config=FineGrainedFP8Config(dequantize=True),
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
    )
    assert not any(report.values())
    ids = random_ids(2, 40)
    model, _ = load(tmp_path)
    assert_close(model(ids), logits_of(reference.eval(), ids))


def test_bit_for_bit_as_transformers_unpacks(tmp_path: Path) -> None:
    save_packed(tmp_path, by_blocks, BLOCKS)
    model, _ = load(tmp_path, "float32")
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    theirs = Fp8Dequantize(None)._dequantize_one(tensors[name], tensors[f"{name}_scale_inv"], torch.float32)
    np.testing.assert_array_equal(model.weights["blocks.1.feed_forward.down.weight"], theirs.T)


def test_sides_that_blocks_do_not_divide(tmp_path: Path) -> None:
    """DeepSeek-V3's own block, and latent attention, whose narrow matrices are part of one."""
    sizes = {
        "hidden_size": 160,
        "intermediate_size": 200,
        "moe_intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "q_lora_rank": 40,
        "kv_lora_rank": 40,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 24,
        "v_head_dim": 24,
        "n_routed_experts": 4,
        "n_group": 2,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "n_shared_experts": 1,
    }
    settings = BLOCKS | {"weight_block_size": [128, 128]}
    reference = reference_model("deepseek_v3", **sizes)
    reference.save_pretrained(tmp_path, save_original_format=True)
    tensors = load_file(tmp_path / "model.safetensors")
    packed = dict(tensors)
    for name in tensors:
        if (".layers." in name and name.endswith("_proj.weight")) or "kv_a_proj" in name:
            tensors[name], parts = by_blocks(tensors[name], 128)
            packed |= {name.removesuffix("weight") + part: tensor for part, tensor in parts.items()}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    unpacked = type(reference).from_pretrained(tmp_path, attn_implementation="eager")
    expected = logits_of(unpacked, random_ids(2, 40))
    save_file(packed, tmp_path / "model.safetensors")

    edit_config(tmp_path, quantization_config=settings)
    model, _ = load(tmp_path)
    assert_close(model(random_ids(2, 40)), expected)
    kinds = [type(array) for name, array in model.weights.items() if ".experts." in name]
    assert set(kinds) == {CodedMatrix}


def test_activation_scales_are_left_out_with_a_word(tmp_path: Path) -> None:
    save_packed(tmp_path, with_one_scale, WHOLE)
    with pytest.warns(UserWarning, match="14 scales for rounding activations are ignored"):
        load(tmp_path)


def test_fused_experts(tmp_path: Path) -> None:
    """As transformers 5 may write them: all experts of a layer in one tensor."""
    weight = torch.randn(3, 64, 48)
    packed = [by_blocks(each) for each in weight]
    parts = {end: torch.stack([each[1][end] for each in packed]) for end in packed[0][1]}
    save_file(
        {"experts.down_proj": parts["weight"], "experts.down_proj_scale_inv": parts["weight_scale_inv"]},
        tmp_path / "model.safetensors",
    )
    checkpoint = with_packed(open_checkpoint(tmp_path), {"quantization_config": BLOCKS})
    assert list(checkpoint) == ["experts.down_proj"]
    np.testing.assert_array_equal(checkpoint["experts.down_proj"], torch.stack([each[0] for each in packed]))


NAME = "model.layers.1.mlp.down_proj.weight"
DAMAGED: dict[str, tuple[dict[str, torch.Tensor | None], str]] = {
    "no scales": ({f"{NAME}_scale_inv": None}, rf"'{NAME}' is packed and needs '{NAME}_scale_inv', which is"),
    "scales of another shape": (
        {f"{NAME}_scale_inv": torch.ones(2, 4)},
        rf"'{NAME}_scale_inv': its shape is \(2, 4\), but '{NAME}' needs .*\(2, 5\)",
    ),
    "scales of another type": (
        {f"{NAME}_scale_inv": torch.ones(2, 5, dtype=torch.int32)},
        rf"'{NAME}_scale_inv' has element type I32, but '{NAME}' needs F32 or",
    ),
    "axes": ({NAME: torch.ones(64).to(FP8)}, rf"'{NAME}': it has 1 axes"),
    "another width": (
        {NAME: torch.ones(64, 159).to(FP8)},
        rf"'{NAME}' has shape \(64, 159\), the config asks for \(64, 160\)",
    ),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_damaged(fault: str, tmp_path: Path) -> None:
    changes, message = DAMAGED[fault]
    save_packed(tmp_path, by_blocks, BLOCKS, changes=changes)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


OTHERS: list[dict[str, Any]] = [
    {"fmt": "e5m2"},
    {"weight_block_size": [0, 128]},
    {"weight_block_size": 128},
    {"weight_block_size": [1.5, 2]},
]


@pytest.mark.parametrize("change", OTHERS)
def test_other_settings_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    save_packed(tmp_path, by_blocks, BLOCKS | change)
    with pytest.raises(ConfigError, match=r"quantization_config = .* is not implemented"):
        load(tmp_path)
