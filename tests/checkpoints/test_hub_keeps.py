"""What has arrived from the hub stays: downloads go on where they stopped, and damage is found and mended."""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hub_machine import NEEDED, SHARDED, SHARDS, TOKEN, message_of
from hub_server import COMMIT, Fault, Hub, serve_hub
from huggingface_hub import hf_hub_download
from safetensors.numpy import save

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.cli.main import tinystar

pytest_plugins = ["hub_fixtures"]
pytestmark = pytest.mark.usefixtures("machine", "impatient")

WEIGHTS = "model.safetensors"
VALUES = np.arange(5000, dtype=np.float32)
BIG = save({"a": VALUES})
HALF = len(BIG) // 2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between tries


@pytest.fixture
def served_big(served: Hub) -> Hub:
    served.repositories["owner/model"] = NEEDED | {WEIGHTS: BIG}
    return served


def blobs(machine: Path) -> Path:
    return machine / "hf" / "hub" / "models--owner--model" / "blobs"


def interrupt(served: Hub, fault: Fault) -> str:
    """Try once with a fault of the weights; returns what is said."""
    fault.only, fault.on_files_only = ".safetensors", True
    served.faults["owner/model"] = fault
    said = message_of("owner/model")
    served.faults.clear()
    served.requests.clear()
    served.ranges.clear()
    return said


def check(found: Path) -> None:
    assert np.array_equal(open_checkpoint(found)["a"], VALUES)
    assert {path.name for path in found.iterdir()} == set(NEEDED)


