"""Finding a model by its name: places on disk first, then a hub that runs on the loopback."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hub_machine import NEEDED, SHARDED, SHARDS, UNWANTED, message_of, only, put_model, put_snapshot
from hub_server import COMMIT, Fault
from huggingface_hub import hf_hub_download
from safetensors.numpy import save

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.local_models import list_local_models
from tinystar_np.checkpoints.model_files import INDEX_FILE, small_files
from tinystar_np.errors import CheckpointError

pytest_plugins = ["hub_fixtures"]
pytestmark = pytest.mark.usefixtures("machine")


def test_chat_templates_with_files_of_their_own_are_part_of_a_model():
    templates = ["additional_chat_templates/rag.jinja", "additional_chat_templates/tool_use.jinja"]
    others = [
        "additional_chat_templates/a/b.jinja",
        "additional_chat_templates/notes.md",
        "other/tool_use.jinja",
    ]
    names = [*templates, "chat_template.jinja", "config.json"]
    assert small_files([*others, *names]) == set(names)


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
    assert "'file': this is a file" in message_of("file")
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


def test_main_is_not_known_offline_but_other_revisions_are_here(machine):
    cache = machine / "hf" / "hub"
    snapshot = put_snapshot(cache, "owner/model", NEEDED)
    shutil.rmtree(cache / "models--owner--model" / "refs")
    message = message_of("owner/model", offline=True)
    assert "owner/model: it is not on this machine" in message
    assert f"Ask for revision {COMMIT[:12]}, which is here" in message
    assert find_model("owner/model", revision=COMMIT[:12], offline=True) == snapshot
    put_snapshot(cache, "owner/model", NEEDED, commit="b" * 40)
    shutil.rmtree(cache / "models--owner--model" / "refs")
    assert f"Ask for revision {COMMIT[:12]} or bbbbbbbbbbbb, which" in message_of("owner/model", offline=True)
    assert "Ask for revision" in message_of("owner/model", revision="v7", offline=True)
    assert find_model("owner/model", revision="b" * 7, offline=True).name == "b" * 40
    (cache / "models--owner--model" / "refs").mkdir()
    for end in ("", "\n", "\r\n"):
        (cache / "models--owner--model" / "refs" / "main").write_text(COMMIT + end)
        assert find_model("owner/model", offline=True) == snapshot


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


OTHER_NAMES = {
    "bloom": ["model_00001-of-00002.safetensors", "model_00002-of-00002.safetensors"],
    "one of one": ["model-00001-of-00001.safetensors"] * 2,
    "no numbers": ["a.safetensors", "z.safetensors"],
    "marks that patterns have": ["[ab]*?.safetensors", "{x},!#%20 é.safetensors"],
    "Mistral's": ["consolidated-00001-of-00002.safetensors", "consolidated-00002-of-00002.safetensors"],
    "hidden": [".a.safetensors", "model.fp16-00001-of-00002.safetensors"],
}


@pytest.mark.parametrize("hashes", [True, False])
@pytest.mark.parametrize("shards", OTHER_NAMES.values(), ids=OTHER_NAMES)
def test_shards_are_what_the_index_names(served, hashes, shards):
    first, second = shards
    tensors = {"a": np.ones(2), "b": np.zeros(3)}
    whole = {first: save(tensors)} if first == second else {}
    files = whole or {first: save({"a": tensors["a"]}), second: save({"b": tensors["b"]})}
    files[INDEX_FILE] = json.dumps({"weight_map": {"a": first, "b": second}}).encode()
    # What looks like a shard is none, and the second copy in another form stays where it is.
    others = dict.fromkeys(("model-00003-of-00003.safetensors", "a-b.safetensors"), b"another")
    served.repositories["owner/model"] = UNWANTED | others | files | only("config.json", "tokenizer.json")
    served.faults["owner/model"] = Fault(no_hashes=not hashes)
    found = find_model("owner/model")
    assert sorted(open_checkpoint(found)) == ["a", "b"]
    assert served.downloads == sorted({*files, "config.json", "tokenizer.json"})
    served.requests.clear()
    assert find_model("owner/model") == find_model("owner/model", offline=True) == found
    (found / second).unlink()
    assert "only a part of it is on this machine" in message_of("owner/model", offline=True)
    assert not served.requests
    assert sorted(open_checkpoint(find_model("owner/model"))) == ["a", "b"]
    assert served.downloads in ([], [second])  # its content may still be there


def test_an_interrupted_update_leaves_the_branch_as_it_was(served, machine):
    old = put_snapshot(machine / "hf" / "hub", "owner/model", only("config.json", "model.safetensors"))
    served.revisions["main"] = "c" * 40
    files = {**NEEDED, **SHARDED}
    del files["model.safetensors"]
    served.repositories["owner/model"] = files
    served.faults["owner/model"] = Fault(429, only=SHARDS[1], on_files_only=True)
    assert find_model("owner/model") == old  # which has no tokenizer, so that the hub is asked
    assert SHARDS[0] in served.downloads
    assert find_model("owner/model", offline=True) == old
    assert "only a part" in message_of("owner/model", revision="c" * 40, offline=True)
    served.faults.clear()
    assert sorted(open_checkpoint(find_model("owner/model"))) == ["a", "b"]


@pytest.mark.parametrize(
    "name", ["../../secret.safetensors", "/etc/x.safetensors", "pytorch_model.bin", "a/b.safetensors"]
)
def test_an_index_of_the_hub_is_checked_before_its_shards_are_fetched(served, name):
    files = {**NEEDED, **UNWANTED, INDEX_FILE: json.dumps({"weight_map": {"a": name}}).encode()}
    del files["model.safetensors"]
    served.repositories["owner/model"] = files | {"a/b.safetensors": b""}
    with pytest.raises(CheckpointError, match="no plain name of a safetensors file"):
        find_model("owner/model")
    assert served.downloads == [INDEX_FILE]


def test_an_index_that_names_what_the_repository_lacks(served):
    files = {**NEEDED, **SHARDED}
    del files["model.safetensors"], files[SHARDS[1]]
    served.repositories["owner/model"] = files
    assert f"names {SHARDS[1]}, which the repository does not have" in message_of("owner/model")
    assert served.downloads == [INDEX_FILE]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ["adapter_model.safetensors"],
            "only an adapter to another model, adapter_model.safetensors.\nLoad both",
        ),
        (
            ["consolidated.safetensors"],
            "only consolidated.safetensors, the weights under Mistral's own names",
        ),
        (
            ["model.fp16.safetensors", "adapter_model.safetensors"],
            r"files \(model.fp16.safetensors\), but neither",
        ),
        (["weights.safetensors", "pytorch_model.bin"], r"files \(weights.safetensors\), but neither"),
        (["unet/model.safetensors"], "has no model.safetensors"),
        (["a.bin", "unet/model.safetensors"], "has no safetensors, only a.bin"),
    ],
)
def test_safetensors_that_are_no_model(served, machine, names, words):
    files = {**only("config.json", "tokenizer.json"), **dict.fromkeys(names, b"something")}
    served.repositories["owner/model"] = files
    assert re.search(words, message_of("owner/model"))
    assert not served.downloads
    for name, content in files.items():
        (machine / "here" / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / "here" / "mine" / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(find_model("./mine"))


def test_shards_are_not_fetched_beside_the_whole(served):
    served.repositories["owner/model"] = {**NEEDED, **SHARDED}
    find_model("owner/model")
    assert served.downloads == sorted(NEEDED)


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
    listed = [model for model in list_local_models() if model.place != "package"]  # what else is installed
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
