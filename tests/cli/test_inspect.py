"""``tinystar inspect``: one page about a model, from its config.json alone, and its errors."""

import json
import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_files import entry, file_bytes, weights, write_good
from hub_server import Fault, serve_hub

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.checkpoints.element_types import count_not_finite
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.cli.check_weights import BLOCK
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import CheckpointError

HYBRID = {
    "model_type": "granitemoehybrid",
    "hidden_size": 64,
    "num_hidden_layers": 6,
    "layer_types": ["mamba", "mamba", "attention", "mamba", "mamba", "attention"],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "shared_intermediate_size": 128,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 32,
    "max_position_embeddings": 8192,
    "dtype": "bfloat16",
}


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def config_only(directory: Path, **config: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def inspect(capsys: Any, *arguments: str) -> str:
    assert tinystar(["inspect", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    # The first line names the model, by a path of any length.
    assert all(len(line) <= 80 for line in out.splitlines()[1:])
    return out


def test_shipped_model(capsys: Any) -> None:
    lines = inspect(capsys, "stories").splitlines()
    assert lines[0] == "stories: gpt2"
    for line in (
        "  layers       6, 192 wide",
        "  mixer        attention MHA 6:6, a key and value for each, heads of 32",
        "  positions    learned, a vector for each of 512 places",
        "  output layer the embedding table once more (tied)",
        "  context      512 tokens and no more",
        "  parameters   3.16 million (3,161,088)",
        "  in the files 6.32 MB, 76 tensors F16",
        "  loaded as    float32 12.6 MB · bfloat16 6.35 MB · int8 3.26 MB",
        "  tokens      per token      128      512",
        "  this model    9.22 KB  1.18 MB  4.72 MB",
        "  as MQA 6:1    1.54 KB   197 KB   786 KB",
    ):
        assert line in lines
    assert not any("Llama" in line for line in lines)


def test_config_alone(tmp_path: Path, capsys: Any) -> None:
    out = inspect(capsys, str(config_only(tmp_path / "hybrid", **HYBRID)))
    assert "  mixer        layers 0–1, 3–4: Mamba 2, 8 heads keep 16 × 32 numbers each," in out
    assert "               layers 2, 5: attention GQA 4:2, 2 queries to a key and value," in out
    assert "active for each token" in out
    assert "bfloat16 by config.json; they are not here" in out
    assert "Only 2 of 6 layers attend" in out
    rows = {line[2:23].strip(): line[23:].split() for line in out.splitlines() if "  every layer" in line}
    assert [name.split()[-2:] for name in rows] == [["MHA", "4:4"], ["GQA", "4:2"], ["MQA", "4:1"]]
    out = inspect(capsys, str(config_only(tmp_path / "plain", model_type="gpt2")))
    assert "498 MB, float32, no type in config.json; they are not here" in out
    out = inspect(capsys, str(config_only(tmp_path / "odd", model_type="gpt2", dtype="float8_e5m2")))
    assert "unknown, float8_e5m2 by config.json" in out


def test_llama(tmp_path: Path, capsys: Any) -> None:
    out = inspect(capsys, str(config_only(tmp_path / "llama", model_type="llama")))
    assert "  it is like   Llama 1 7B\n  agreeing     vocab_size 32000, rope_theta 10000, rope" in out
    assert "differing" not in out
    out = inspect(capsys, str(config_only(tmp_path / "long", model_type="llama", rope_theta=3.0)))
    assert "  it is like   closest to Llama 1" in out
    assert "  differing    rope_theta 3" in out


def test_many_kinds_are_cut_short(tmp_path: Path, capsys: Any) -> None:
    directory = config_only(tmp_path / "m", model_type="gpt2", scale_attn_by_inverse_layer_idx=True)
    out = inspect(capsys, str(directory))
    lines = [line for line in out.splitlines() if "scaled by" in line or "more kinds" in line]
    assert len(lines) == 6
    assert "… 6 more kinds …" in lines[4]
    assert "layer 11:" in lines[5]


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "mamba"},
        {"model_type": "mamba2"},
        {"model_type": "mistral"},
        {"model_type": "falcon", "alibi": True},
        {"model_type": "granite", "attention_bias": True},
        {"model_type": "granitemoe"},
        {"model_type": "gpt2", "n_head": 1, "n_positions": 1},
        {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 4}},
    ],
)
def test_every_page_fits_and_ends_with_a_sentence(config: Any, tmp_path: Path, capsys: Any) -> None:
    out = inspect(capsys, str(config_only(tmp_path / "m", **config)))
    assert out.partition("\nWhich")[0].rstrip().endswith(("a smaller one is\n  faster, too.", "."))


