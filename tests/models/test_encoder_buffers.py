"""Buffers beside an encoder's weights, as older versions and other tools save them: they are computed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import qwen_vl_parity
import test_gemma3
import test_llava
import test_pixtral
import test_smolvlm
import torch
from parity import assert_close, save
from safetensors.torch import load_file, save_file
from vision_parity import images_in_turn, images_of_any_size, logits_with_images, two_one_none, whole_model

from tinystar_np.errors import CheckpointError
from tinystar_np.loading import load

POSITIONS, QWEN = "vision_model.embeddings.position_ids", "visual.rotary_pos_emb.inv_freq"
Case = tuple[Callable[[], Any], Callable[[], Any], Any, str]
CASES: dict[str, Case] = {
    "smolvlm": (
        lambda: test_smolvlm.small_config("smolvlm"),
        test_smolvlm.small_rows,
        test_smolvlm.theirs,
        f"model.{POSITIONS}",
    ),
    "llava": (
        test_llava.small_config,
        two_one_none,
        images_in_turn,
        f"vision_tower.{POSITIONS}",
    ),
    "gemma3": (
        test_gemma3.small_config,
        test_gemma3.small_rows,
        test_gemma3.theirs,
        f"vision_tower.{POSITIONS}",
    ),
    "pixtral": (
        test_pixtral.small_config,
        test_pixtral.small_rows,
        images_of_any_size,
        "vision_tower.patch_positional_embedding.inv_freq",
    ),
    **{
        kind: (
            lambda kind=kind: qwen_vl_parity.small_config(kind),  # type: ignore[misc]
            qwen_vl_parity.small_rows,
            qwen_vl_parity.theirs_of,
            QWEN,
        )
        for kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    },
}


@pytest.mark.parametrize("kind", CASES)
def test_they_are_passed_over(kind: str, tmp_path: Path) -> None:
    config_of, rows, theirs, buffer = CASES[kind]
    config = config_of()
    reference = whole_model(config)
    path = save(reference, tmp_path) / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, buffer: torch.ones(3)}, path)
    (row,) = rows()[:1]
    given = theirs(config) if kind.startswith("qwen") else theirs
    expected = logits_with_images(reference, [row], given)[0]
    assert_close(load(tmp_path)[0](row[0], images=row[1]), expected)
    weight = buffer.rpartition(".")[0] + ".weight_of_another"
    save_file({**tensors, weight: torch.ones(3)}, path)
    with pytest.raises(CheckpointError, match="weight_of_another"):
        load(tmp_path)
