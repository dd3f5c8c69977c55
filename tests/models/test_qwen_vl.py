"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL against transformers, with images."""

from pathlib import Path
from typing import Any

import pytest
from parity import save
from qwen_vl_parity import CONFIGS, pixels_of, small_config, small_rows, theirs_of
from vision_parity import check_images, row_of, whole_model


@pytest.mark.parametrize("kind", CONFIGS)
def test_images(kind: str, tmp_path: Path) -> None:
    config = small_config(kind)
    reference = whole_model(config)
    check_images(reference, save(reference, tmp_path), small_rows(), theirs_of(config))
