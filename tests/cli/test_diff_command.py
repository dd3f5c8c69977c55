"""``tinystar diff``: what it prints, at any width, and its exit codes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from terminals import on_terminal

import tinystar_np
from tinystar_np.cli.main import tinystar


@pytest.fixture
def edited(talking_model: Path) -> Path:
    """A copy of the model with two heads of one layer's queries exchanged."""
    copy = talking_model.parent / "edited"
    shutil.copytree(talking_model, copy)
    tensors = load_file(copy / "model.safetensors")
    config = json.loads((copy / "config.json").read_text())
    D, K = config["n_embd"], config["n_embd"] // config["n_head"]
    order = [*range(K, 2 * K), *range(K), *range(2 * K, 3 * D)]
    for end in ("weight", "bias"):
        name = f"transformer.h.1.attn.c_attn.{end}"
        tensors[name] = np.ascontiguousarray(tensors[name][..., order])
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def test_the_last_lines_are_the_answer(talking_model: Path, edited: Path, capsys: Any) -> None:
    assert tinystar(["diff", str(talking_model), str(edited)]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[-2].startswith("first: blocks.1.attention.qkv, ")
    assert lines[-2].endswith(" before it agree")
    assert lines[-1].startswith("blocks.1.attention.qkv.weight (")
    assert "q: heads 0 and 1 are exchanged" in lines[-1]
    table = [
        line for line in lines if line.startswith(("embedding", "blocks.", "final", "logits")) and "×" in line
    ]
    assert len(table) == 11  # five before the first and five after it
    assert "← the first beyond" in table[5]
    assert tinystar(["diff", str(talking_model), str(edited), "--all"]) == 1
    assert "logits" in capsys.readouterr().out


def test_the_shipped_model(tmp_path: Path, capsys: Any) -> None:
    shipped = Path(tinystar_np.__file__).parent / "shipped" / "stories"
    for name, what in (
        (
            "gains",
            "blocks.1.attention_norm.gain (transformer.h.1.ln_1.weight): "
            "exchanged with blocks.4.attention_norm.gain",
        ),
        ("epsilon", "layer_norm_epsilon is 1e-05 in A and 1e-06 in B"),
        ("shifted", "embedding.positions.weight (transformer.wpe.weight): rows are shifted by 1"),
    ):
        copy = tmp_path / name
        shutil.copytree(shipped, copy)
        config = json.loads((copy / "config.json").read_text())
        tensors = load_file(copy / "model.safetensors")
        ends = {
            end: key
            for key in tensors
            for end in ("h.1.ln_1.weight", "h.4.ln_1.weight", "wpe.weight")
            if key.endswith(end)
        }
        if name == "gains":
            one, other = ends["h.1.ln_1.weight"], ends["h.4.ln_1.weight"]
            tensors[one], tensors[other] = tensors[other], tensors[one]
        elif name == "epsilon":
            config["layer_norm_epsilon"] = 1e-6
        else:
            tensors[ends["wpe.weight"]] = np.roll(tensors[ends["wpe.weight"]], 1, axis=0)
        (copy / "config.json").write_text(json.dumps(config))
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
        assert tinystar(["diff", "stories", str(copy)]) == 1
        assert capsys.readouterr().out.splitlines()[-1] == what


def test_equal_models(talking_model: Path, capsys: Any) -> None:
    assert tinystar(["diff", str(talking_model), str(talking_model)]) == 0
    out = capsys.readouterr().out
    assert "no difference that counts" in out
    assert out.splitlines()[-1].startswith("no difference: ")
    assert tinystar(["diff", str(talking_model), str(talking_model), "--prompt", "Once upon a time"]) == 0


def test_json(talking_model: Path, edited: Path, capsys: Any) -> None:
    assert tinystar(["diff", str(talking_model), str(edited), "--json", "--ids", "--prompt", "1,2"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["first"] == "blocks.1.attention.qkv"
    assert found["tokens"] == 2
    assert [each["name"] for each in found["tensors"]] == [
        "blocks.1.attention.qkv.weight",
        "blocks.1.attention.qkv.bias",
    ]
    assert found["activations"][-1]["name"] == "logits"


def test_what_is_wrong_with_the_files(talking_model: Path, edited: Path, capsys: Any) -> None:
    tensors = load_file(edited / "model.safetensors")
    del tensors["transformer.h.2.attn.c_attn.bias"]
    save_file(tensors, edited / "model.safetensors", metadata={"format": "pt"})
    assert tinystar(["diff", str(talking_model), str(edited)]) == 1
    out = capsys.readouterr().out
    assert "B does not fit its own config.json: it lacks transformer.h.2.attn.c_attn.bias" in out
    assert "B: lacks transformer.h.2.attn.c_attn.bias" in out.splitlines()[-1]
    assert tinystar(["diff", str(talking_model), str(talking_model.parent / "nothing")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert tinystar(["diff", str(talking_model), str(edited), "--tolerance", "-1"]) == 2


@pytest.mark.parametrize("columns", [40, 80])
def test_on_a_terminal(columns: int, talking_model: Path, edited: Path) -> None:
    code, shown = on_terminal("diff", str(talking_model), str(edited), columns=columns)
    assert code == 1
    plain = shown.replace("\x1b[1m", "").replace("\x1b[31m", "").replace("\x1b[0m", "")
    paths = [line for line in plain.splitlines() if len(line) > columns]
    assert [line for line in paths if "blocks" in line or "first" in line] == []
    assert "first: blocks.1.attention.qkv" in plain