def test_json(tmp_path: Path, capsys: Any) -> None:
    found = json.loads(inspect_json(capsys, str(config_only(tmp_path / "m", **HYBRID))))
    assert found["model_type"] == "granitemoehybrid"
    assert [layer["mixer"]["kind"] for layer in found["layers"]] == ["Mamba2", "Mamba2", "GQA"] * 2
    assert found["layers"][0]["feed_forward"]["experts"] == 8
    assert found["parts"]["context"] == {"limit": None, "trained": 8192}
    weights = found["weights"]
    assert weights["nbytes"]["float32"] == 4 * weights["parameters"] > 4 * weights["active"]
    assert weights["stored"] == {"nbytes": 2 * weights["parameters"], "dtype": "bfloat16", "here": False}
    own = found["state"][0]
    assert own["at"]["8192"] == own["fixed"] + 8192 * own["per_token"]
    assert found["llama"] is None
    found = json.loads(inspect_json(capsys, "stories"))
    stored = {"nbytes": 6322176, "types": {"F16": 76}, "int8_matrices": 0, "here": True}
    stored |= {"bits_per_weight": 16.0, "packed": 0}
    assert found["weights"]["stored"] == stored
    found = json.loads(inspect_json(capsys, str(config_only(tmp_path / "llama", model_type="llama"))))
    assert found["llama"]["says"] == "Llama 1 7B"


def inspect_json(capsys: Any, *arguments: str) -> str:
    assert tinystar(["inspect", *arguments, "--json"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "t5"}, "model_type 't5', which is not implemented"),
        ({"model_type": "llama", "hidden_act": "sine"}, "hidden_act = 'sine'"),
        ({"model_type": "llama", "rope_scaling": {"type": "helix"}}, "rope_scaling.type = 'helix'"),
        ({"model_type": "llama", "num_key_value_heads": 3}, "num_key_value_heads = 3"),
        ({**HYBRID, "layer_types": ["mamba"] * 5 + ["lstm"]}, "layer_types[5] = 'lstm'"),
        ({}, "'model_type' is None"),
    ],
)
def test_bad_configs(config: Any, message: str, tmp_path: Path, capsys: Any) -> None:
    assert tinystar(["inspect", str(config_only(tmp_path / "m", **config))]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) <= 2


def test_damaged_weights_are_said(talking_model: Path, capsys: Any) -> None:
    weights = talking_model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert tinystar(["inspect", str(talking_model)]) == 1
    assert "not a complete safetensors file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("element_type", "nan", "infinite"),
    [("F8_E4M3", [0x7F, 0xFF], []), ("F8_E5M2", [0x7D, 0xFF], [0x7C, 0xFC]), ("F8_E8M0", [0xFF], [])],
)
def test_check_counts_codes_that_stand_for_no_number(
    element_type: str, nan: list[int], infinite: list[int], tmp_path: Path, capsys: Any
) -> None:
    directory = write_good(tmp_path / "m")
    values = np.full(48 * 8, 0x30, np.uint8)
    values[: len(nan + infinite)] = nan + infinite
    weights(lambda t: t.update({"wte.weight": (element_type, [48, 8], values.tobytes())}))(directory)
    assert tinystar(["inspect", str(directory), "--check", "--json", "-q"]) == 1
    counts = json.loads(capsys.readouterr().out)["check"]["not_finite"]["wte.weight"]
    assert (counts["nan"], counts["infinite"]) == (len(nan), len(infinite))


