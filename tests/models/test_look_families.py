"""Looking at prompts with images, in every family that has a small model with all its files."""

from pathlib import Path
from typing import Any

import pytest
import test_llama4_prompts
import test_llava_prompts
import test_pixtral_prompts
from look_parity import check_look
from small_seeing import picture
from test_gemma_prompts import SCAN, gemma3, paligemma

import tinystar_np as ts

WIDE, SQUARE = picture(30, 90), picture(28, 28, seed=1)
OTHER = picture(28, 28, seed=5)


@pytest.mark.parametrize("case", test_llava_prompts.CASES)
def test_llava(case: str, tmp_path: Path) -> None:
    test_llava_prompts.small_files(case, tmp_path)
    model, processor = ts.load(tmp_path, dtype="float32")
    check_look(model, processor, "<image>\nWhat, and <image>?", [WIDE, SQUARE], OTHER)


@pytest.mark.parametrize("images", [{}, SCAN], ids=["whole", "pan and scan"])
def test_gemma3(images: dict[str, Any], tmp_path: Path) -> None:
    """An image's tokens see one another."""
    gemma3(tmp_path, **images)
    model, processor = ts.load(tmp_path, dtype="float32")
    check_look(model, processor, "<start_of_image>Which, or <start_of_image>is it?", [WIDE, SQUARE], OTHER)


@pytest.mark.parametrize("kind", ["gemma", "gemma2"])
def test_paligemma(kind: str, tmp_path: Path) -> None:
    """All tokens of the prompt see one another, and those that are written do not."""
    paligemma(tmp_path, kind)
    model, processor = ts.load(tmp_path, dtype="float32")
    check_look(model, processor, "<image><image>Which is larger?", [WIDE, SQUARE], OTHER)


kind = test_pixtral_prompts.kind


@pytest.mark.parametrize("case", test_pixtral_prompts.CASES)
def test_pixtral(case: str, kind: type, tmp_path: Path) -> None:
    test_pixtral_prompts.small_files(case, kind, tmp_path)
    model, processor = ts.load(tmp_path, dtype="float32")
    check_look(model, processor, "[IMG]Which, or [IMG]?", [WIDE, SQUARE], OTHER)


seeing = test_llama4_prompts.seeing


def test_llama4(seeing: tuple[Any, Any, Any, Any]) -> None:
    model, processor, *_ = seeing
    check_look(model, processor, "<|image|>Which, or <|image|>?", [WIDE, SQUARE], OTHER)
