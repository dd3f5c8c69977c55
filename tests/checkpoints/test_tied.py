"""A table that is embedding and output layer both: in the file under one name, the other, or both."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from parity import assert_close, logits_of, name_in_file, random_ids, reference_model, save
from safetensors.numpy import load_file, save_file
from switches import TYPES, small
from transformers import AutoModelForCausalLM, PreTrainedModel

from tinystar_np.checkpoints.model_files import INDEX_FILE
from tinystar_np.errors import CheckpointError
from tinystar_np.loading import load

pytestmark = pytest.mark.usefixtures("one_blas_thread")

IDS = random_ids(2, 12)
UNTIED = {"bailing_hybrid", "dbrx", "kimi_linear", "nemotron_h", "xlstm"}
"""transformers refuses it there, ties nothing, or has no rule for it."""
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@cache
def tied(model_type: str) -> PreTrainedModel:
    """A small model whose two tables are one; no test changes it."""
    reference = reference_model(model_type, **small(model_type), tie_word_embeddings=True)
    assert reference.get_output_embeddings().weight is reference.get_input_embeddings().weight
    if reference.config.model_type == "falcon" and reference.config.alibi:
        reference.config._attn_implementation = "sdpa"
    return reference


@cache
def logits_of_tied(model_type: str) -> np.ndarray:
    return logits_of(tied(model_type), IDS)


def names(reference: PreTrainedModel) -> tuple[str, str]:
    """What the embedding and the output layer are called."""
    modules = {module: name for name, module in reference.named_modules(remove_duplicate=False)}
    return tuple(
        f"{modules[module]}.weight"
        for module in (reference.get_input_embeddings(), reference.get_output_embeddings())
    )  # type: ignore[return-value]


@pytest.mark.parametrize("model_type", sorted({*TYPES} - UNTIED))
def test_under_the_name_of_the_head_alone(model_type: str, tmp_path: Path) -> None:
    """As ``safetensors.torch.save_model`` writes many."""
    reference = tied(model_type)
    embedding, head = names(reference)
    path = save(reference, tmp_path) / "model.safetensors"
    tensors = load_file(path)
    embedding = name_in_file(tensors, embedding, reference.get_input_embeddings().weight)
    tensors[head] = tensors.pop(embedding)
    save_file(tensors, path)
    expected = logits_of(AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager"), IDS)
    assert_close(logits_of_tied(model_type), expected, tolerance=1e-6)
    model, _ = load(tmp_path, dtype="float32")
    assert_close(model(IDS), expected)
    for dtype in ("bfloat16", "int8"):
        assert np.isfinite(load(tmp_path, dtype=dtype)[0](IDS)).all()


@pytest.mark.parametrize("model_type", TYPES)
def test_as_save_model_writes(model_type: str, tmp_path: Path) -> None:
    """The names of today's modules, which ``save_pretrained`` turns back into those of the first files."""
    reference = reference_model(model_type, **small(model_type)) if model_type in UNTIED else tied(model_type)
    save(reference, tmp_path)
    safetensors.torch.save_model(reference, str(tmp_path / "model.safetensors"))
    expected = logits_of(AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager"), IDS)
    assert_close(logits_of(reference, IDS), expected, tolerance=1e-6)
    assert_close(load(tmp_path, dtype="float32")[0](IDS), expected)


def index_that_promises(reference: PreTrainedModel, directory: Path, *ghosts: str) -> None:
    """Save in two shards, and add names to the index that none of them holds."""
    save(reference, directory)
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    shards = {FIRST: dict(list(tensors.items())[::2]), SECOND: dict(list(tensors.items())[1::2])}
    for name, some in shards.items():
        save_file(some, directory / name)
    held = {tensor: name for name, some in shards.items() for tensor in some}
    weight_map = {**held, **dict.fromkeys(ghosts, SECOND)}
    (directory / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


GHOSTS = {
    "llama": ("lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"),
    "gpt2": ("lm_head.weight", "transformer.h.0.attn.bias", "h.1.attn.masked_bias"),
    "gpt_neox": ("embed_out.weight", "lm_head.weight", "gpt_neox.layers.0.attention.rotary_emb.inv_freq"),
    "gptj": ("transformer.h.0.attn.masked_bias",),
    "mamba": ("lm_head.weight",),
    "deepseek_v3": ("lm_head.weight", "model.layers.61.embed_tokens.weight"),
    "qwen3_next": ("mtp.norm.weight",),
}


@pytest.mark.parametrize("model_type", GHOSTS)
def test_an_index_that_names_what_nobody_needs(model_type: str, tmp_path: Path) -> None:
    reference = tied(model_type)
    index_that_promises(reference, tmp_path, *GHOSTS[model_type])
    expected = logits_of(AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager"), IDS)
    assert_close(load(tmp_path, dtype="float32")[0](IDS), expected)


def test_an_index_that_names_the_embedding_of_a_file_with_the_head(tmp_path: Path) -> None:
    reference = tied("llama")
    index_that_promises(reference, tmp_path, "lm_head.weight")
    weight_map = json.loads((tmp_path / INDEX_FILE).read_text())["weight_map"]
    shard = tmp_path / weight_map["model.embed_tokens.weight"]
    tensors = load_file(shard)
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, shard)
    weight_map["lm_head.weight"] = shard.name
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))
    assert_close(load(tmp_path, dtype="float32")[0](IDS), logits_of(reference, IDS))


@pytest.mark.parametrize(
    ("config", "ghost"),
    [
        ({"tie_word_embeddings": False}, "lm_head.weight"),
        ({}, "model.layers.0.mlp.down_proj.weight"),
        ({}, "model.layers.7.mlp.down_proj.weight"),
        ({}, "model.layers.0.self_attn.q_proj.bias"),
    ],
)
def test_an_index_that_names_weights_which_are_not_there(
    config: dict[str, bool], ghost: str, tmp_path: Path
) -> None:
    reference = reference_model("llama", **{**small("llama"), "tie_word_embeddings": True, **config})
    index_that_promises(reference, tmp_path)
    raw = json.loads((tmp_path / INDEX_FILE).read_text())
    for path in (tmp_path / FIRST, tmp_path / SECOND):
        save_file({name: array for name, array in load_file(path).items() if name != ghost}, path)
    raw["weight_map"].setdefault(ghost, SECOND)
    (tmp_path / INDEX_FILE).write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=rf"has no tensor '{ghost}', but {INDEX_FILE}"):
        load(tmp_path)


@pytest.mark.parametrize("model_type", sorted({*TYPES} - UNTIED))
def test_two_tables_that_differ_are_two(model_type: str, tmp_path: Path) -> None:
    """Whatever the config says, as in transformers."""
    reference = tied(model_type)
    embedding, head = names(reference)
    path = save(reference, tmp_path) / "model.safetensors"
    tensors = load_file(path)
    embedding = name_in_file(tensors, embedding, reference.get_input_embeddings().weight)
    save_file({**tensors, head: tensors[embedding][::-1].copy()}, path)
    attention = reference.config._attn_implementation
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=attention)
    expected = logits_of(theirs, IDS)
    assert np.abs(expected - logits_of_tied(model_type)).max() > 1e-3
    assert_close(load(tmp_path, dtype="float32")[0](IDS), expected)


def test_untied_the_head_does_not_stand_for_the_embedding(tmp_path: Path) -> None:
    path = save(tied("llama"), tmp_path, tie_word_embeddings=False) / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"it lacks 'model\.embed_tokens\.weight'"):
        load(tmp_path)
