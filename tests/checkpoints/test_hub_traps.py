"""A cache that somebody else has filled: pipes, devices, huge files and links where files should be."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_machine import NEEDED, message_of, put_snapshot
from hub_server import COMMIT, Fault, Hub

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.local_models import list_local_models

pytest_plugins = ["hub_fixtures"]
pytestmark = pytest.mark.usefixtures("machine", "in_time")

MODEL, FOLDER, CONFIG = "owner/model", "models--owner--model", "config.json"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**12)  # takes no room


def elsewhere(path: Path) -> None:
    """Lead to a file of the user, which must stay as it is."""
    outside = Path(os.environ["HF_HOME"]).parent / "outside"
    outside.write_text("mine")
    path.symlink_to(outside)


TRAPS = [pipe, device, huge, elsewhere]


def put_trap(trap: Callable[[Path], None], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    trap(path)


@pytest.fixture
def outside(machine: Path) -> Iterator[Path]:
    path = machine / "outside"
    yield path
    assert not path.exists() or path.read_text() == "mine"


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("revision", [None, "v1", "refs/pr/1"])
def test_a_ref_that_is_none(
    served: Hub, machine: Path, trap: Callable[[Path], None], revision: str | None
) -> None:
    served.revisions["refs/pr/1"] = COMMIT
    put_snapshot(machine / "hf" / "hub", MODEL, NEEDED)
    ref = machine / "hf" / "hub" / FOLDER / "refs" / (revision or "main")
    put_trap(trap, ref)
    assert "not on this machine" in message_of(MODEL, revision=revision, offline=True)
    others = [] if revision is None else [None]
    assert [model.revision for model in list_local_models() if model.place == "hub cache"] == others
    found = find_model(MODEL, revision=revision)
    assert ref.read_text() == found.name
    assert not ref.is_symlink()
    assert find_model(MODEL, revision=revision, offline=True) == found


def test_refs_that_lead_to_a_whole_disk(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_snapshot(machine / "hf" / "hub", MODEL, NEEDED)
    refs = machine / "hf" / "hub" / FOLDER / "refs"
    shutil.rmtree(refs)
    refs.symlink_to("/")
    assert [model for model in list_local_models() if model.place == "hub cache"] == []


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("trap", TRAPS)
def test_a_list_of_files_that_is_none(served: Hub, machine: Path, trap: Callable[[Path], None]) -> None:
    snapshot = put_snapshot(machine / "hf" / "hub", MODEL, NEEDED)
    put_trap(trap, machine / "hf" / "hub" / FOLDER / "trees" / f"{COMMIT}.json")
    assert find_model(MODEL, offline=True) == find_model(MODEL) == snapshot
    assert not served.requests
    (snapshot / "tokenizer.json").unlink()
    (snapshot / "vocab.json").unlink()
    (snapshot / "tokenizer.model").unlink()
    assert find_model(MODEL) == snapshot
    assert served.downloads == ["tokenizer.json", "tokenizer.model", "vocab.json"]


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("ending", ["", ".incomplete", ".lock"])
@pytest.mark.parametrize("no_hashes", [True, False])
def test_blobs_that_are_none(
    served: Hub, machine: Path, trap: Callable[[Path], None], ending: str, no_hashes: bool
) -> None:
    found = find_model(MODEL)
    key = (found / CONFIG).resolve().name
    if no_hashes:
        served.faults[MODEL] = Fault(no_hashes=True)
        key = hashlib.sha256(f"{COMMIT}/{CONFIG}".encode()).hexdigest()
    (found / CONFIG).resolve().unlink()
    (found / CONFIG).unlink()
    hub = machine / "hf" / "hub"
    put_trap(
        trap, (hub / ".locks" / FOLDER if ending == ".lock" else hub / FOLDER / "blobs") / f"{key}{ending}"
    )
    assert find_model(MODEL) == found
    assert (found / CONFIG).read_bytes() == NEEDED[CONFIG]


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("trap", TRAPS[:2])
def test_files_of_a_snapshot_that_are_none(served: Hub, machine: Path, trap: Callable[[Path], None]) -> None:
    found = find_model(MODEL)
    for name in (CONFIG, "model.safetensors"):
        put_trap(trap, found / name)
    assert find_model(MODEL) == found
    assert open_checkpoint(found)["a"].tolist() == [0, 1, 2, 3]
    assert (found / CONFIG).read_bytes() == NEEDED[CONFIG]


def test_lists_of_files_are_not_written_to_elsewhere(served: Hub, machine: Path) -> None:
    outside = machine / "elsewhere"
    outside.mkdir()
    repository = machine / "hf" / "hub" / FOLDER
    repository.mkdir(parents=True)
    (repository / "trees").symlink_to(outside)
    assert (find_model(MODEL) / CONFIG).is_file()
    assert not list(outside.iterdir())
