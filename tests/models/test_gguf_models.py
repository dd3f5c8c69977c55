"""Small models of each architecture, written as GGUF, against transformers."""

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, edit_config, logits_of, random_ids, reference_model
from parity_case import FULL, LLAMA3, LONGROPE, YARN, Keys, part, rope
from parity_cases import ROWS
from transformers import AutoModelForCausalLM

from tinystar_np.conversion import convert
from tinystar_np.errors import CheckpointError, ConfigError, InputError, TinyStarError
from tinystar_np.fast.mapped import on_file
from tinystar_np.generation import generate
from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.linear import unpacked
from tinystar_np.kernels.matrix_in_turns import MatrixInTurns
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix
from tinystar_np.loading import load

pytest.importorskip("gguf", reason="the reference for GGUF: pip install --no-deps gguf")
from gguf import GGMLQuantizationType
from gguf_conversion import ARCHITECTURES, write_gguf

pytestmark = pytest.mark.usefixtures("one_blas_thread")

# What a GGUF file cannot say is as in published models.
SMALL: dict[str, Keys] = {
    "gpt_oss": {"swiglu_limit": 7.0, "rope_parameters": {**YARN, "truncate": False}},
    "gemma3_text": {"sliding_window_pattern": 6, "num_hidden_layers": 7},
    "mamba": {"time_step_rank": 4},
    "qwen3_moe": {"norm_topk_prob": True},
    "mixtral": {"sliding_window": None},
    "starcoder2": {"sliding_window": None},
    "phi": part(0.5, rope_theta=10000.0),
    "gpt_neox": part(0.5, rope_theta=10000.0),
    "falcon": {"rope_parameters": rope(rope_theta=10000.0)},
    "granitemoehybrid": {"position_embedding_type": "nope"},
    "falcon_h1": {"mamba_rms_norm": True, "mamba_norm_before_gate": False},
}
VARIANTS: list[tuple[str, Keys]] = [(model_type, {}) for model_type in ARCHITECTURES]
VARIANTS += [
    ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    ("llama", {"rope_parameters": {**LLAMA3, "original_max_position_embeddings": 8192, "rope_theta": 1e4}}),
    ("llama", {"rope_parameters": rope("linear", factor=4.0), "head_dim": 12}),
    ("llama", {"attention_bias": True, "mlp_bias": True}),
    ("qwen2", {"rope_parameters": YARN, "tie_word_embeddings": True}),
    ("phi3", part(0.5, **LONGROPE) | {"max_position_embeddings": 64, "original_max_position_embeddings": 16}),
    ("phi3", {"sliding_window": None, "tie_word_embeddings": True, **part(1.0)}),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1}),
    ("gpt_neox", {"use_parallel_residual": False, **part(1.0, rope_theta=10000.0)}),
    ("stablelm", {"use_parallel_residual": True, "use_qkv_bias": True}),
    ("stablelm", {"qk_layernorm": True}),
    ("cohere", {"use_qk_norm": True, "num_key_value_heads": 2}),
    ("granitemoehybrid", {"num_local_experts": 0, "num_experts_per_tok": 0}),
    ("granitemoehybrid", {"position_embedding_type": "rope", "layer_types": ["linear_attention", FULL, FULL]}
     | {"num_hidden_layers": 3}),
    ("mamba2", {"n_groups": 1, "tie_word_embeddings": True}),
    ("deepseek_v2", {"q_lora_rank": None, "topk_method": "greedy", "n_group": 1, "topk_group": 1}),
    ("deepseek_v2", {"rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.7}}),
]  # fmt: skip


def make(model_type: str, changes: Keys, directory: Path) -> Any:
    """Make a small model and save it; its experts apart, as the conversion expects them."""
    case = ROWS[model_type]
    reference = reference_model(
        model_type, **{**case.smallest, **case.more, **SMALL.get(model_type, {}), **changes}
    )
    reference.save_pretrained(directory)
    return reference


@pytest.mark.parametrize(("model_type", "changes"), VARIANTS, ids=lambda value: str(value)[:60])
def test_as_transformers(model_type: str, changes: Keys, tmp_path: Path) -> None:
    """The same logits as transformers from its own files."""
    reference = make(model_type, changes, tmp_path)
    path = write_gguf(tmp_path, tmp_path / "model.gguf")
    model, tokenizer = load(path)
    assert tokenizer is None
    ids = random_ids(2, 50)
    assert_close(model(ids), logits_of(reference, ids))


@pytest.mark.parametrize(("model_type", "changes"), VARIANTS, ids=lambda value: str(value)[:60])
def test_transformers_reads_it_converted(model_type: str, changes: Keys, tmp_path: Path) -> None:
    """From GGUF to a directory: transformers has the logits that it has from its own files."""
    reference = make(model_type, changes, tmp_path)
    convert(write_gguf(tmp_path, tmp_path / "model.gguf"), tmp_path / "new", "float32")
    theirs, report = AutoModelForCausalLM.from_pretrained(
        tmp_path / "new", attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values()), report
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config["architectures"] == [type(theirs).__name__]
    ids = random_ids(2, 50)
    expected = logits_of(reference, ids)
    assert_close(logits_of(theirs.eval(), ids), expected)
    assert_close(load(tmp_path / "new")[0](ids), expected)


FUSED = [m for m in ARCHITECTURES if m not in ("gpt2", "gpt_neox", "falcon", "mpt", "bloom", "phi3")]
"""Those that may have several matrices in one tensor; the others always have."""


@pytest.mark.parametrize("model_type", [m for m in FUSED if m not in ("mamba", "mamba2")])
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_several_matrices_in_one_tensor(model_type: str, kind: str, tmp_path: Path) -> None:
    known = ROWS[model_type].smallest
    make(model_type, {key: value for key, value in WIDE.items() if key in known}, tmp_path)
    of_type = GGMLQuantizationType[kind]
    apart = load(write_gguf(tmp_path, tmp_path / "apart.gguf", of_type))[0]
    path = write_gguf(tmp_path, tmp_path / "fused.gguf", of_type, fused=True)
    assert re.search(rb"blk.\d+.(attn_qkv|ffn_gate_up_exps).weight", path.read_bytes())
    fused = load(path)[0]
    assert fused.weights.keys() == apart.weights.keys()
    for name, matrix in fused.weights.items():
        assert type(matrix) is type(apart.weights[name])
        np.testing.assert_array_equal(unpacked(matrix), unpacked(apart.weights[name]), name)
    ids = random_ids(2, 30)
    assert_close(fused(ids), apart(ids))


@pytest.mark.parametrize("model_type", ["llama", "qwen2_vl_text", "gemma3_text"])
def test_an_image_is_refused(model_type: str, tmp_path: Path) -> None:
    """The encoder of images would be in another file."""
    make(model_type, {}, tmp_path)
    model, _ = load(write_gguf(tmp_path, tmp_path / "model.gguf"))
    _, tokenizer = load("stories")
    with pytest.raises(
        InputError, match=r"text alone: it cannot .*\n.* of its own \(mmproj\), is not read here"
    ):
        generate(model, tokenizer, "What?", images=[np.zeros((8, 8, 3), np.uint8)])


def test_rows_that_are_too_few_are_refused_by_name(tmp_path: Path) -> None:
    make("llama", {"num_attention_heads": 4, "num_key_value_heads": 4}, tmp_path)
    path = write_gguf(tmp_path, tmp_path / "fused.gguf", fused=True)
    data = path.read_bytes()
    heads = b"llama.attention.head_count" + (4).to_bytes(4, "little")
    place = data.index(heads) + len(heads)
    assert data[place : place + 4] == (4).to_bytes(4, "little")
    path.write_bytes(data[:place] + (12).to_bytes(4, "little") + data[place + 4 :])
    with pytest.raises(TinyStarError, match=r"attn_qkv|head"):
        load(path)


# Rows of 32 and more, so that they make blocks.
WIDE = dict.fromkeys(("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size"), 64)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_packed(model_type: str, tmp_path: Path) -> None:
    """Matrices of 8 bits stay as they lie in the file; the logits are those of the same float32 weights."""
    known = ROWS[model_type].smallest
    make(model_type, {key: value for key, value in WIDE.items() if key in known}, tmp_path)
    kind = GGMLQuantizationType.Q8_0
    packed = load(write_gguf(tmp_path, tmp_path / "packed.gguf", kind))[0]
    plain = load(write_gguf(tmp_path, tmp_path / "plain.gguf", kind, unpacked=True))[0]
    in_blocks = BlockMatrix | MatrixInTurns
    count = sum(isinstance(matrix, in_blocks) for matrix in packed.weights.values())
    assert count > 2 * len(packed.blocks)
    ids = random_ids(2, 30)
    assert_close(packed(ids), plain(ids))


@pytest.mark.parametrize("fused", [False, True])
def test_experts_of_gpt_oss_are_not_copied(fused: bool, tmp_path: Path) -> None:
    """Gates and ups alternate for transformers, and are in two tensors of the file, or halves of one."""
    make("gpt_oss", {"intermediate_size": 64}, tmp_path)
    path = write_gguf(tmp_path, tmp_path / "packed.gguf", GGMLQuantizationType.Q8_0, fused=fused)
    model, _ = load(path)
    experts = {name: matrix for name, matrix in model.weights.items() if re.search(r"experts.*weight", name)}
    assert {type(matrix) for matrix in experts.values()} == {BlockMatrix, MatrixInTurns}
    for matrix in experts.values():
        for each in matrix.parts if isinstance(matrix, MatrixInTurns) else [matrix]:
            assert on_file(each.stored)
    convert(path, tmp_path / "new", "float32")
    ids = random_ids(2, 30)
    assert_close(model(ids), load(tmp_path / "new")[0](ids))


def test_experts_in_mxfp4_are_converted_as_they_are(tmp_path: Path) -> None:
    """What the gguf package rounded to MXFP4 stays so, number by number, in transformers' layout."""
    make("gpt_oss", {"hidden_size": 64, "intermediate_size": 64}, tmp_path)
    path = write_gguf(tmp_path, tmp_path / "packed.gguf", GGMLQuantizationType.MXFP4)
    convert(path, tmp_path / "new", "mxfp4")
    old, new = load(path)[0], load(tmp_path / "new")[0]
    experts = [name for name in old.weights if re.search(r"experts.*weight", name)]
    assert len(experts) >= 8
    for name in experts:
        assert type(new.weights[name]) is CodedMatrix
        np.testing.assert_array_equal(unpacked(new.weights[name]), unpacked(old.weights[name]), name)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_packed_is_converted_as_it_is_loaded(model_type: str, dtype: str, tmp_path: Path) -> None:
    """The new files hold the weights that loading the old one with the same dtype makes."""
    known = ROWS[model_type].smallest
    make(model_type, {key: value for key, value in WIDE.items() if key in known}, tmp_path)
    path = write_gguf(tmp_path, tmp_path / "packed.gguf", GGMLQuantizationType.Q8_0)
    convert(path, tmp_path / "new", dtype)
    found, expected = load(tmp_path / "new", dtype)[0], load(path, dtype)[0]
    assert found.weights.keys() == expected.weights.keys()
    for name, matrix in found.weights.items():
        np.testing.assert_array_equal(unpacked(matrix), unpacked(expected.weights[name]), name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("F16", np.ndarray), ("BF16", Bfloat16Matrix), ("Q4_0", BlockMatrix), ("Q5_1", BlockMatrix)],
)
@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "int8"])
def test_types(name: str, expected: type, dtype: str, tmp_path: Path) -> None:
    """Each type as each dtype, beside a file of the same weights in float32."""
    make("llama", {"intermediate_size": 64}, tmp_path)
    kind = GGMLQuantizationType[name]
    model = load(write_gguf(tmp_path, tmp_path / "packed.gguf", kind), dtype)[0]
    plain = load(write_gguf(tmp_path, tmp_path / "plain.gguf", kind, unpacked=True), dtype)[0]
    kept = {"auto": expected, "float32": np.ndarray, "bfloat16": Bfloat16Matrix, "int8": Int8Matrix}[dtype]
    assert isinstance(model.weights["blocks.1.attention.q.weight"], kept)
    ids = random_ids(2, 30)
    assert_close(model(ids), plain(ids))


