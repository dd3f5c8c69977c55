"""``tinystar inspect --check`` holds names and shapes against the weight table, before anything else runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from parity import reference_model, save
from parity_cases import ROWS
from safetensors.torch import load_file, save_file

from tinystar_np.cli.main import tinystar

MATRICES = {  # model_type: a matrix that is not square, or one of several in a tensor
    "gpt2": "transformer.h.1.mlp.c_fc.weight",
    "llama": "model.layers.1.mlp.down_proj.weight",
    "mixtral": "model.layers.0.self_attn.k_proj.weight",
    "phi3": "model.layers.1.mlp.gate_up_proj.weight",
    "falcon": "transformer.h.0.self_attention.query_key_value.weight",
    "mamba": "backbone.layers.1.mixer.x_proj.weight",
    "deepseek_v3": "model.layers.1.self_attn.kv_a_proj_with_mqa.weight",
}


def checked(directory: Path, capsys: Any, code: int) -> tuple[list[str], str]:
    assert tinystar(["inspect", str(directory), "--check", "-q"]) == code
    out, err = capsys.readouterr()
    return [line.strip() for line in out.partition("\nCheck\n")[2].splitlines()], err


@pytest.mark.parametrize("model_type", MATRICES)
def test_what_does_not_fit_is_named(model_type: str, tmp_path: Path, capsys: Any) -> None:
    directory = save(reference_model(model_type, **ROWS[model_type].config("plain")), tmp_path)
    path, name = directory / "model.safetensors", MATRICES[model_type]
    good = load_file(path)
    capsys.readouterr()  # what transformers says when it saves
    lines, err = checked(directory, capsys, 0)
    assert lines[0].endswith("tensors fit config.json by name and shape: none missing, none unknown")
    assert err == ""

    def spoilt(**tensors: torch.Tensor) -> tuple[list[str], str]:
        kept = {key: tensor for key, tensor in good.items() if key != name}
        save_file({**kept, **tensors}, path, metadata={"format": "pt"})
        return checked(directory, capsys, 1)

    lines, err = spoilt()
    missing, _, what = lines[0].partition(": ")
    assert what == "missing"
    assert missing == name
    assert "the tensors do not fit config.json: 1 missing.\n" in err
    assert "conversion" in err

    lines, err = spoilt(**{name: good[name].T.contiguous()})
    shape = tuple(good[name].shape)
    assert lines[0] == f"{name}: shape {shape[::-1]}, expected {shape}: it is transposed"
    assert "1 of another shape" in err

    lines, err = spoilt(**{name: good[name], "model.extra.weight": good[name].clone()})
    assert lines[0].endswith("extra.weight: unknown to this architecture")
    assert "1 unknown" in err

    assert tinystar(["inspect", str(directory), "--check", "-q", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["check"]
    assert (found["missing"], found["misshapen"]) == ([], {})
    assert found["unknown"] == [lines[0].partition(":")[0]]


def test_many_faults_are_counted(tmp_path: Path, capsys: Any) -> None:
    directory = save(reference_model("gpt2", n_embd=16, n_layer=12, n_head=2), tmp_path)
    kept = {
        name: each for name, each in load_file(tmp_path / "model.safetensors").items() if ".h." not in name
    }
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    lines, err = checked(directory, capsys, 1)
    assert lines[20] == "… and 124 more"
    assert "144 missing" in err


def test_in_the_hubs_cache_the_advice_is_to_download_again(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "models--a--b" / "snapshots" / "123"
    save(reference_model("gpt2", n_embd=16, n_layer=1, n_head=2), folder)
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("transformer.ln_f.bias")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _, err = checked(folder, capsys, 1)
    assert "download it again" in err
    assert "conversion" not in err
