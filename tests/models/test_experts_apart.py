"""Experts with tensors of their own, where an architecture was published with all of a layer in one.

Formats of packed weights pack linear layers, so whoever writes them takes the experts apart first.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, edit_config, logits_of, random_ids, reference_model, save
from parity_cases import ROWS
from safetensors.torch import load_file, save_file
from test_llama4_text import SMALL as LLAMA4

from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.loading import load

QWEN = ROWS["qwen3_vl_moe_text"]
MODELS: dict[str, dict[str, Any]] = {
    "llama4_text": LLAMA4,
    "qwen3_vl_moe_text": {**QWEN.smallest, **QWEN.more},
}
OUT_IN = ("qwen3_vl_moe_text",)
"""Those whose experts transformers has as (out, in)."""
# As llm-compressor writes it: a scale for each output.
FLOAT8 = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True},
        }
    },
}


def in_float8(weight: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Round a matrix (out, in): its numbers then, and its parts."""
    scale = weight.abs().amax(1, keepdim=True) / 448
    codes = (weight / scale).to(torch.float8_e4m3fn)
    return codes.float() * scale, {"weight": codes, "weight_scale": scale}


def take_apart(reference: Any, path: Path, model_type: str, packed: bool) -> int:
    """Write a model's file anew, with a tensor for each matrix of an expert; returns how many there are.

    packed  round them, in the reference as well
    """
    tensors, count = {}, 0
    for name, tensor in load_file(path).items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensors[name] = tensor
            continue
        parameter = reference.get_parameter(name)
        module, kind = name.rsplit(".", 1)
        for e, stored in enumerate(parameter.detach()):
            matrix = stored if model_type in OUT_IN else stored.T  # (out, in), a view of the reference's
            parts = {kind: matrix}
            if kind == "gate_up_proj":
                gate, up = matrix.chunk(2)
                parts = {"gate_proj": gate, "up_proj": up}
            for part, weight in parts.items():
                count += 1
                wide, written = in_float8(weight) if packed else (weight, {"weight": weight})
                weight.copy_(wide.clone())
                tensors |= {f"{module}.{e}.{part}.{each}": made for each, made in written.items()}
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return count


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("model_type", MODELS)
def test_as_transformers(model_type: str, packed: bool, tmp_path: Path) -> None:
    reference = reference_model(model_type, **MODELS[model_type])
    count = take_apart(reference, save(reference, tmp_path) / "model.safetensors", model_type, packed)
    if packed:
        edit_config(tmp_path, quantization_config=FLOAT8)
    ids = random_ids(2, 20)
    model, _ = load(tmp_path)
    assert_close(model(ids), logits_of(reference, ids))
    experts = [array for name, array in model.weights.items() if ".experts." in name]
    assert len(experts) == count > 0
    assert {type(array) for array in experts} == {CodedMatrix if packed else np.ndarray}