def test_a_broken_connection_is_taken_up_again(served_big: Hub) -> None:
    served_big.faults["owner/model"] = Fault(cut_after=HALF // 2, only=".safetensors")
    check(find_model("owner/model"))
    assert len(served_big.ranges) >= 2


def test_the_second_try_goes_on_where_the_first_stopped(served_big: Hub, machine: Path) -> None:
    assert "broke off" in interrupt(served_big, Fault(ends_at=HALF))
    (partial,) = blobs(machine).glob("*.incomplete")
    assert partial.read_bytes() == BIG[:HALF]
    check(find_model("owner/model"))
    assert served_big.ranges == [f"{WEIGHTS} bytes={HALF}-"]
    assert served_big.downloads == [WEIGHTS]  # which is the last of the files
    assert not list(blobs(machine).glob("*.incomplete"))


def test_a_hub_that_sends_only_whole_files(served_big: Hub) -> None:
    interrupt(served_big, Fault(ends_at=HALF))
    served_big.faults["owner/model"] = Fault(no_ranges=True)
    check(find_model("owner/model"))
    assert served_big.downloads.count(WEIGHTS) == 1


@pytest.mark.parametrize("left", [b"\0" * HALF, b"\0" * len(BIG), b"\0" * (2 * len(BIG)), BIG, b""])
def test_whatever_an_earlier_run_left(served_big: Hub, machine: Path, left: bytes) -> None:
    interrupt(served_big, Fault(ends_at=HALF))
    (partial,) = blobs(machine).glob("*.incomplete")
    partial.write_bytes(left)
    check(find_model("owner/model"))
    assert served_big.downloads.count(WEIGHTS) == {HALF: 2, len(BIG): int(left != BIG)}.get(len(left), 1)


def test_finished_shards_are_not_fetched_again(served: Hub) -> None:
    served.repositories["owner/model"] = {**NEEDED, **SHARDED}
    del served.repositories["owner/model"][WEIGHTS]
    served.faults["owner/model"] = Fault(500, only=SHARDS[1], on_files_only=True)
    assert "HTTP 500" in message_of("owner/model")
    assert served.downloads.count(SHARDS[0]) == 1
    served.faults.clear()
    assert sorted(open_checkpoint(find_model("owner/model"))) == ["a", "b"]
    assert served.downloads.count(SHARDS[0]) == 1
    assert served.downloads.count("config.json") == 1


def test_damage_on_the_way_is_found_and_not_kept(served_big: Hub, machine: Path) -> None:
    said = interrupt(served_big, Fault(damage=True))
    assert f"{WEIGHTS} of owner/model arrived damaged" in said
    assert not list(blobs(machine).glob("*.incomplete"))
    assert "config.json" not in served_big.downloads
    check(find_model("owner/model"))
    assert WEIGHTS in served_big.downloads
    assert "config.json" not in served_big.downloads


def test_a_hub_that_announces_no_hashes(served_big: Hub) -> None:
    served_big.faults["owner/model"] = Fault(no_hashes=True)
    check(find_model("owner/model"))


def test_large_files_that_lie_on_another_host_which_gets_no_token(served_big: Hub, machine: Path) -> None:
    with serve_hub({"owner/model": NEEDED | {WEIGHTS: BIG}}) as store:
        served_big.store = store.url.replace("127.0.0.1", "localhost")
        interrupt(served_big, Fault(500))
        check(find_model("owner/model"))
        assert store.downloads == [WEIGHTS, "tokenizer.json"]
        assert store.tokens == {None}
    assert served_big.tokens == {f"Bearer {TOKEN}"}


def test_what_is_fetched_here_is_what_the_library_finds(served_big: Hub, machine: Path) -> None:
    found = find_model("owner/model")
    served_big.requests.clear()
    for name in NEEDED:
        theirs = hf_hub_download("owner/model", name, cache_dir=machine / "hf" / "hub", local_files_only=True)
        assert Path(theirs) == found / name
        assert Path(theirs).read_bytes() == served_big.repositories["owner/model"][name]
    assert not served_big.requests


# Revisions


@pytest.mark.parametrize("revision", ["main", "v1", "a" * 40, "a" * 7, COMMIT[:9]])
def test_revisions(served: Hub, revision: str) -> None:
    found = find_model("owner/model", revision=revision)
    assert found.name == ("a" * 40 if revision[0] in "va" else COMMIT)
    served.requests.clear()
    for asked in (revision, found.name, found.name[:12]):
        assert find_model("owner/model", revision=asked) == found
        assert find_model("owner/model", revision=asked, offline=True) == found
    assert not served.requests


def test_the_beginning_of_two_commits_is_none(served: Hub) -> None:
    served.revisions |= {"v2": "a" * 39 + "b"}
    find_model("owner/model", revision="v1")
    find_model("owner/model", revision="v2")
    assert "not on this machine" in message_of("owner/model", revision="a" * 20, offline=True)
    assert "no revision" in message_of("owner/model", revision="a" * 20)


def test_an_update_fetches_only_what_changed(served: Hub) -> None:
    find_model("owner/model", revision="v1")
    served.requests.clear()
    served.repositories["owner/model"] |= {"config.json": b'{"model_type": "gpt2", "n_layer": 2}'}
    find_model("owner/model")
    assert served.downloads == ["config.json"]


# Damage on this disk


@pytest.mark.parametrize("delete", ["blob", "link", "snapshot"])
def test_damage_does_not_come_back(served_big: Hub, delete: str) -> None:
    found = find_model("owner/model")
    link = found / WEIGHTS
    stored = link.resolve()
    stored.write_bytes(stored.read_bytes()[:-4] + b"oops")
    if delete == "snapshot":
        shutil.rmtree(found)
    else:
        {"blob": stored, "link": link}[delete].unlink()
    served_big.requests.clear()
    check(find_model("owner/model"))
    assert served_big.downloads == [WEIGHTS]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (WEIGHTS, lambda content: content[: len(content) // 2]),
        (WEIGHTS, lambda content: b""),
        (WEIGHTS, lambda content: b"<html>Welcome to this network"),
        (WEIGHTS, lambda content: content[:8] + b"\0" + content[9:]),
        ("config.json", lambda content: content[:20]),
        ("config.json", lambda content: b"\0" * len(content)),
        ("generation_config.json", lambda content: b""),
        ("tokenizer.json", lambda content: content[: len(content) // 2]),
        ("tokenizer.json", lambda content: b""),
    ],
)
def test_a_damaged_file_is_noticed_and_can_be_fetched_again(
    served: Hub,
    talking_model: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[bytes], bytes],
) -> None:
    files = {path.name: path.read_bytes() for path in talking_model.iterdir()}
    served.repositories["owner/model"] = files
    question = ["ask", "-m", "owner/model", "-n", "3", "--temperature", "0", "hello"]
    assert tinystar(question) == 0
    answer, said = capfd.readouterr()
    assert said == ""
    served.requests.clear()

    stored = (find_model("owner/model") / name).resolve()
    stored.write_bytes(damage(files[name]))
    assert tinystar(question) == 1
    output, said = capfd.readouterr()
    assert output == ""
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert name in said
    # Deleting the link in the snapshot helps as well as deleting what it leads to.
    to_delete = re.search(r"Delete (\S+) and download it again", said) or re.match(r"error: (/\S+) ", said)
    assert to_delete is not None
    assert Path(to_delete[1]).resolve() == stored
    assert not served.requests

    Path(to_delete[1]).unlink()
    assert tinystar(question) == 0
    assert capfd.readouterr() == (answer, "")
    assert served.downloads == [name]
