"""``convert``: this package and transformers read in the new files what rounding makes of the old ones."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import edit_config, logits_of, reference_model, save
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, CompressedTensorsConfig, Mistral3Config
from vision_parity import IMAGE, TEXT, VISION, random_pixels, row_of, whole_model

from tinystar_np import conversion, fast
from tinystar_np.cli.main import tinystar
from tinystar_np.conversion import convert
from tinystar_np.errors import CheckpointError, ConfigError, InputError
from tinystar_np.fast.mapped import on_file
from tinystar_np.kernels.linear import unpacked
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix
from tinystar_np.loading import load
from tinystar_np.models import Decoder

IDS = np.random.default_rng(1).integers(0, 211, (1, 60))
SMALL = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": SMALL | {"tie_word_embeddings": False},
    "qwen2": SMALL | {"tie_word_embeddings": True},  # biases, and the output layer is the embedding
    "phi3": SMALL | {"bos_token_id": 0, "eos_token_id": 0},  # q, k and v are one matrix, gate and up another
    "gpt_neox": SMALL,  # the output layer is called embed_out
    "mamba2": {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_heads": 6,
        "head_dim": 8,
        "state_size": 8,
        "n_groups": 2,
    },
    "gpt2": {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 64},  # (in, out), a table of positions
    "mixtral": SMALL | {"num_local_experts": 3},  # three matrices for each expert
    "gpt_oss": SMALL | {"num_local_experts": 4, "head_dim": 8},  # all experts in one tensor
}
OF_TRANSFORMERS = ["llama", "qwen2", "phi3", "gpt_neox", "mamba2"]
"""Those that transformers can hold in int8: their linear layers are modules of their own."""
ALL_TYPES = pytest.mark.parametrize(
    ("model_type", "dtype"),
    [(m, d) for m in MODELS for d in ("bfloat16", "float32")] + [(m, "int8") for m in MODELS],
)
COMPRESSED = pytest.mark.skipif(
    find_spec("compressed_tensors") is None, reason="transformers reads int8 with compressed-tensors only"
)


def source(
    tmp_path: Path, model_type: str = "llama", stored: torch.dtype = torch.float32, **more: Any
) -> Path:
    reference = reference_model(model_type, **MODELS[model_type], **more).to(stored)
    return save(reference, tmp_path / "model")


def assert_same_weights(found: Decoder, expected: Decoder) -> None:
    """Number by number; what lies in another order in memory is added up in another order."""
    assert found.weights.keys() == expected.weights.keys()
    for name, matrix in found.weights.items():
        other = expected.weights[name]
        assert type(matrix) is type(other), name
        np.testing.assert_array_equal(unpacked(matrix), unpacked(other), name)


@ALL_TYPES
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_it_is_the_same_as_rounding_at_loading(
    model_type: str, dtype: str, stored: torch.dtype, tmp_path: Path
) -> None:
    old = source(tmp_path, model_type, stored)
    convert(old, tmp_path / "new", dtype)
    found = load(tmp_path / "new", dtype)[0]
    model, _ = load(old, dtype)
    expected = model(IDS)
    few = model(IDS[:, :3])  # which takes another way through a matrix
    assert np.abs(found(IDS[:, :3]) - few).max() < 1e-6 * np.abs(few).max()
    assert np.abs(found(IDS) - expected).max() < 1e-6 * np.abs(expected).max()
    assert_same_weights(found, model)
    if dtype != "int8":  # of which the embedding is none
        np.testing.assert_array_equal(load(tmp_path / "new")[0](IDS), found(IDS))


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", ["int8", "bfloat16", "float32"])
def test_nothing_is_copied_or_rounded_when_it_is_loaded(dtype: str, model_type: str, tmp_path: Path) -> None:
    convert(source(tmp_path, model_type), tmp_path / "new", dtype)
    model, _ = load(tmp_path / "new")
    kinds = {"int8": Int8Matrix, "bfloat16": Bfloat16Matrix, "float32": np.ndarray}
    for name, array in model.weights.items():
        assert on_file(array if isinstance(array, np.ndarray) else array.stored), name
        if array.shape[-1] > 1 and ".weight" in name and not name.startswith("embedding"):
            assert isinstance(array, kinds[dtype]), name


@pytest.mark.parametrize("model_type", MODELS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_transformers_reads_plain_types(model_type: str, dtype: str, tmp_path: Path) -> None:
    old = source(tmp_path, model_type, torch.float16)
    convert(old, tmp_path / "new", dtype)
    before, after = (load_file(folder / "model.safetensors") for folder in (old, tmp_path / "new"))
    assert {name: tensor.shape for name, tensor in before.items()} == {n: t.shape for n, t in after.items()}
    if dtype == "float32":
        assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    assert json.loads((tmp_path / "new" / "config.json").read_text())["dtype"] == dtype
    theirs, report = AutoModelForCausalLM.from_pretrained(
        tmp_path / "new", dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    expected = logits_of(theirs.eval(), IDS)
    assert np.abs(load(tmp_path / "new")[0](IDS) - expected).max() < 1e-5 * np.abs(expected).max()


@COMPRESSED
@pytest.mark.parametrize("model_type", OF_TRANSFORMERS)
def test_transformers_reads_int8(model_type: str, tmp_path: Path) -> None:
    convert(source(tmp_path, model_type), tmp_path / "new", "int8")
    theirs, report = AutoModelForCausalLM.from_pretrained(
        tmp_path / "new", dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert any(parameter.dtype == torch.int8 for parameter in theirs.parameters())
    expected = logits_of(theirs.eval(), IDS)
    assert np.abs(load(tmp_path / "new")[0](IDS) - expected).max() < 1e-5 * np.abs(expected).max()


@COMPRESSED
def test_transformers_reads_gpt2_where_it_is_told_to_widen(tmp_path: Path) -> None:
    convert(source(tmp_path, "gpt2"), tmp_path / "new", "int8")
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path / "new",
        dtype=torch.float32,
        attn_implementation="eager",
        quantization_config=CompressedTensorsConfig(dequantize=True),
    )
    expected = logits_of(theirs.eval(), IDS)
    assert np.abs(load(tmp_path / "new")[0](IDS) - expected).max() < 1e-5 * np.abs(expected).max()
    with pytest.raises(RuntimeError):  # not otherwise, but neither are scales forgotten in silence
        logits_of(AutoModelForCausalLM.from_pretrained(tmp_path / "new", dtype=torch.float32).eval(), IDS)


@COMPRESSED
@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_compare_reads_int8(model_type: str, tmp_path: Path, capsys: Any) -> None:
    convert(source(tmp_path, model_type), tmp_path / "new", "int8")
    assert tinystar(["compare", str(tmp_path / "new"), "--ids", "5,6,7"]) == 0
    assert "activations agree" in capsys.readouterr().out


def test_what_int8_files_hold(tmp_path: Path) -> None:
    convert(source(tmp_path, "mixtral"), tmp_path / "new", "int8")
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    rounded = {name for name, tensor in tensors.items() if tensor.dtype == torch.int8}
    assert {name for name in tensors if name.endswith("_scale")} == {f"{name}_scale" for name in rounded}
    assert all(tensors[f"{name}_scale"].shape == (len(tensors[name]), 1) for name in rounded)
    others = {
        name for name, tensor in tensors.items() if tensor.ndim == 2 and name.endswith(".weight")
    } - rounded
    assert len(rounded) == 2 * (4 + 3 * 3) + 1
    assert {name.rpartition("layers.")[2][2:] for name in others} == {
        "block_sparse_moe.gate.weight",
        "del.embed_tokens.weight",
    }
    said = json.loads((tmp_path / "new" / "config.json").read_text())["quantization_config"]
    assert set(said["ignore"]) == {name.removesuffix(".weight") for name in others}


def test_an_unknown_type(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"float16.*must be one of int8, mxfp4, bfloat16, float32"):
        convert("stories", tmp_path / "new", "float16")


@pytest.mark.parametrize("dtype", ["int8", "bfloat16", "float32"])
def test_int8_files_can_be_converted_and_loaded_in_every_type(dtype: str, tmp_path: Path) -> None:
    convert(source(tmp_path), tmp_path / "int8", "int8")
    convert(tmp_path / "int8", tmp_path / "again", dtype)
    model = load(tmp_path / "int8", dtype)[0]
    assert_same_weights(load(tmp_path / "again", dtype)[0], model)
    expected = model(IDS)
    said = json.loads((tmp_path / "again" / "config.json").read_text())
    assert ("quantization_config" in said) == (dtype == "int8")
    exact = load(tmp_path / "int8")[0](IDS)
    tolerance = 1e-5 if dtype == "float32" else 0.05
    assert np.abs(expected - exact).max() < tolerance * np.abs(exact).max()


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_several_files(dtype: str, tmp_path: Path) -> None:
    old = source(tmp_path)
    convert(old, tmp_path / "new", dtype, largest_file=10_000)
    files = sorted(path.name for path in (tmp_path / "new").glob("*.safetensors"))
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert len(files) > 2
    index = json.loads((tmp_path / "new" / "model.safetensors.index.json").read_text())
    held = {name: file for file in files for name in load_file(tmp_path / "new" / file)}
    assert index["weight_map"] == held
    largest = max(sum(t.nbytes for t in load_file(tmp_path / "new" / file).values()) for file in files)
    assert largest <= 211 * 24 * 4  # the embedding is larger than 10 000 bytes
    np.testing.assert_array_equal(load(tmp_path / "new", dtype)[0](IDS), load(old, dtype)[0](IDS))
    convert(tmp_path / "new", tmp_path / "one", dtype)  # several files are read, too
    np.testing.assert_array_equal(load(tmp_path / "one", dtype)[0](IDS), load(old, dtype)[0](IDS))


def test_the_text_part_of_a_model_that_sees(tmp_path: Path) -> None:
    text = {**TEXT, "model_type": "mistral", "sliding_window": None}
    encoder = {**VISION, "num_attention_heads": 2}
    config = Mistral3Config(text_config=text, vision_config=encoder, image_token_index=IMAGE)
    old = save(whole_model(config), tmp_path / "old")
    convert(old, tmp_path / "new", "int8")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("old", "new"))
    seeing = [name for name in before if not name.startswith("language_model.")]
    assert len(seeing) > 20
    for name in seeing:
        assert torch.equal(after[name], before[name]), name
    assert after["language_model.model.layers.0.mlp.up_proj.weight"].dtype == torch.int8
    said = json.loads((tmp_path / "new" / "config.json").read_text())["quantization_config"]["ignore"]
    assert "vision_tower.transformer.layers.0.attention.q_proj" in said
    ids, images = row_of(3, (random_pixels(1, 3, 28, 28), 4), 9)
    found, expected = (load(tmp_path / name, "int8")[0] for name in ("new", "old"))
    np.testing.assert_array_equal(found(IDS), expected(IDS))
    np.testing.assert_array_equal(found(ids, images=images), expected(ids, images=images))


def test_files_beside_the_weights_go_with_them(talking_model: Path, tmp_path: Path) -> None:
    (talking_model / "chat_template.jinja").write_text("{{ messages }}")
    (talking_model / "additional_chat_templates").mkdir()
    (talking_model / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    (talking_model / "pytorch_model.bin").write_bytes(b"x")
    (talking_model / "modeling.py").write_text("import os")
    convert(talking_model, tmp_path / "new", "bfloat16")

    def below(folder: Path) -> set[str]:
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    assert below(tmp_path / "new") == below(talking_model) - {"pytorch_model.bin", "modeling.py"}
    for name in below(tmp_path / "new") - {"config.json", "model.safetensors"}:
        assert (tmp_path / "new" / name).read_bytes() == (talking_model / name).read_bytes()


def test_no_file_from_elsewhere_goes_with_them(talking_model: Path, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key.jinja").write_text("mine")
    (talking_model / "additional_chat_templates").symlink_to(tmp_path / "secrets")
    with pytest.raises(CheckpointError, match="leads out of the model's directory"):
        convert(talking_model, tmp_path / "new", "bfloat16")
    assert not (tmp_path / "new").exists()


def test_numbers_that_json_has_no_word_for_stay(tmp_path: Path) -> None:
    old = source(tmp_path)
    edit_config(old, something={"__float__": "Infinity"})
    convert(old, tmp_path / "new", "bfloat16")
    assert json.loads((tmp_path / "new" / "config.json").read_text())["something"] == {
        "__float__": "Infinity"
    }


def test_an_empty_directory_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    assert tinystar(["convert", "stories", ".", "--dtype", "bfloat16"]) == 0
    assert {"config.json", "model.safetensors"} < {path.name for path in Path().iterdir()}


@pytest.mark.parametrize("what", ["a directory with a file", "a file"])
def test_nothing_is_overwritten(what: str, tmp_path: Path) -> None:
    new = tmp_path / "new"
    if what == "a file":
        new.write_text("mine")
    else:
        new.mkdir()
        (new / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"(is not empty|is no directory)\.\nGive a new"):
        convert("stories", new, "bfloat16")
    assert (new if new.is_file() else new / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.rglob("*"))) == (1 if what == "a file" else 2)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("end", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_ends_early_leaves_nothing(
    end: BaseException, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new"
    if there:
        new.mkdir()
    rounds = 0

    def narrow_until(x: Any) -> Any:
        nonlocal rounds
        rounds += 1
        if rounds > 3:
            raise end
        return np.zeros(x.shape, np.uint16)

    monkeypatch.setattr(fast, "to_bfloat16", narrow_until)
    expected = KeyboardInterrupt if isinstance(end, KeyboardInterrupt) else CheckpointError
    with pytest.raises(
        expected, match=None if expected is KeyboardInterrupt else "cannot be written .No space"
    ):
        convert("stories", new, "bfloat16")
    assert list(tmp_path.rglob("*")) == ([new] if there else [])


def spoiled(tensors: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {name: tensor for name, tensor in (tensors | changes).items() if tensor is not None}


Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{Q}_scale": torch.ones(23, 1)}, r"_scale' has shape \(23, 1\), but .* needs .*: \(24, 1\)"),
        ({f"{Q}_scale": torch.ones(24)}, r"has shape \(24,\), but"),
        ({f"{Q}_scale": None}, "has element type I8"),
        ({Q: None}, "it lacks 'model.layers.0.self_attn.q_proj.weight'; it has .*_scale"),
        ({f"{Q}_scale": torch.ones(24, 1, dtype=torch.int32)}, "has element type I32"),
        ({Q: torch.ones(24, 23, dtype=torch.int8)}, r"has shape \(24, 23\), the config asks for \(24, 24\)"),
    ],
)
def test_damaged_int8_files_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    convert(source(tmp_path), tmp_path / "new", "int8")
    file = tmp_path / "new" / "model.safetensors"
    save_file(spoiled(load_file(file), **changes), file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "new")


WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
GROUP = {"targets": ["Linear"], "weights": WEIGHTS}


def with_group(**group: Any) -> dict[str, Any]:
    return {"config_groups": {"group_0": GROUP | group}}


@pytest.mark.parametrize(
    "change",
    [
        {"quant_method": "gptq"},
        {"format": "marlin-24"},
        {"quantization_status": "frozen"},
        {"config_groups": {}},
        {"config_groups": []},
        {"config_groups": {"W8A16": ["Linear"]}},
        with_group(format="marlin-24"),
        with_group(weights=None),
        with_group(weights=WEIGHTS | {"num_bits": 6}),
        with_group(weights=WEIGHTS | {"group_size": -2}),
        with_group(weights=WEIGHTS | {"dynamic": True}),
        {"something_new": True},
    ],
)
def test_other_settings_of_the_format_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    convert(source(tmp_path), tmp_path / "new", "int8")
    said = json.loads((tmp_path / "new" / "config.json").read_text())["quantization_config"]
    edit_config(tmp_path / "new", quantization_config=said | change)
    with pytest.raises(ConfigError, match=r"quantization_config = .* is not implemented"):
        load(tmp_path / "new")


@COMPRESSED
def test_settings_as_the_package_writes_them_are_read(tmp_path: Path) -> None:
    from compressed_tensors.quantization import QuantizationConfig

    old = source(tmp_path)
    convert(old, tmp_path / "new", "int8")
    said = json.loads((tmp_path / "new" / "config.json").read_text())["quantization_config"]
    written = QuantizationConfig.model_validate(said).model_dump(mode="json")
    assert written.keys() > said.keys()
    edit_config(tmp_path / "new", quantization_config=written)
    np.testing.assert_array_equal(load(tmp_path / "new", "int8")[0](IDS), load(old, "int8")[0](IDS))


def answer(capsys: Any, *arguments: str) -> tuple[str, str]:
    assert tinystar(["ask", "--temperature", "0", "-n", "12", *arguments, "Once upon a time"]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


@pytest.fixture
def talking_llama(talking_model: Path, tmp_path: Path) -> Path:
    """A small random Llama with the tokenizer of the small random GPT-2."""
    llama = save(reference_model("llama", **MODELS["llama"], vocab_size=257), tmp_path / "llama")
    for file in talking_model.glob("tokenizer*"):
        shutil.copy(file, llama)
    return llama


def test_on_the_command_line(talking_llama: Path, tmp_path: Path, capsys: Any) -> None:
    new = str(tmp_path / "new")
    assert tinystar(["convert", str(talking_llama), new, "--dtype", "int8"]) == 0
    assert capsys.readouterr().out == f"{new}: 43.0 KB, 71% of 21.7 K weights as int8\n"
    expected = answer(capsys, "-m", str(talking_llama), "--dtype", "int8")
    assert answer(capsys, "-m", new, "--dtype", "int8") == expected
    assert tinystar(["inspect", new]) == 0
    assert "15 linear layers in int8, a scale per output (compressed-tensors)" in capsys.readouterr().out
    assert tinystar(["convert", "stories", new, "--dtype", "float32"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {new}: is not empty.\n")
    assert tinystar(["inspect", new, "--json", "--check"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"]["stored"]["int8_matrices"] == 15


def test_of_a_config_alone_inspect_says_int8(tmp_path: Path, capsys: Any) -> None:
    convert(source(tmp_path), tmp_path / "new", "int8")
    (tmp_path / "new" / "model.safetensors").unlink()
    assert tinystar(["inspect", str(tmp_path / "new")]) == 0
    assert "unknown, int8 by config.json; they are not here" in capsys.readouterr().out


def test_who_waits_for_rounding_is_told_how_to_keep_it(
    talking_model: Path, talking_llama: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hint = f"tinystar convert {talking_llama} DIR --dtype int8 keeps the result.\n"
    asked = "-m", str(talking_llama), "--dtype", "int8"
    assert answer(capsys, *asked)[1] == ""  # so few weights take no time
    monkeypatch.setattr(conversion, "FEW", 1000)
    assert answer(capsys, *asked)[1] == hint
    assert answer(capsys, *asked, "-q")[1] == ""
    assert answer(capsys, "-m", str(talking_llama))[1] == ""
    assert "--dtype bfloat16 keeps" in answer(capsys, "-m", str(talking_model), "--dtype", "bfloat16")[1]
    convert(talking_llama, tmp_path / "new", "int8")
    assert answer(capsys, "-m", str(tmp_path / "new"), "--dtype", "int8")[1] == ""
