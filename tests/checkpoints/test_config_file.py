"""config.json, generation_config.json, and JSON that is not what it should be."""

import json
import math
import os

import pytest
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from tinystar_np.checkpoints import json_file
from tinystar_np.checkpoints.config_file import read_config, read_end_ids, read_json_object
from tinystar_np.errors import CheckpointError

DAMAGED = {
    "empty": (b"", "line 1, column 1"),
    "cut": (b'{"model_type": "gp', "line 1"),
    "trailing": (b"{}\n{}", "line 2, column 1"),
    "array": (b"[1]", "holds a list"),
    "number": (b"1", "holds a int"),
    "null": (b"null", "holds a NoneType"),
    "not UTF-8": (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "byte 0 is not UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf{}", "BOM"),
    "nested lists": (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
    "nested objects": (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "nested too deeply"),
    "huge number": (b'{"a": ' + b"9" * 5000 + b"}", "4300"),
    "duplicate": (b'{"n_layer": 1, "n_head": 2, "n_layer": 3}', "the key 'n_layer' stands there twice"),
    "duplicate within": (b'{"a": [{"b": 1, "b": 1}]}', "the key 'b' stands there twice"),
    "many keys, the last twice": (
        b"{" + b",".join(b'"%d":0' % i for i in range(200_000)) + b',"199999":0}',
        "the key '199999' stands there twice",
    ),
}


@pytest.mark.parametrize(("content", "words"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_json(tmp_path, content, words):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_config(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert str(caught.value).endswith(f"Delete {path.resolve()} and download it again.")


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text('{"a": 1}')
    assert read_json_object(path) == {"a": 1}
    monkeypatch.setattr(json_file, "SIZE_LIMIT", 7)
    with pytest.raises(CheckpointError, match="larger than"):
        read_json_object(path)


def test_a_missing_file_and_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "pipe"):
        with pytest.raises(CheckpointError, match=rf"{name}: there is no such file"):
            read_json_object(tmp_path / name)


def test_a_directory_without_config(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        read_config(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: has no config.json")


def test_a_config_that_is_a_link_to_elsewhere(tmp_path):
    (tmp_path / "secret").write_text('{"model_type": "gpt2"}')
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").symlink_to("../secret")
    with pytest.raises(CheckpointError, match=r"config\.json: leads out of the model's directory"):
        read_config(tmp_path / "model")


@pytest.mark.parametrize("content", ["{}", '{"model_type": null}', '{"model_type": 3}'])
def test_model_type_must_be_a_name(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json: 'model_type' is"):
        read_config(tmp_path)


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


@pytest.mark.parametrize("value", ["</s>", -1, 1.5, True, [1, "2"], [[1]], {"id": 1}])
def test_end_ids_that_are_no_ids(tmp_path, value):
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(CheckpointError, match=r"generation_config\.json: 'eos_token_id' is"):
        read_end_ids(tmp_path, {})
    with pytest.raises(CheckpointError, match=r"config\.json: 'eos_token_id' is"):
        read_end_ids(tmp_path / "other", {"eos_token_id": value})
