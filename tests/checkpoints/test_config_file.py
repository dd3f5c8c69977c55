"""config.json and generation_config.json as transformers reads them. Faults: test_bad_files.py."""

import json
import math

import pytest
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from tinystar_np.checkpoints import json_file
from tinystar_np.checkpoints.config_file import read_config, read_end_ids
from tinystar_np.checkpoints.json_file import read_json_object
from tinystar_np.errors import CheckpointError


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text('{"a": 1}')
    assert read_json_object(path) == {"a": 1}
    monkeypatch.setattr(json_file, "SIZE_LIMIT", 7)
    with pytest.raises(CheckpointError, match="larger than"):
        read_json_object(path)


def test_what_transformers_writes_is_read_back(tmp_path):
    GPT2Config(n_layer=3, attn_pdrop=math.inf).save_pretrained(tmp_path)
    config = read_config(tmp_path)
    assert config["model_type"] == "gpt2"
    assert config["n_layer"] == 3
    assert config["attn_pdrop"] == math.inf  # in the file: {"__float__": "Infinity"}


@pytest.mark.parametrize(
    ("generation", "config"),
    [
        (None, {"eos_token_id": 7}),
        (None, {"eos_token_id": [7, 8]}),
        (None, {"eos_token_id": None}),
        (None, {}),
        ({"eos_token_id": 3}, {"eos_token_id": 7}),
        ({"eos_token_id": [2, 3]}, {"eos_token_id": 7}),
        ({"bos_token_id": 1}, {"eos_token_id": 7}),
        ({"eos_token_id": None}, {"eos_token_id": 7}),
    ],
)
def test_end_ids_are_those_of_transformers(tmp_path, generation, config):
    shape = {"n_layer": 1, "n_head": 1, "n_embd": 4, "vocab_size": 9, "n_positions": 4, "bos_token_id": 1}
    GPT2LMHeadModel(GPT2Config(**shape, eos_token_id=5)).save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", **shape, **config}))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).generation_config.eos_token_id
    expected = () if theirs is None else tuple(theirs) if isinstance(theirs, list) else (theirs,)
    assert read_end_ids(tmp_path, read_config(tmp_path)) == expected
