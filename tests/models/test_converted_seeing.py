"""Models of text and images in packed types: with images as transformers computes from the same files.

transformers calls the modules of most of them otherwise than their files do, and what is not in the packed
type must not be taken for it. Without Llama 4: transformers looks for its experts one by one in such files.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qwen_vl_parity
import test_gemma3
import test_llava
import test_llava_next
import test_mistral3
import test_paligemma
import test_smolvlm
import test_vipllava
import torch
from parity import assert_close, save
from transformers import AutoModelForImageTextToText, CompressedTensorsConfig
from vision_parity import (
    Theirs,
    images_in_turn,
    images_of_any_size,
    logits_with_images,
    two_one_none,
    whole_model,
)

from tinystar_np.conversion import convert
from tinystar_np.loading import load

WIDE = {"hidden_size": 64, "intermediate_size": 96}
"""Layers whose inputs are a multiple of 32, which MXFP4 needs."""
# Kind and type: the config, the rows, and what turns images into what transformers takes.
Case = tuple[Any, Any, Theirs | None]
CASES: dict[str, Case] = {
    "gemma3": (test_gemma3.small_config(), test_gemma3.small_rows(), test_gemma3.theirs),
    "llava": (test_llava.small_config(), two_one_none(), images_in_turn),
    "llava_next": (test_llava_next.small_config(), test_llava_next.small_rows(), test_llava_next.theirs),
    "mistral3": (test_mistral3.small_config(), test_mistral3.small_rows(), images_of_any_size),
    "paligemma": (test_paligemma.small_config("gemma"), test_paligemma.small_rows(), test_paligemma.theirs),
    "smolvlm": (test_smolvlm.small_config("smolvlm"), test_smolvlm.small_rows(), test_smolvlm.theirs),
    "vipllava": (test_vipllava.small_config(), two_one_none(), images_in_turn),
    **{
        kind: (qwen_vl_parity.small_config(kind), qwen_vl_parity.small_rows(), None)
        for kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    },
}


def check_converted(case: Case, dtype: str, directory: Path, **how: Any) -> None:
    """The logits of the first row, with its images, by both from the same files."""
    pytest.importorskip("compressed_tensors", reason="transformers reads packed types with this package only")
    config, rows, theirs = case
    old = save(whole_model(config), directory / "old")
    convert(old, directory / "new", dtype)
    reference, report = AutoModelForImageTextToText.from_pretrained(
        directory / "new",
        attn_implementation="eager",
        dtype=torch.float32,
        output_loading_info=True,
        **how,
    )
    assert not any(report.values())
    model, _ = load(directory / "new")
    ids, images = row = next(row for row in rows if row[1])
    expected = logits_with_images(
        reference.eval(), [row], theirs or qwen_vl_parity.theirs_of(reference.config)
    )
    assert_close(model(ids, images=images), expected[0], 1e-4, dtype)
    whole = load(old, "float32")[0](ids, images=images)
    assert np.abs(model(ids, images=images) - whole).max() > 1e-4 * np.abs(whole).max()  # it was rounded


@pytest.mark.parametrize("kind", CASES)
def test_int8(kind: str, tmp_path: Path) -> None:
    check_converted(CASES[kind], "int8", tmp_path)


def test_mxfp4(tmp_path: Path) -> None:
    case = (test_mistral3.small_config(text=WIDE), test_mistral3.small_rows(), images_of_any_size)
    # Its activations are not rounded, so that transformers must widen the weights first.
    check_converted(case, "mxfp4", tmp_path, quantization_config=CompressedTensorsConfig(dequantize=True))
