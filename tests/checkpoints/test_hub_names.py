"""Names that a hub chooses and that become paths; what the cache records, and in which form."""

import os
from pathlib import Path

import pytest
from hub_machine import NEEDED, SHORT, check_all_inside, message_of
from hub_server import COMMIT, Fault, Hub, git_hash
from huggingface_hub import hf_hub_download, snapshot_download

from tinystar_np.checkpoints import hub_store
from tinystar_np.checkpoints.hub import find_model

pytest_plugins = ["hub_fixtures"]
pytestmark = pytest.mark.usefixtures("machine", "in_time")

MODEL, FOLDER, CONFIG = "owner/model", "models--owner--model", "config.json"


@pytest.mark.parametrize(
    "sha",
    [
        "../../../outside",
        "/tmp/outside",
        "",
        None,
        5,
        COMMIT.upper(),
        COMMIT + "\n",
        "a" * 39,
        [COMMIT],
        "main",
    ],
)
def test_a_commit_that_is_none(served: Hub, machine: Path, sha: object) -> None:
    served.faults[MODEL] = Fault(says={"sha": sha})
    assert "does not answer as a hub does: it names" in message_of(MODEL)
    assert not (machine / "hf").exists()


def test_another_commit_than_the_one_asked_for(served: Hub, machine: Path) -> None:
    served.faults[MODEL] = Fault(says={"sha": "b" * 40})
    assert "asked for commit aaaaaaaaaaaa, it offers bbbbbbbbbbbb" in message_of(MODEL, revision="a" * 40)
    assert not (machine / "hf").exists()


@pytest.mark.parametrize("no_hashes", [True, False])
@pytest.mark.parametrize("path", ["{machine}/outside", "../../../../outside", "..", "/", "a/b"])
def test_headers_that_are_paths(served: Hub, machine: Path, path: str, no_hashes: bool) -> None:
    path = path.format(machine=machine)
    served.faults[MODEL] = Fault(
        no_hashes=no_hashes,
        headers={
            "ETag": f'"{path}"',
            "X-Linked-Etag": f'"{path}"',
            "X-Repo-Commit": path,
            "Content-Disposition": f'attachment; filename="{path}"',
        },
    )
    check_all_inside(machine)


@pytest.mark.parametrize("key", ["blobId", "lfs", "sha256"])
@pytest.mark.parametrize("hash_", ["../../../../outside", "{machine}/outside", "", 5, None, ["a"], "A" * 40])
def test_hashes_that_are_none(served: Hub, machine: Path, key: str, hash_: object) -> None:
    hash_ = hash_.format(machine=machine) if isinstance(hash_, str) else hash_
    value = {"sha256": hash_} if key == "sha256" else hash_
    listed = [entry | {"lfs" if key == "sha256" else key: value} for entry in SHORT]
    served.faults[MODEL] = Fault(says={"siblings": listed})
    check_all_inside(machine)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../../../../outside.jinja",
            "{machine}/outside.jinja",
            "additional_chat_templates/../../out.jinja",
        ),
        *("additional_chat_templates/..\\..\\out.jinja", "additional_chat_templates/C:out.jinja"),
        *("additional_chat_templates/a\0b.jinja", "additional_chat_templates/\ud800.jinja", "./config.json"),
        *(
            "additional_chat_templates/" + "x" * 5000 + ".jinja",
            "a/" * 1000 + "config.json",
            "",
            ".",
            "..",
            "/",
        ),
        *("additional_chat_templates/\x1b[2J.jinja", "a//config.json", "config.json/", "config.json\n"),
    ],
)
def test_names_of_files_that_are_paths(served: Hub, machine: Path, name: str) -> None:
    known = {"size": 1, "blobId": git_hash(b"x")}
    listed = [entry | {"blobId": git_hash(NEEDED[str(entry["rfilename"])])} for entry in SHORT]
    listed.append(known | {"rfilename": name.format(machine=machine)})
    served.faults[MODEL] = Fault(says={"siblings": listed})
    assert {path.name for path in check_all_inside(machine).iterdir()} == {CONFIG, "model.safetensors"}
    # The library would take a list for all that there is.
    assert not (machine / "hf" / "hub" / FOLDER / "trees").exists()


