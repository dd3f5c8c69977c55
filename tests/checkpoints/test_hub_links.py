"""A hub cache that its user has moved, in part, to another disk by links; and links that lead out."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_machine import NEEDED, only, put_model, put_snapshot
from hub_server import COMMIT, Hub
from huggingface_hub import snapshot_download

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.checkpoints.config_file import read_config
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.local_models import list_local_models
from tinystar_np.checkpoints.model_files import INDEX_FILE
from tinystar_np.errors import CheckpointError

pytest_plugins = ["hub_fixtures"]
pytestmark = pytest.mark.usefixtures("machine")

FOLDER = "models--owner--model"
MOVED = {
    "cache": ["hf/hub"],
    "home": ["hf"],
    "model": [f"hf/hub/{FOLDER}"],
    "blobs": [f"hf/hub/{FOLDER}/blobs"],
    "blobs and snapshots": [f"hf/hub/{FOLDER}/blobs", f"hf/hub/{FOLDER}/snapshots"],
    "model, then blobs": [f"hf/hub/{FOLDER}", f"hf/hub/{FOLDER}/blobs"],
    "refs": [f"hf/hub/{FOLDER}/refs"],
    "all": [
        *("hf", "hf/hub", f"hf/hub/{FOLDER}"),
        *(f"hf/hub/{FOLDER}/{part}" for part in ("blobs", "snapshots", "refs")),
    ],
}


def move(machine: Path, place: str, absolute: bool = True) -> None:
    """Move a directory to another disk, with a link in its place."""
    here, there = machine / place, machine / "disk" / place.rpartition("/")[2]
    there.parent.mkdir(exist_ok=True)
    if here.exists():
        shutil.move(os.path.realpath(here), there)
        if here.is_symlink():
            here.unlink()
    else:
        there.mkdir()
        here.parent.mkdir(parents=True, exist_ok=True)
    here.symlink_to(there if absolute else os.path.relpath(there, os.path.realpath(here.parent)))


def check(found: Path) -> None:
    assert read_config(found)["model_type"] == "gpt2"
    assert open_checkpoint(found)["a"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("places", MOVED.values(), ids=MOVED)
def test_what_is_there_is_found_where_the_user_moved_it(
    served: Hub, machine: Path, places: list[str], absolute: bool
) -> None:
    find_model("owner/model")
    for place in places:
        move(machine, place, absolute)
    served.requests.clear()
    for offline in (True, False):
        found = find_model("owner/model", offline=offline)
        assert found == machine / "hf/hub" / FOLDER / "snapshots" / COMMIT
        check(found)
        if not {"blobs", "snapshots"} & {
            place.rpartition("/")[2] for place in places
        }:  # else nothing says where a path given by hand has its contents
            check(found.resolve())
    assert not served.requests
    (listed,) = [model for model in list_local_models() if model.place == "hub cache"]
    assert listed.nbytes == len(NEEDED["model.safetensors"])


@pytest.mark.parametrize("places", MOVED.values(), ids=MOVED)
def test_what_is_not_there_is_fetched_to_where_the_user_wants_it(
    served: Hub, machine: Path, places: list[str]
) -> None:
    for place in places:
        move(machine, place)
    check(find_model("owner/model"))
    check(find_model("owner/model", offline=True))
    served.repositories["owner/other"] = NEEDED
    find_model("owner/other")  # which nobody moved
    assert not any(path.is_symlink() for path in (machine / "hf/hub/models--owner--other").iterdir())
    served.requests = [line for line in served.requests if "other" not in line]
    assert served.downloads == sorted(NEEDED)


def absolute_links(snapshot: Path) -> None:
    for path in snapshot.iterdir():
        content = path.resolve()
        path.unlink()
        path.symlink_to(content)


def copies(snapshot: Path) -> None:
    """As on Windows, where links are not allowed."""
    for path in snapshot.iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    shutil.rmtree(snapshot.parents[1] / "blobs")


@pytest.mark.parametrize("form", [absolute_links, copies])
@pytest.mark.parametrize(
    "place", ["", "/snapshots", f"/snapshots/{COMMIT}"], ids=["model", "snapshots", "one"]
)
def test_other_forms_of_a_snapshot(
    served: Hub, machine: Path, form: Callable[[Path], None], place: str
) -> None:
    find_model("owner/model")
    if not place and form is absolute_links:
        move(machine, f"hf/hub/{FOLDER}")
    form(machine / "hf/hub" / FOLDER / "snapshots" / COMMIT)
    if place or form is copies:
        move(machine, f"hf/hub/{FOLDER}{place}")
    served.requests.clear()
    check(find_model("owner/model"))
    check(find_model("owner/model", offline=True))
    assert not served.requests


def test_caches_that_are_named_in_other_ways(
    served: Hub, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_model("owner/model")
    (machine / "link").symlink_to(machine / "hf")
    (machine / "here" / "cache").symlink_to("../hf/hub")
    served.requests.clear()
    monkeypatch.delenv("HF_HOME")
    for setting, value in (("HF_HOME", "link"), ("HF_HUB_CACHE", "link/hub")):
        with monkeypatch.context() as patch:
            patch.setenv(setting, str(machine / value))
            check(find_model("owner/model"))
    for cache in ("cache", "../hf/hub", "./../link/../hf/hub"):
        check(find_model("owner/model", cache_dir=Path(cache), offline=True))
        check(find_model("owner/model", cache_dir=cache, offline=True))
    # A new one, named from where the user is.
    assert not served.requests
    found = find_model("owner/model", cache_dir=Path("new"))
    check(found)
    assert found.is_relative_to(machine / "here" / "new")


def test_a_snapshot_that_the_user_links_to(served: Hub, machine: Path) -> None:
    (machine / "here" / "mine").symlink_to(find_model("owner/model"))
    move(machine, f"hf/hub/{FOLDER}")
    check(find_model("mine"))


def test_a_download_to_a_directory(served: Hub, machine: Path) -> None:
    snapshot_download("owner/model", endpoint=served.url, local_dir=machine / "here" / "mine")
    assert (machine / "here" / "mine" / ".cache").exists()
    check(find_model("./mine"))


# Links that no user made


OTHER = "models--owner--other/blobs/blob-of-model.safetensors"
TARGETS = (
    *("/etc/passwd", "../" * 30 + "etc/passwd", "../../blobs/out", "../../blobs/.."),
    *(f"../../../{OTHER}", f"../../blobs/../../{OTHER}", "../../refs/main", "../../../secret"),
)


@pytest.mark.parametrize("moved", ["nothing", "blobs", "model", "cache", "snapshots"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "shard.safetensors"])
def test_links_that_lead_out(machine: Path, name: str, target: str, moved: str) -> None:
    cache = machine / "hf" / "hub"
    put_snapshot(cache, "owner/other", NEEDED)
    snapshot = put_snapshot(cache, "owner/model", NEEDED)
    if name == "shard.safetensors":
        (snapshot / "model.safetensors").unlink()
        (snapshot / INDEX_FILE).write_text(json.dumps({"weight_map": {"a": name}}))
    (cache / "secret").write_text("secret")
    (cache / FOLDER / "blobs" / "out").symlink_to("/etc/passwd")
    if moved != "nothing":
        part = {"cache": "", "model": f"/{FOLDER}"}.get(moved, f"/{FOLDER}/{moved}")
        move(machine, f"hf/hub{part}")
    (snapshot / name).unlink(missing_ok=True)
    (snapshot / name).symlink_to(target)
    read = read_config if name == "config.json" else open_checkpoint
    # From where the user has moved it, not all of these lead to a file.
    to_nothing = (
        "" if moved in ("nothing", "cache") or target.endswith("passwd") else "|no such file|has no config"
    )
    with pytest.raises(CheckpointError, match=f"leads out of the model's directory{to_nothing}"):
        read(snapshot)


def test_links_of_a_repository_that_is_no_cache(machine: Path) -> None:
    directory = put_model(machine / "here" / "mine", only("config.json"))
    (directory / "blobs").symlink_to("/etc")
    (directory / "model.safetensors").symlink_to("blobs/passwd")
    with pytest.raises(CheckpointError, match="leads out of the model's directory"):
        open_checkpoint(directory)