@pytest.mark.parametrize("element_type", ["F64", "F32", "F16", "BF16"])
def test_check_reports_what_is_not_finite(element_type: str, tmp_path: Path, capsys: Any) -> None:
    directory = write_good(tmp_path / "m")
    size = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}[element_type]
    kind = {8: "<f8", 4: "<f4", 2: "<f2"}[size]
    values = np.ones(48 * 8, kind)
    odd = [np.nan, -np.nan, np.inf, -np.inf, np.inf]
    if element_type == "BF16":
        values, odd = values.view("<u2"), [0x7FC0, 0xFFFF, 0x7F80, 0xFF80, 0x7F80]
    values[[0, 5, 100, 200, 383]] = odd
    spoil = {"wte.weight": (element_type, [48, 8], values.tobytes())}
    # A byte before it: all tensors behind are unaligned.
    weights(lambda t: [t.pop("wte.weight"), t.update({"h.0.attn.bias": ("U8", [1], b"\x07"), **spoil})])(
        directory
    )
    assert tinystar(["inspect", str(directory), "--check"]) == 1
    out, err = capsys.readouterr()
    assert out.endswith("\n  wte.weight (model.safetensors): 2 NaN, 3 infinite\n  no tokenizer files\n")
    assert "1 of 29 tensors have NaN or infinity in them.\n" in err
    assert "Traceback" not in err
    assert tinystar(["inspect", str(directory), "--check", "--json", "-q"]) == 1
    out, err = capsys.readouterr()
    found = {"wte.weight": {"file": "model.safetensors", "nan": 2, "infinite": 3}}
    text = {"tokenizer": None, "chat_template": None}
    names = {"fitting": 28, "missing": [], "unknown": [], "misshapen": {}}
    assert json.loads(out)["check"] == {"tensors": 29, "not_finite": found, **names, **text}
    assert len(err.splitlines()) == 2


def test_check_of_a_good_model_and_of_what_cannot_be_read(tmp_path: Path, capsys: Any) -> None:
    assert tinystar(["inspect", "stories", "--check"]) == 0
    said = capsys.readouterr().out
    assert "\n  76 tensors read: no NaN, no infinity\n  2,048 tokens; a line of text was cut into " in said
    assert said.endswith(" and joined again\n  no chat template\n")
    directory = write_good(tmp_path / "m")
    weights(lambda t: t.update({"wte.weight": ("C64", [48, 8], bytes(48 * 64))}))(directory)
    assert tinystar(["inspect", str(directory), "--check"]) == 1
    assert "tensor 'wte.weight' has element type C64, which cannot be read" in capsys.readouterr().err


def test_check_tries_the_tokenizer_and_the_template(talking_model: Path, capsys: Any) -> None:
    def check(code: int) -> tuple[str, str]:
        assert tinystar(["inspect", str(talking_model), "--check"]) == code
        said = capsys.readouterr()
        return said.out.partition("\nCheck\n")[2], said.err

    for source, code, out, err in (
        ("<{{ messages[0].content }}>", 0, "a message becomes 48 characters", ""),
        ("{{ raise_exception('no') }}", 0, "refuses this conversation: no", ""),
        ("{{ 1 // 0 }}", 1, "joined again\n", "chat_template.jinja: the model's chat template does not work"),
    ):
        (talking_model / "chat_template.jinja").write_text(source)
        said = check(code)
        assert out in said[0]
        assert err in said[1]
    (talking_model / "tokenizer.json").write_text("{")
    out, err = check(1)
    assert "no NaN" in out
    assert "tokenizer.json: not JSON" in err


