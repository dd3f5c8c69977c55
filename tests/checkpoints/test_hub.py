"""Finding a model by its name: places on disk first, then a hub that runs on the loopback."""

import contextlib
import errno
import json
import os
import pty
import socket
import subprocess
import sys
import termios
import traceback
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from hub_server import COMMIT, Fault, serve_hub
from huggingface_hub import constants, hf_hub_download
from safetensors.numpy import save

from tinystar_np.checkpoints import download, hub
from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.local_models import list_local_models
from tinystar_np.errors import HubError

CHECKOUT = Path(hub.__file__).parents[2]
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
INDEX = {"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}
SHARDED = {
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
    SHARDS[0]: save({"a": np.ones(2)}),
    SHARDS[1]: save({"b": np.ones(2)}),
}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine without any model: empty caches, and an environment that says nothing of the hub."""
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGINGFACE_", "XDG_CACHE")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub, "PACKAGE", tmp_path / "checkout" / "tinystar_np")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def served(monkeypatch):
    with serve_hub({"owner/model": {**NEEDED, **UNWANTED}}, {"v1": "a" * 40}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


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


# Places on disk


def test_a_directory(machine):
    put_model(machine / "here" / "mine")
    assert find_model("mine") == Path("mine")
    assert find_model("./mine") == Path("mine")
    assert find_model(str(machine / "here" / "mine")) == machine / "here" / "mine"


def test_a_directory_in_the_home(machine, monkeypatch):
    monkeypatch.setenv("HOME", str(machine))
    put_model(machine / "mine")
    assert find_model("~/mine") == machine / "mine"


@pytest.mark.parametrize(
    "name",
    [
        "./none",
        "/none",
        "~/none",
        "~nobody-of-this-name/x",
        "a/b/c",
        "../none",
        ".",
        "./" + "x" * 5000,
        "./a\0b",
    ],
)
def test_a_path_that_is_no_model_is_never_asked_of_the_hub(served, name):
    assert "no such directory" in message_of(name) or "has no config.json" in message_of(name)
    assert not served.requests


def test_a_directory_without_config_is_never_asked_of_the_hub(served, machine):
    (machine / "here" / "owner" / "model").mkdir(parents=True)
    assert "'owner/model': this directory has no config.json" in message_of("owner/model")
    (machine / "here" / "file").touch()
    assert "'file': is a file" in message_of("file")
    assert not served.requests


def test_a_directory_has_no_revisions(machine):
    put_model(machine / "here" / "mine")
    assert "'mine': a directory has no revision 'v1'" in message_of("mine", revision="v1")


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "owner/", "a\0b", "a\\b", "née", "a..b", "x" * 5000, "a/" + "x" * 97, "a\x1b[31m"],
)
def test_what_is_no_name_is_never_asked_of_the_hub(served, name):
    assert "is no name of a model" in message_of(name)
    assert not served.requests


@pytest.mark.parametrize("name", ["a--b", "owner/.git", "-x"])
def test_names_that_the_hub_does_not_allow(served, name):
    assert "is no name of a model" in message_of(name)


def test_nearest_place_first(served, machine):
    cached = put_snapshot(machine / "hf" / "hub", "stories", NEEDED)
    assert find_model("stories") == cached
    here = put_model(machine / "here" / "weights_cache" / "stories")
    assert find_model("stories").resolve() == here
    beside = put_model(machine / "checkout" / "weights_cache" / "stories")
    assert find_model("stories") == beside
    shipped = put_model(machine / "checkout" / "tinystar_np" / "shipped" / "stories")
    assert find_model("stories") == shipped
    assert find_model("stories", revision=COMMIT) == cached
    directory = put_model(machine / "here" / "stories")
    assert find_model("stories").resolve() == directory
    assert not served.requests


def test_weights_cache_with_an_owner_and_without_config(served, machine):
    put_model(machine / "checkout" / "weights_cache" / "owner" / "model", only("model.safetensors"))
    here = put_model(machine / "here" / "weights_cache" / "owner" / "model")
    assert find_model("owner/model").resolve() == here
    assert not served.requests


# The hub's cache


def test_a_cache_that_transformers_filled(served, machine, monkeypatch):
    # Exactly what from_pretrained does: one hf_hub_download per file that it wants.
    cache = machine / "hf" / "hub"
    for name in ("config.json", "model.safetensors", "generation_config.json", "tokenizer.json"):
        hf_hub_download("owner/model", name, endpoint=served.url, cache_dir=cache)
    served.requests.clear()
    found = find_model("owner/model")
    assert open_checkpoint(found)["a"].tolist() == [0, 1, 2, 3]
    assert not served.requests


@pytest.mark.parametrize("asked", ["gpt2", "openai-community/gpt2"])
@pytest.mark.parametrize("stored", ["gpt2", "openai-community/gpt2"])
def test_old_short_names_in_the_cache(machine, asked, stored):
    snapshot = put_snapshot(machine / "hf" / "hub", stored, NEEDED)
    assert find_model(asked, offline=True) == snapshot


def test_another_owners_gpt2_is_another_model(machine):
    put_snapshot(machine / "hf" / "hub", "gpt2", NEEDED)
    assert "someone/gpt2" in message_of("someone/gpt2", offline=True)


@pytest.mark.parametrize(
    ("settings", "cache"),
    [
        ({"HF_HUB_CACHE": "{tmp}/1"}, "1"),
        ({"HUGGINGFACE_HUB_CACHE": "{tmp}/2"}, "2"),
        ({"HF_HOME": "{tmp}/3"}, "3/hub"),
        ({"HF_HOME": "", "XDG_CACHE_HOME": "{tmp}/4"}, "4/huggingface/hub"),
        ({"HF_HOME": "", "HOME": "{tmp}/5"}, "5/.cache/huggingface/hub"),
        ({"HF_HUB_CACHE": "{tmp}/6", "HF_HOME": "{tmp}/7"}, "6"),
        ({"HF_HOME": "$PLACE/8", "PLACE": "{tmp}"}, "8/hub"),
        ({"HF_HOME": "~/9", "HOME": "{tmp}"}, "9/hub"),
    ],
)
def test_the_cache_is_where_the_hubs_library_has_it(machine, monkeypatch, settings, cache):
    monkeypatch.delenv("HF_HOME")
    for key, value in settings.items():
        if value:
            monkeypatch.setenv(key, value.replace("{tmp}", str(machine)))
    snapshot = put_snapshot(machine / cache, "owner/model", NEEDED)
    assert find_model("owner/model", offline=True) == snapshot
    # The library reads its environment when it is imported, so it is asked in a process of its own.
    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(theirs.stdout.strip()) == machine / cache


def test_cache_dir_is_used_in_place_of_the_usual_cache(served, machine):
    found = find_model("owner/model", cache_dir=machine / "elsewhere")
    assert found.is_relative_to(machine / "elsewhere")
    assert not (machine / "hf" / "hub").exists()
    assert find_model("owner/model", cache_dir=machine / "elsewhere", offline=True) == found


def test_revisions_on_disk(machine):
    cache = machine / "hf" / "hub"
    snapshot = put_snapshot(cache, "owner/model", NEEDED)
    refs = cache / "models--owner--model" / "refs"
    (refs / "v1").write_text(COMMIT)
    (refs / "refs" / "pr").mkdir(parents=True)
    (refs / "refs" / "pr" / "1").write_text(COMMIT + "\n")
    for revision in (None, "main", "v1", "refs/pr/1", COMMIT):
        assert find_model("owner/model", revision=revision, offline=True) == snapshot
    (refs / "broken").write_bytes(b"\xff/../../etc")
    (cache / "outside").write_text(COMMIT)
    for revision in ("v2", "b" * 40, "broken", "../../outside", str(cache / "outside"), "a\0b", "x" * 5000):
        assert "not on this machine" in message_of("owner/model", revision=revision, offline=True)


# The network


def test_the_first_time_downloads_what_is_needed_and_the_second_asks_nothing(served, machine):
    found = find_model("owner/model")
    assert found == machine / "hf/hub/models--owner--model/snapshots" / COMMIT
    assert served.downloads == sorted(NEEDED)
    assert {path.name for path in found.iterdir()} == set(NEEDED)
    assert open_checkpoint(found)["a"].tolist() == [0, 1, 2, 3]
    served.requests.clear()
    assert find_model("owner/model") == found
    assert find_model("owner/model", revision="main") == found
    assert find_model("owner/model", revision=COMMIT) == found
    assert not served.requests


def test_shards(served):
    files = {**NEEDED, **UNWANTED, **SHARDED}
    del files["model.safetensors"]
    served.repositories["owner/model"] = files
    assert sorted(open_checkpoint(find_model("owner/model"))) == ["a", "b"]
    assert served.downloads == sorted((set(NEEDED) | set(SHARDED)) - {"model.safetensors"})


def test_shards_are_not_fetched_beside_the_whole(served):
    served.repositories["owner/model"] = {**NEEDED, **SHARDED}
    find_model("owner/model")
    assert served.downloads == sorted(NEEDED)


@pytest.mark.parametrize("revision", ["v1", "a" * 40])
def test_a_revision(served, revision):
    found = find_model("owner/model", revision=revision)
    assert found.name == "a" * 40
    served.requests.clear()
    assert find_model("owner/model", revision=revision) == found
    assert not served.requests
    find_model("owner/model")  # main is another commit, not fetched so far
    assert served.requests


def test_a_short_name_is_fetched_under_its_present_name(served):
    served.repositories["openai-community/gpt2"] = NEEDED
    assert "models--openai-community--gpt2" in str(find_model("gpt2"))


def test_a_model_without_a_tokenizer_is_not_asked_for_again(served):
    served.repositories["owner/model"] = only("config.json", "model.safetensors")
    found = find_model("owner/model")
    served.requests.clear()
    assert find_model("owner/model") == found
    assert not served.requests


@pytest.mark.parametrize(
    "present",
    [
        ("config.json", "tokenizer.json"),
        ("config.json", "tokenizer.json", "model.safetensors.index.json", SHARDS[0]),
        ("model.safetensors", "tokenizer.json"),
        ("config.json", "model.safetensors", "vocab.json"),
    ],
)
def test_a_part_on_disk_is_completed(served, machine, present):
    put_snapshot(machine / "hf" / "hub", "owner/model", only(*present))
    found = find_model("owner/model")
    assert set(NEEDED) <= {path.name for path in found.iterdir()}
    assert served.downloads == sorted(set(NEEDED) - set(present))


def test_an_interrupted_download_is_completed(served):
    found = find_model("owner/model")
    (found / "generation_config.json").resolve().unlink()
    served.requests.clear()
    assert (find_model("owner/model") / "generation_config.json").exists()
    assert served.downloads == ["generation_config.json"]


@pytest.mark.parametrize("listing", [b"{", b"{}", b'{"files": 3}', b'{"files": [[]]}', b'{"files": [1, 2]}'])
def test_a_listing_of_unknown_form_is_not_asked(machine, listing):
    snapshot = put_snapshot(machine / "hf" / "hub", "owner/model", NEEDED)
    trees = snapshot.parent.parent / "trees"
    trees.mkdir()
    (trees / f"{COMMIT}.json").write_bytes(listing)
    assert find_model("owner/model", offline=True) == snapshot


def test_no_hub_but_all_except_a_tokenizer_on_disk(served, machine):
    snapshot = put_snapshot(machine / "hf" / "hub", "owner/model", only("config.json", "model.safetensors"))
    served.faults["owner/model"] = Fault(500)
    assert find_model("owner/model") == snapshot
    assert find_model("owner/model", offline=True) == snapshot


# Refusals


def test_a_repository_without_safetensors_is_refused_before_anything_is_fetched(served, machine):
    served.repositories["owner/old"] = {**UNWANTED, **only("config.json", "tokenizer.json")}
    message = message_of("owner/old")
    assert "owner/old has no safetensors, only pytorch_model.bin" in message
    assert "save_pretrained" in message
    assert not served.downloads
    assert not (machine / "hf").exists()


def test_a_repository_without_config(served):
    served.repositories["owner/data"] = {"README.md": b"", "model.safetensors": b""}
    assert "owner/data has no config.json" in message_of("owner/data")
    assert not served.downloads


def test_an_unknown_revision(served):
    message = message_of("owner/model", revision="v7")
    assert "owner/model has no revision 'v7'" in message


@pytest.mark.parametrize("on_files_only", [False, True])
@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "GatedRepo", ["owner/model is gated", "hf auth login"]),
        (401, "RepoNotFound", ["no model owner/model", "private", "HF_TOKEN"]),
        (404, "RepoNotFound", ["no model owner/model", "spelling"]),
        (401, None, ["HTTP 401", "token is not valid"]),
        (403, None, ["HTTP 403", "access is refused"]),
        (404, None, ["HTTP 404", "HF_ENDPOINT"]),
        (429, None, ["HTTP 429", "too many requests"]),
        (500, None, ["HTTP 500", "Try again in a few minutes"]),
        (503, None, ["HTTP 503", "Try again in a few minutes"]),
    ],
)
def test_answers_that_say_no(served, monkeypatch, status, code, words, on_files_only):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between its retries
    served.faults["owner/model"] = Fault(status, code, on_files_only)
    message = message_of("owner/model")
    assert all(word in message for word in words)


def test_a_hub_that_does_not_exist(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:{TOKEN}@127.0.0.1:{port}")
    message = message_of("owner/model")
    assert f"127.0.0.1:{port} cannot be reached" in message
    assert "owner/model" in message


def test_a_hub_that_never_answers(served, monkeypatch):
    monkeypatch.setattr(download, "SECONDS_TO_ANSWER", 0.2)
    served.faults["owner/model"] = Fault(hang=True)
    assert "did not answer in time" in message_of("owner/model")


def test_a_connection_that_breaks(served, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    served.repositories["owner/model"] = only("config.json", "model.safetensors")
    served.faults["owner/model"] = Fault(cut_after=5)
    assert "broke off" in message_of("owner/model")
    served.faults.clear()
    assert open_checkpoint(find_model("owner/model"))["a"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("endpoint", ["localhost", "ftp://127.0.0.1", "http://"])
def test_an_endpoint_that_is_no_address(monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert "HF_ENDPOINT" in message_of("owner/model")


def test_an_endpoint_that_is_no_hub(served, monkeypatch):
    # A login page in the way: answers 200 to everything, and none of it is JSON.
    monkeypatch.setattr("hub_server._Handler._route", lambda page: page._send(200, b"<html>", {}))
    assert "does not answer as a hub does" in message_of("owner/model")


@pytest.mark.parametrize("token", ["hf_sécret", "hf_secret\x0bx"])
def test_a_malformed_token_is_not_quoted(served, monkeypatch, token, capfd):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match="Correct HF_TOKEN") as caught:
        find_model("owner/model")
    shown = "".join(traceback.format_exception(caught.value)) + "".join(capfd.readouterr())
    assert "cret" not in shown


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "The disk is full"),
        (errno.EACCES, "cannot be written"),
        (errno.EIO, "could not be fetched"),
    ],
)
def test_a_disk_that_does_not_take_it(served, monkeypatch, number, words):
    def fail(*arguments, **settings):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    message = message_of("owner/model")
    assert words in message
    assert "owner/model" in message or "hub" in message


# Offline


@pytest.mark.parametrize("by", ["argument", "1", "yes", "TRUE"])
def test_offline(served, monkeypatch, by):
    if by != "argument":
        monkeypatch.setenv("HF_HUB_OFFLINE", by)
    message = message_of("owner/model", offline=by == "argument")
    assert "owner/model: it is not on this machine" in message
    assert "offline" in message
    assert not served.requests


def test_offline_with_a_part(machine):
    put_snapshot(machine / "hf" / "hub", "owner/model", only("config.json"))
    assert "only a part of it is on this machine" in message_of("owner/model", offline=True)


# Whole processes: what is imported and what is printed


def run_find_model(served, **settings: object) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from tinystar_np.checkpoints.hub import find_model; print(find_model('owner/model'));"
        "print('huggingface_hub' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, check=True, **settings)


def test_the_second_start_does_not_import_the_hubs_library_and_pipes_see_no_bars(served):
    first = run_find_model(served, stderr=subprocess.PIPE)
    assert first.stdout.splitlines()[1] == "True"
    assert first.stderr == ""
    second = run_find_model(served, stderr=subprocess.PIPE)
    assert second.stdout.splitlines()[1] == "False"
    assert second.stdout.splitlines()[0] == first.stdout.splitlines()[0]


def test_a_terminal_sees_progress_bars(served):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    run_find_model(served, stderr=theirs)
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal, contextlib.suppress(OSError):  # its end is an error
        while piece := terminal.read(4096):
            shown += piece
    assert b"100%" in shown


# Listing


def test_list_local_models(served, machine):
    checkout = machine / "checkout"
    size = len(NEEDED["model.safetensors"])
    put_model(checkout / "tinystar_np" / "shipped" / "stories")
    put_model(checkout / "weights_cache" / "mine")
    put_model(checkout / "weights_cache" / "owner" / "other")
    put_model(checkout / "weights_cache" / "no-weights", only("config.json"))
    put_snapshot(machine / "hf" / "hub", "owner/part", only("config.json", "tokenizer.json"))
    find_model("owner/model")
    find_model("owner/model", revision="v1")
    listed = list_local_models()
    assert [(model.name, model.revision, model.place, model.nbytes) for model in listed] == [
        ("stories", None, "shipped", size),
        ("mine", None, "weights_cache", size),
        ("owner/other", None, "weights_cache", size),
        ("owner/model", None, "hub cache", size),
        ("owner/model", "v1", "hub cache", size),
    ]
    served.requests.clear()
    for model in listed:
        assert find_model(model.name, revision=model.revision).resolve() == model.path.resolve()
    assert not served.requests
    assert [model.place for model in list_local_models(machine / "nowhere")].count("hub cache") == 0