def test_what_the_config_refuses(tmp_path: Path) -> None:
    """The message names the file, and the key as config.json would have it."""
    make("llama", {"num_attention_heads": 4, "num_key_value_heads": 4}, tmp_path)
    edit_config(tmp_path, rms_norm_eps=-1.0)
    path = write_gguf(tmp_path, tmp_path / "model.gguf")
    message = r"model.gguf: as a config.json: rms_norm_eps = -1.0 must be above 0"
    with pytest.raises(ConfigError, match=message):
        load(path)
    with pytest.raises(ConfigError, match=message):
        convert(path, tmp_path / "new", "float32")


def test_an_unknown_tensor_is_refused_by_name(tmp_path: Path) -> None:
    make("llama", {"attention_bias": True}, tmp_path)
    edit_config(tmp_path, model_type="qwen2")
    path = write_gguf(tmp_path, tmp_path / "model.gguf")
    with pytest.raises(CheckpointError, match=r"it has 'model.layers.0.self_attn.o_proj.bias'"):
        load(path)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("model_type", ["llama", "deepseek_v3", "gpt_oss", "granitemoehybrid", "gemma3_text"])
def test_mutated_headers(model_type: str, fused: bool, tmp_path: Path) -> None:
    """With any bytes of its keys and names changed, a file loads or gives our error."""
    make(model_type, {}, tmp_path)
    data = write_gguf(tmp_path, tmp_path / "model.gguf", fused=fused).read_bytes()
    end, generator = data.rindex(b".weight"), random.Random(1)
    refused = 0
    for _ in range(60):
        mutated = bytearray(data)
        for _ in range(generator.choice((1, 1, 2, 5))):
            mutated[generator.randrange(24, end)] = generator.choice((0, 1, 255, generator.randrange(256)))
        (tmp_path / "mutated.gguf").write_bytes(mutated)
        try:
            load(tmp_path / "mutated.gguf")
        except TinyStarError:
            refused += 1
    assert 10 < refused < 60
