"""``tinystar compare`` finds a planted fault at its place; ``tinystar models`` lists what is there."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from terminals import on_terminal

from tinystar_np.cli.main import tinystar
from tinystar_np.models import ARCHITECTURES, VISION_ARCHITECTURES


@pytest.fixture
def edited(talking_model: Path) -> Path:
    """A copy of the model with a little added to one bias of the second block."""
    copy = talking_model.parent / "edited"
    shutil.copytree(talking_model, copy)
    tensors = load_file(copy / "model.safetensors")
    tensors["transformer.h.1.attn.c_proj.bias"][3] += 0.01
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def test_agreement(talking_model: Path, capsys: Any) -> None:
    assert tinystar(["compare", str(talking_model), "Once upon a time", "-q"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("All ")
    assert out.endswith(" activations agree within 0.0001\n")
    assert tinystar(["compare", str(talking_model), "Once upon a time", "-q", "--all"]) == 0
    out = capsys.readouterr().out
    assert "←" not in out
    names = [line.split()[0] for line in out.splitlines()[1:-1]]
    assert names[:2] == ["embedding.tokens", "embedding.positions"]
    assert names[-1] == "logits"
    inside = (
        "attention.qkv",
        "attention.probabilities",
        "attention.mixed",
        "attention.out",
        "residual_middle",
    )
    inside += ("feed_forward.up", "feed_forward.activation", "feed_forward.down", "residual")
    assert {f"blocks.{i}.{name}" for i in range(3) for name in inside} <= set(names)


def test_the_first_difference_is_marked(talking_model: Path, edited: Path, capsys: Any) -> None:
    arguments = ["compare", str(talking_model), "--against", str(edited), "Once upon a time", "-q"]
    assert tinystar(arguments) == 1
    marked = [line for line in capsys.readouterr().out.splitlines() if "← the first" in line]
    assert len(marked) == 1
    assert marked[0].startswith("blocks.1.attention.out ")

    assert tinystar([*arguments, "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["first"] == "blocks.1.attention.out"
    rows = {row["name"]: row for row in result["activations"]}
    assert rows["blocks.1.attention.out"]["error"] == pytest.approx(0.01, rel=1e-3)
    assert rows["blocks.1.attention.mixed"]["relative"] < 1e-5
    assert rows["logits"]["relative"] > 1e-5

    assert tinystar([*arguments, "--tolerance", "10"]) == 0


def test_the_answer_comes_last(talking_model: Path, edited: Path, capsys: Any) -> None:
    assert tinystar(["compare", str(talking_model), "--against", str(edited), "-q"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("blocks.")]) == 11  # and the answer's second line
    assert lines[-2].startswith("first: blocks.1.attention.out, ")
    assert lines[-2].endswith(" (transformer.h.1.attn.c_proj); its inputs agree")
    assert lines[-1].startswith("transformer.h.1.attn.c_proj.bias: one number differs: [3] is ")
    assert tinystar(["compare", str(talking_model), "--against", str(edited), "-q", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["answer"].splitlines() == lines[-2:]
    assert found["tokens"] > 30


def test_without_a_prompt_there_is_a_default(talking_model: Path, capsys: Any) -> None:
    assert tinystar(["compare", str(talking_model)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("All ")
    assert "Not to be seen" not in err
    for word in ("a", "abc"):
        assert tinystar(["compare", str(talking_model), "--tolerance", "1e-3", word]) == 0
        assert "Not to be seen with this prompt: " in capsys.readouterr().err
    (talking_model / "tokenizer.json").unlink()
    assert tinystar(["compare", str(talking_model)]) == 0
    assert "40 tokens" in capsys.readouterr().err


def test_not_a_number_is_a_difference(talking_model: Path, edited: Path, capsys: Any) -> None:
    tensors = load_file(edited / "model.safetensors")
    tensors["transformer.h.1.attn.c_proj.bias"][3] = torch.nan
    save_file(tensors, edited / "model.safetensors", metadata={"format": "pt"})
    arguments = ["compare", str(talking_model), "--against", str(edited), "Once", "-q", "--tolerance", "10"]
    assert tinystar(arguments) == 1
    assert "blocks.1.attention.out" in capsys.readouterr().out


def test_ids_instead_of_text(talking_model: Path, capsys: Any) -> None:
    (talking_model / "tokenizer.json").unlink()
    assert tinystar(["compare", str(talking_model), "--ids", "1,2,3,200", "-q", "--all"]) == 0
    assert "1 × 4 × 257" in capsys.readouterr().out
    assert tinystar(["compare", str(talking_model), "text", "-q"]) == 1
    assert "--ids" in capsys.readouterr().err
    for wrong in (["--ids", "1,x"], ["text", "--tolerance", "-1"]):
        assert tinystar(["compare", str(talking_model), *wrong]) == 2


def test_without_transformers(talking_model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert tinystar(["compare", str(talking_model), "Once", "-q"]) == 1
    err = capsys.readouterr().err
    assert "needs torch and transformers" in err
    assert "pip install" in err


def test_models(capsys: Any, monkeypatch: pytest.MonkeyPatch, talking_model: Path, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(talking_model, tmp_path / "weights_cache" / "somebody" / "parrot")
    assert tinystar(["models", "--cache-dir", str(tmp_path / "empty")]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line]
    for name in ("stories", "letters"):
        assert [name, "shipped"] in [[row[0], row[-1]] for row in rows]
    assert ["somebody/parrot", "weights_cache"] in [[row[0], row[-1]] for row in rows]
    assert {word for row in rows for word in row} >= {*ARCHITECTURES, *VISION_ARCHITECTURES}
    assert max(len(line) for line in out.splitlines()) <= 80
    assert tinystar(["models", "--cache-dir", str(tmp_path / "empty"), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert "gpt2" in listed["architectures"]
    parrot = next(model for model in listed["models"] if model["name"] == "somebody/parrot")
    assert parrot["nbytes"] == (talking_model / "model.safetensors").stat().st_size


def test_models_describe_an_architecture(capsys: Any) -> None:
    assert tinystar(["models", "gemma2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Gemma 2 (Gemma Team 2024")
    assert "New in it" in out
    assert out.rstrip().endswith(str(Path("models") / "gemma2.py"))
    assert tinystar(["models", "gemma2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["docstring"] in out


def test_models_are_found_by_words(capsys: Any) -> None:
    assert tinystar(["models", "Experts", "WINDOW"]) == 0
    found = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert "gpt_oss" in found
    assert "gpt2" not in found
    assert tinystar(["models", "experts", "window", "--json"]) == 0
    assert sorted(json.loads(capsys.readouterr().out)["architectures"]) == sorted(found)
    assert tinystar(["models", "bert"]) == 2
    assert "bert does not run here: an encoder" in capsys.readouterr().err
    assert tinystar(["models", "gemma9"]) != 0
    assert "gemma2" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [40, 80])
def test_a_comparison_on_a_terminal(columns: int, talking_model: Path, edited: Path) -> None:
    given = ("compare", str(talking_model), "--against", str(edited), "Once")
    code, shown = on_terminal(*given, columns=columns, environment={"NO_COLOR": "1"})
    assert code == 1
    lines = shown.splitlines()
    ours = lines[next(i for i, line in enumerate(lines) if line.startswith("… ")) :]
    assert [line for line in ours if len(line) > columns] == []
    assert "\x1b" not in "".join(ours)
    answer = " ".join(ours)
    assert "first: blocks.1.attention.out" in answer
    assert "its inputs agree" in answer
    assert "Not to be seen with this prompt:" in answer
