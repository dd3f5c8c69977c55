"""A real, trained Llama: the exact text that another implementation, llama2.c, prints for it."""

import json
from pathlib import Path
from typing import Any

import pytest

import tinystar_np as ts
from tinystar_np.cli.main import tinystar


@pytest.fixture
def stories260k(shared: Path) -> Path:
    return shared / "checkpoints" / "stories260K"


@pytest.fixture
def golden(stories260k: Path) -> list[dict[str, Any]]:
    return json.loads((stories260k / "golden_greedy.json").read_text())


def test_ids_and_text_through_the_public_face(stories260k: Path, golden: list[dict[str, Any]]) -> None:
    model, tokenizer = ts.load(stories260k)
    assert tokenizer is not None
    assert len(golden) >= 4
    for row in golden:
        assert tokenizer.encode(row["prompt"]) == row["prompt_ids"]
        settings = {"max_new_tokens": row["max_new_tokens"], "temperature": 0.0}
        assert ts.generate_ids(model, row["prompt_ids"], **settings) == row["new_ids"]
        assert row["prompt"] + ts.generate(model, tokenizer, row["prompt"], **settings) == row["text"]
        pieces = ts.stream(model, tokenizer, row["prompt"], **settings)
        assert row["prompt"] + "".join(piece.text for piece in pieces) == row["text"]


def test_all_prompts_in_one_batch(stories260k: Path, golden: list[dict[str, Any]]) -> None:
    model, _ = ts.load(stories260k)
    new = ts.generate_ids(model, [row["prompt_ids"] for row in golden], max_new_tokens=256, temperature=0.0)
    for ids, row in zip(new, golden, strict=True):
        assert ids[: len(row["new_ids"])] == row["new_ids"]


def test_text_on_the_command_line(
    stories260k: Path, golden: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    for row in golden:
        limit = str(row["max_new_tokens"])
        assert (
            tinystar(["ask", "-m", str(stories260k), "--temperature", "0", "-n", limit, row["prompt"]]) == 0
        )
        assert row["prompt"] + capsys.readouterr().out == row["text"] + "\n"