def test_check_holds_no_more_than_a_block(tmp_path: Path) -> None:
    size = 4 << 24  # 64 MB, unaligned, without taking room on the disk
    header = {"a": entry([1], 0, 1, "U8"), "x": entry([size // 4], 1, 1 + size)}
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_bytes(header))
    os.truncate(path, path.stat().st_size + 1 + size)
    tracemalloc.start()
    assert count_not_finite(open_checkpoint(tmp_path).blocks("x", BLOCK), "F32") == (0, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000


def test_no_such_model(tmp_path: Path, capsys: Any) -> None:
    for name, words in (
        (str(tmp_path), "has no config.json"),
        (str(tmp_path / "nowhere"), "there is no such directory"),
        ("no/name/at/all", "there is no such directory"),
        ("what?", "is no name of a model"),
        ("somebody/unknown", "offline mode"),
    ):
        assert tinystar(["inspect", name, "--offline", "--cache-dir", str(tmp_path)]) == 1
        assert words in capsys.readouterr().err


@pytest.fixture
def files(talking_model: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in talking_model.iterdir()}


def test_of_the_hub_only_the_config_is_fetched(
    files: dict[str, bytes], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    cache = tmp_path / "cache"
    with serve_hub({"somebody/parrot": files, "somebody/empty": {"README.md": b"no model"}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for _ in range(2):  # the second time it is on disk
            out = inspect(capsys, "somebody/parrot", "--cache-dir", str(cache))
            assert out.startswith("somebody/parrot: gpt2")
            assert "they are not here" in out
            assert hub.downloads == ["config.json"]
        asked = len(hub.requests)
        inspect(capsys, "somebody/parrot", "--cache-dir", str(cache), "--offline")
        assert len(hub.requests) == asked

        for name, revision, words in (
            ("somebody/empty", "main", "has no config.json"),
            ("somebody/nothing", "main", "has no model somebody/nothing"),
            ("somebody/parrot", "v9", "has no revision 'v9'"),
        ):
            arguments = ["inspect", name, "--revision", revision, "--cache-dir", str(cache)]
            assert tinystar(arguments) == 1
            assert words in capsys.readouterr().err
        hub.faults["somebody/gated"] = Fault(403, "GatedRepo")
        assert tinystar(["inspect", "somebody/gated", "--cache-dir", str(cache)]) == 1
        assert "gated" in capsys.readouterr().err
        # A config that came alone is no obstacle to running the model later.
        assert (find_model("somebody/parrot", cache_dir=cache) / "model.safetensors").exists()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert tinystar(["inspect", "somebody/other", "--cache-dir", str(cache)]) == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_weights_that_are_in_the_cache_are_looked_at(
    talking_model: Path, tmp_path: Path, capsys: Any
) -> None:
    commit = "1234567890abcdef1234567890abcdef12345678"
    folder = tmp_path / "cache" / "models--somebody--parrot"
    shutil.copytree(talking_model, folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    out = inspect(capsys, "somebody/parrot", "--cache-dir", str(tmp_path / "cache"))
    assert "tensors F32" in out


def test_a_long_type_is_cut(tmp_path: Path, capsys: Any) -> None:
    directory = config_only(tmp_path / "model", model_type="gpt2", dtype="x\x1b" * 100_000)
    assert tinystar(["inspect", str(directory)]) == 0
    out, _ = capsys.readouterr()
    assert len(out) < 5000
    assert "\x1b" not in out


@pytest.mark.parametrize("options", [[], ["-v"]])
def test_an_error_of_any_length_is_cut(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The last bound, wherever the words come from."""

    def fail(*ignored: object, **too: object) -> None:
        raise CheckpointError("x" * 1_000_000)

    monkeypatch.setattr("tinystar_np.cli.inspect.find_model", fail)
    assert tinystar(["inspect", "stories", *options]) == 1
    assert len(capsys.readouterr().err) < 30_000
