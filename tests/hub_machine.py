"""Files of a model as a hub has them, and the places on a machine where tests put them."""

import json
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hub_server import COMMIT
from safetensors.numpy import save

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.errors import HubError

TOKEN = "hf_secretsecretsecret"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]

# Each content is another: the hub's cache keeps equal ones once, and would not ask for the second.
NEEDED = {
    "config.json": b'{"model_type": "gpt2"}',
    "generation_config.json": b'{"eos_token_id": 0}',
    "model.safetensors": save({"a": np.arange(4.0)}),
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b'{"model_max_length": 8}',
    "vocab.json": b'{"a": 0}',
    "merges.txt": b"#version: 0.2\n",
    "special_tokens_map.json": b'{"eos_token": "a"}',
    "added_tokens.json": b'{"b": 1}',
    "chat_template.jinja": b"{{ messages }}",
    "chat_template.json": b'{"chat_template": ""}',
    "tokenizer.model": b"\x0a",
}
UNWANTED = {
    "pytorch_model.bin": b"\x80\x02}q\x00.",
    "training_args.bin": b"\x80\x02}q\x00.",
    "tf_model.h5": b"h5",
    "flax_model.msgpack": b"fx",
    "rust_model.ot": b"ot",
    "consolidated.safetensors": b"the same once more",
    "model.fp16.safetensors": b"the same once more",
    "model.safetensors.index.json.bak": b"{}",
    "onnx/model.onnx": b"onnx",
    "onnx/config.json": b"{}",
    "original/model.safetensors": b"the same once more",
    "64-8bits.tflite": b"tf",
    "README.md": b"# Model",
    ".gitattributes": b"",
    "modeling_custom.py": b"raise SystemExit",
}
# Some of them, as a hub lists them that announces no hashes.
SHORT = [{"rfilename": name, "size": len(NEEDED[name])} for name in ("config.json", "model.safetensors")]
INDEX = {"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}
SHARDED = {
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
    SHARDS[0]: save({"a": np.ones(2)}),
    SHARDS[1]: save({"b": np.ones(2)}),
}


def put_model(directory: Path, files: dict[str, bytes] | None = None) -> Path:
    directory.mkdir(parents=True)
    for name, content in (NEEDED if files is None else files).items():
        (directory / name).write_bytes(content)
    return directory


def put_snapshot(cache: Path, repository: str, files: dict[str, bytes], commit: str = COMMIT) -> Path:
    """Fill the hub's cache as its library does: contents in blobs, links in snapshots, a ref for main."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for directory in (snapshot, folder / "blobs", folder / "refs"):
        directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / "blobs" / f"blob-of-{name}").write_bytes(content)
        (snapshot / name).symlink_to(f"../../blobs/blob-of-{name}")
    (folder / "refs" / "main").write_text(commit)
    return snapshot


def only(*names: str) -> dict[str, bytes]:
    return {name: {**NEEDED, **SHARDED}[name] for name in names}


def message_of(name: str, **arguments: object) -> str:
    with pytest.raises(HubError) as caught:
        find_model(name, **arguments)
    message = str(caught.value)
    assert message.count("\n") <= 1
    assert TOKEN not in message
    return message


def answer(status: str, *pieces: Iterable[bytes]) -> Callable[[], Iterable[bytes]]:
    """An answer of a hub, word for word, which ends the connection and says so."""
    return lambda: chain([f"HTTP/1.1 {status}\r\nConnection: close\r\n".encode()], *pieces)


def check_all_inside(machine: Path) -> Path:
    """The model is fetched, and there is nothing of it anywhere but in its folder of the cache."""
    found = find_model("owner/model")
    assert open_checkpoint(found)["a"].tolist() == [0, 1, 2, 3]
    assert {path.name for path in machine.iterdir()} == {"hf", "here"}
    assert not list((machine / "here").iterdir())
    assert {path.name for path in (machine / "hf" / "hub").iterdir()} == {"models--owner--model", ".locks"}
    refs = machine / "hf" / "hub" / "models--owner--model" / "refs"
    assert [path.name for path in refs.rglob("*")] == ["main"]
    assert {path.resolve().parent.name for path in found.iterdir()} == {"blobs"}
    return found
