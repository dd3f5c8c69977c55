"""Repositories of MLX: names of its own, and convolutions with the channels last, against transformers."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qwen_vl_parity
import test_gemma3
import test_llava
import test_pixtral
import test_smolvlm
import torch
from packed_words import mlx
from parity import assert_close, edit_config, logits_of, random_ids, reference_model, save
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from vision_parity import images_in_turn, images_of_any_size, logits_with_images, two_one_none, whole_model

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.conversion import convert
from tinystar_np.loading import load

CONVOLUTIONS = ("conv1d", "patch_conv", "patch_embedding", "patch_embed.proj")
BITS, SIZE = 4, 8


def named(name: str, kind: str) -> str:
    """What mlx-vlm calls a tensor of transformers', as its ``sanitize`` functions write it."""
    name = re.sub(r"^model\.(visual|vision_tower)\b", r"vision_tower", name)
    name = re.sub(r"^model\.(connector|vision_model|multi_modal_projector)\b", r"\1", name)
    name = re.sub(r"^lm_head\b", "language_model.lm_head", name)
    if kind == "smolvlm":
        return re.sub(r"^model\.text_model\b", "language_model", name)
    name = re.sub(r"^model\.language_model\b", "language_model.model", name)
    within = "vision_tower.vision_model."  # of encoders that have no module of this name, too
    of_qwen = kind.startswith("qwen")
    return name if of_qwen or within in name else name.replace("vision_tower.", within, 1)


def as_by_mlx(reference: Any, path: Path, kind: str) -> None:
    """Write a model's file anew as MLX does, and change its numbers to those of the packed matrices."""
    tensors = {}
    for name, parameter in dict(reference.named_parameters()).items():
        new, tensor = named(name, kind), parameter.detach()
        is_text = "language_model" in new
        if is_text and new.endswith(".weight") and tensor.ndim == 2:
            wide, parts = mlx(tensor, BITS, SIZE, torch.float16)
            parameter.data.copy_(wide)
            tensors |= {f"{new.removesuffix('weight')}{part}": packed for part, packed in parts.items()}
        elif any(f"{each}.weight" in name for each in CONVOLUTIONS):
            tensors[new] = tensor.movedim(1, -1).contiguous()
        else:
            tensors[new] = tensor.clone()
    save_file(tensors, path, {"format": "mlx"})


CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any], Any]] = {
    "smolvlm": (lambda: test_smolvlm.small_config("smolvlm"), test_smolvlm.small_rows, test_smolvlm.theirs),
    "llava": (test_llava.small_config, two_one_none, images_in_turn),
    "gemma3": (test_gemma3.small_config, test_gemma3.small_rows, test_gemma3.theirs),
    "pixtral": (test_pixtral.small_config, test_pixtral.small_rows, images_of_any_size),
    **{
        kind: (
            lambda kind=kind: qwen_vl_parity.small_config(kind),  # type: ignore[misc]
            qwen_vl_parity.small_rows,
            qwen_vl_parity.theirs_of,
        )
        for kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    },
}


@pytest.mark.parametrize("kind", CASES)
def test_models_that_see(kind: str, tmp_path: Path) -> None:
    config_of, rows, theirs = CASES[kind]
    config = config_of()
    reference = whole_model(config)
    as_by_mlx(reference, save(reference, tmp_path) / "model.safetensors", kind)
    settings = {"group_size": SIZE, "bits": BITS, "mode": "affine"}
    edit_config(tmp_path, quantization=settings, quantization_config=settings)
    (row,) = rows()[:1]
    given = theirs(config) if kind.startswith("qwen") else theirs
    expected = logits_with_images(reference, [row], given)[0]
    model, _ = load(tmp_path)
    assert_close(model(row[0], images=row[1]), expected)


def test_a_recurrence(tmp_path: Path) -> None:
    """Its convolution has a filter for each channel; the copy that is converted is as transformers has it."""
    reference = reference_model("mamba", hidden_size=32, num_hidden_layers=2, state_size=4)
    path = save(reference, tmp_path / "mlx") / "model.safetensors"
    tensors = load_file(path)
    for name in list(tensors):
        if "conv1d.weight" in name:
            tensors[name] = tensors[name].movedim(1, -1).contiguous()
    save_file(tensors, path, {"format": "mlx"})
    ids = random_ids(2, 11)
    assert_close(load(tmp_path / "mlx")[0](ids), logits_of(reference, ids))
    convert(tmp_path / "mlx", tmp_path / "new", "float32")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    for name, weights in again.state_dict().items():
        assert torch.equal(weights, reference.state_dict()[name]), name


def test_what_lies_as_in_pytorch_stays(tmp_path: Path) -> None:
    """Some programs write with MLX's library, and leave what transformers wrote."""
    names = ("a.conv1d.weight", "patch_embedding.weight", "patch_embed.proj.weight", "other.weight")
    shapes = ((6, 1, 4), (6, 3, 2, 2), (6, 3, 2, 5, 5), (6, 5, 5, 3))
    numbers = np.random.default_rng(0)
    tensors = {
        name: torch.tensor(numbers.normal(size=shape)) for name, shape in zip(names, shapes, strict=True)
    }
    save_file(tensors, tmp_path / "model.safetensors", {"format": "mlx"})
    checkpoint = open_checkpoint(tmp_path)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(checkpoint[name], tensor)


def test_other_files_stay(tmp_path: Path) -> None:
    """The same shapes in a file that is not MLX's are those of another model."""
    tensors = {"patch_embedding.weight": torch.ones(6, 2, 2, 3)}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert open_checkpoint(tmp_path).shape("patch_embedding.weight") == (6, 2, 2, 3)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "mlx"})
    assert open_checkpoint(tmp_path).shape("patch_embedding.weight") == (6, 3, 2, 2)