@pytest.mark.parametrize(
    "revision", ["../../outside", "/outside", "a..b", "a b", "a\\b", "a:b", "a\nb", "x" * 5000]
)
def test_revisions_that_are_paths(served: Hub, machine: Path, revision: str) -> None:
    served.revisions[revision] = COMMIT
    assert "git allows no such name" in message_of(MODEL, revision=revision)
    assert not served.requests
    assert not (machine / "hf").exists()


@pytest.mark.parametrize(
    "entry",
    [5, None, "config.json", {}, {"rfilename": 5}]
    + [{"rfilename": CONFIG, "size": size} for size in (-1, "5", True, 1.5, [])],
)
def test_lists_of_another_form(served: Hub, machine: Path, entry: object) -> None:
    served.faults[MODEL] = Fault(says={"siblings": [entry]})
    assert "does not answer as a hub does: " in message_of(MODEL)
    for siblings in ("config.json", 5, {CONFIG: 5}):
        served.faults[MODEL] = Fault(says={"siblings": siblings})
        assert "does not answer as a hub does: its list of files is" in message_of(MODEL)
    assert not (machine / "hf").exists()


# What the cache records


@pytest.mark.parametrize(
    "fault", [Fault(damage=True), Fault(announce=3), Fault(api_size=3), Fault(cut_after=1)]
)
def test_links_and_refs_are_of_checked_files_only(served: Hub, machine: Path, fault: Fault) -> None:
    fault.only, fault.on_files_only = ".safetensors", not fault.api_size
    served.faults[MODEL] = fault
    assert message_of(MODEL)
    folder = machine / "hf" / "hub" / FOLDER
    assert not [path for path in folder.rglob("*.safetensors") if path.is_symlink() or path.exists()]
    assert not (folder / "refs").exists()
    assert not (folder / "trees").exists()


def test_the_cache_is_as_the_library_would_have_filled_it(served: Hub, machine: Path) -> None:
    find_model(MODEL)
    snapshot_download(MODEL, endpoint=served.url, cache_dir=machine / "theirs", allow_patterns=list(NEEDED))

    def contents(cache: Path) -> dict[str, str | bytes]:
        paths = [path for path in (cache / FOLDER).rglob("*") if path.is_symlink() or path.is_file()]
        return {
            str(path.relative_to(cache)): os.readlink(path) if path.is_symlink() else path.read_bytes()
            for path in paths
            if path.parent.name != "trees" or (machine / "theirs" / FOLDER / "trees").exists()
        }

    assert contents(machine / "hf" / "hub") == contents(machine / "theirs")


def test_the_library_goes_on_with_what_is_here(served: Hub, machine: Path) -> None:
    found = find_model(MODEL)
    cache = machine / "hf" / "hub"
    asked = {"cache_dir": cache, "allow_patterns": list(NEEDED)}
    assert snapshot_download(MODEL, local_files_only=True, **asked) == str(found)
    served.requests.clear()
    assert snapshot_download(MODEL, endpoint=served.url, **asked) == str(found)
    assert hf_hub_download(MODEL, CONFIG, endpoint=served.url, cache_dir=cache) == str(found / CONFIG)
    assert not served.downloads


def test_a_disk_without_links(served: Hub, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_store, "are_symlinks_supported", lambda cache: False)
    first = find_model(MODEL, revision="v1")
    assert not any(path.is_symlink() for path in first.iterdir())
    second = find_model(MODEL)
    for found in (first, second):
        assert {path.name: path.read_bytes() for path in found.iterdir()} == NEEDED
    served.requests.clear()
    assert find_model(MODEL, offline=True) == find_model(MODEL) == second
    assert not served.requests


def test_a_disk_that_no_longer_gives_links(
    served: Hub, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find_model(MODEL, revision="v1")
    monkeypatch.setattr(hub_store, "are_symlinks_supported", lambda cache: False)
    second = find_model(MODEL)
    for found in (first, second):  # the older links still lead to something
        assert {path.name: path.read_bytes() for path in found.iterdir()} == NEEDED
