"""A GGUF repository of the hub: one file of it by its type, fetched once and then found on the disk."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_machine import NEEDED, UNWANTED, message_of, put_snapshot
from hub_server import COMMIT, Fault, Hub, serve_hub
from parity import random_ids, reference_model
from parity_cases import ROWS
from test_gguf_places import put

from tinystar_np.checkpoints.gguf_file import map_gguf
from tinystar_np.checkpoints.hub import find_model, model_folders
from tinystar_np.checkpoints.local_models import list_local_models
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import CheckpointError, TinyStarError
from tinystar_np.loading import load

pytest.importorskip("gguf", reason="the gguf package writes the files")
import gguf
from gguf_conversion import write_gguf

pytest_plugins = ["hub_fixtures"]
pytestmark = pytest.mark.usefixtures("machine", "in_time")

MODEL = "owner/model"
SMALL, MIDDLE, LARGE = "Model-Q2_K.gguf", "Model-Q4_K_M.gguf", "Model-Q8_0.gguf"
SPLIT = [f"BF16/Model-BF16-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
OTHER_COMMIT = "b" * 40


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a repository: a model in four types, one of them in several parts, and more."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "BF16").mkdir()
    for number, name in enumerate((SMALL, MIDDLE, LARGE, "BF16/Model-BF16.gguf")):
        writer = gguf.GGUFWriter(folder / name, "llama", split_max_tensors=2 if number == 3 else 0)
        for tensor in range(6):
            writer.add_tensor(f"tensor.{tensor}", np.full((4, 500), 10 * number + tensor, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.gguf")}
    assert sorted(found) == sorted([SMALL, MIDDLE, LARGE, *SPLIT])
    more = {"mmproj-F16.gguf": b"GGUF", "imatrix.gguf": b"GGUF", "config.json": NEEDED["config.json"]}
    return found | more | {name: content for name, content in UNWANTED.items() if "safetensors" not in name}


@pytest.fixture
def hub(files: dict[str, bytes], machine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub({MODEL: dict(files)}, {"v1": OTHER_COMMIT}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def number_of(path: Path) -> int:
    """Which of the files it is, by the numbers of its tensors, of which none is missing."""
    tensors = map_gguf(path).tensors
    assert len(tensors) == 6
    first = [float(tensor.rows().view("<f4").flat[0]) for tensor in tensors.values()]
    assert first == [first[0] + i for i in range(6)]
    return int(first[0]) // 10


def listed() -> dict[str, Path]:
    return {model.name: model.path for model in list_local_models() if model.place == "hub cache"}


def test_this_file_only_is_fetched_and_then_found(hub: Hub, machine: Path) -> None:
    found = find_model(f"{MODEL}:Q8_0")
    assert (found.name, number_of(found), hub.downloads) == (LARGE, 2, [LARGE])
    snapshot = machine / "hf" / "hub" / "models--owner--model" / "snapshots" / COMMIT
    assert list(snapshot.iterdir()) == [found]
    assert found.resolve().parent.name == "blobs"
    hub.requests.clear()
    assert find_model(f"{MODEL}:q8_0") == find_model(f"{MODEL}:Q8_0", offline=True) == found
    assert find_model(f"{MODEL}:Q8_0", revision=COMMIT[:7]) == find_model(f"{MODEL}:model-q8_0.gguf") == found
    assert hub.requests == []


def test_all_parts_in_a_folder(hub: Hub) -> None:
    found = find_model(f"{MODEL}:BF16")
    assert (found.name, found.parent.name, number_of(found)) == (SPLIT[0].split("/")[1], "BF16", 3)
    assert hub.downloads == SPLIT
    assert find_model(f"{MODEL}:bf16", offline=True) == found
    assert list(listed()) == [f"{MODEL}:BF16"]
    (model,) = [model for model in list_local_models() if model.path == found]
    assert model.nbytes == sum(len(hub.repositories[MODEL][name]) for name in SPLIT)


def test_a_missing_part_is_fetched(hub: Hub) -> None:
    found = find_model(f"{MODEL}:BF16")
    (found.parent / SPLIT[1].split("/")[1]).unlink()
    assert listed() == {}
    assert "only a part of it is on this machine" in message_of(f"{MODEL}:BF16", offline=True)
    assert number_of(find_model(f"{MODEL}:BF16")) == 3


def test_parts_that_the_hub_does_not_have(hub: Hub) -> None:
    del hub.repositories[MODEL][SPLIT[2]]
    assert f"has not all 3 parts of this model: {SPLIT[2]} is missing" in message_of(f"{MODEL}:BF16")
    hub.repositories[MODEL] = {"a-00001-of-99999.gguf": b"GGUF"}
    assert "has not all 99999 parts" in message_of(MODEL)
    assert hub.downloads == []


def test_without_a_type(hub: Hub) -> None:
    assert number_of(find_model(MODEL)) == 1
    assert hub.downloads == [MIDDLE]
    assert find_model(MODEL, offline=True).name == MIDDLE


def test_the_only_one(hub: Hub) -> None:
    for name in [MIDDLE, LARGE, *SPLIT]:
        del hub.repositories[MODEL][name]
    assert number_of(find_model(MODEL)) == 0
    assert find_model(MODEL, offline=True).name == SMALL


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (MODEL, f"{MODEL} has 3 GGUF files, and none that is Q4_K_M.\nAsk for one as {MODEL}:BF16. "
         "It has BF16, Q2_K, Q8_0."),
        (f"{MODEL}:Q5_K_M", f"{MODEL} has no GGUF file that is Q5_K_M.\nAsk for one as {MODEL}:BF16. "
         "It has BF16, Q2_K, Q8_0."),
        (f"{MODEL}:Model", f"{MODEL} has 3 GGUF files that are Model.\nAsk for one as {MODEL}:BF16. "
         "It has BF16, Q2_K, Q8_0."),
    ],
)  # fmt: skip
def test_none_or_several(hub: Hub, name: str, expected: str) -> None:
    del hub.repositories[MODEL][MIDDLE]
    assert message_of(name) == expected
    assert hub.downloads == []
    # As well without the hub, once it is known what there is.
    find_model(f"{MODEL}:Q8_0")
    assert message_of(name, offline=True) == expected


def test_a_repository_with_safetensors(hub: Hub) -> None:
    hub.repositories[MODEL] = {**NEEDED, SMALL: hub.repositories[MODEL][SMALL]}
    assert find_model(f"{MODEL}:Q2_K").name == SMALL
    assert hub.downloads == [SMALL]
    found = find_model(MODEL)
    assert found.is_dir()
    assert SMALL not in hub.downloads[1:]
    assert find_model(f"{MODEL}:Q2_K", offline=True).name == SMALL
    assert listed() == {MODEL: found, f"{MODEL}:Q2_K": found / SMALL}
    hub.repositories[MODEL] = NEEDED
    assert "has no GGUF files.\n" in message_of(f"{MODEL}:Q2_K", revision="v1")


def test_what_is_here_instead(hub: Hub) -> None:
    find_model(f"{MODEL}:Q8_0")
    find_model(f"{MODEL}:BF16")
    there = f"Ask for {MODEL}:BF16 or {MODEL}:Q8_0, which is here, or fetch it once without offline mode."
    for name in (MODEL, f"{MODEL}:Q2_K"):
        assert message_of(name, offline=True).startswith(f"{name}: it is not on this machine, and offline ")
        assert message_of(name, offline=True).endswith(there)
    elsewhere = message_of(f"{MODEL}:Q8_0", offline=True, revision="v1")
    assert f"Ask for revision {COMMIT[:12]}, which is here" in elsewhere


def test_by_names_alone_in_another_program_s_cache(machine: Path) -> None:
    put_snapshot(machine / "hf" / "hub", MODEL, {SMALL: b"GGUF", LARGE: b"GGUF"})
    assert find_model(f"{MODEL}:Q8_0", offline=True).name == LARGE
    assert list(listed()) == [f"{MODEL}:Q2_K", f"{MODEL}:Q8_0"]
    assert "Ask for" in message_of(MODEL, offline=True)


def test_what_is_here_is_used_where_the_hub_cannot_be_reached(hub: Hub) -> None:
    found = find_model(f"{MODEL}:Q8_0")
    hub.faults[MODEL] = Fault(503)
    assert find_model(f"{MODEL}:Q8_0") == found


def test_an_interrupted_download_goes_on(hub: Hub, machine: Path) -> None:
    half = len(hub.repositories[MODEL][SPLIT[1]]) // 2
    hub.faults[MODEL] = Fault(ends_at=half, only=SPLIT[1], on_files_only=True)
    assert "broke off" in message_of(f"{MODEL}:BF16")
    assert listed() == {}
    assert not list((machine / "hf" / "hub").rglob("refs/*"))
    assert "only a part of it is on this machine" in message_of(f"{MODEL}:BF16", offline=True)
    hub.faults.clear()
    hub.requests.clear()
    hub.ranges.clear()
    assert number_of(find_model(f"{MODEL}:BF16")) == 3
    assert (hub.downloads, hub.ranges) == (SPLIT[1:], [f"{SPLIT[1]} bytes={half}-"])


def test_damage_on_the_way_is_found(hub: Hub, machine: Path) -> None:
    hub.faults[MODEL] = Fault(damage=True, only=LARGE)
    assert f"{LARGE} of {MODEL} arrived damaged" in message_of(f"{MODEL}:Q8_0")
    assert not list((machine / "hf" / "hub").rglob("*.gguf"))


def test_large_files_are_no_longer_than_announced(hub: Hub) -> None:
    """GGUF files are weights, which may be large: what they announce is asked of the disk."""
    hub.faults[MODEL] = Fault(api_size=10**18, announce=10**18, only=LARGE)
    assert "The disk is full" in message_of(f"{MODEL}:Q8_0")


def test_names_that_are_paths(hub: Hub, machine: Path) -> None:
    hub.repositories[MODEL] = {
        f"{way}x-Q8_0.gguf": b"GGUF" for way in ("../", "/", "a/../../", "C:/", "..\\")
    }
    assert "has no GGUF files" in message_of(f"{MODEL}:Q8_0")
    assert hub.downloads == []


@pytest.mark.parametrize(
    "name", [":Q8_0", "a/b:", "a/b:c:d", "a/b:Q8\n", "../b:Q8_0", "a/..:Q8_0", "a/b:c/d"]
)
def test_names_that_are_none(hub: Hub, name: str) -> None:
    message_of(name)
    assert hub.requests == []


def test_links_that_lead_out(machine: Path) -> None:
    outside = put(machine / "secret-Q8_0.gguf")
    snapshot = put_snapshot(machine / "hf" / "hub", MODEL, {SMALL: b"GGUF"})
    (snapshot / LARGE).symlink_to(outside)
    (snapshot / "elsewhere").symlink_to(put(machine / "folder" / "there-BF16.gguf").parent)
    os.mkfifo(snapshot / "pipe-F16.gguf")
    with pytest.raises(CheckpointError, match="leads out of the model's directory"):
        find_model(f"{MODEL}:Q8_0", offline=True)
    for kind in ("F16", "BF16"):
        message_of(f"{MODEL}:{kind}", offline=True)
    assert list(listed()) == [f"{MODEL}:Q2_K"]


def test_lists_of_files_that_others_wrote(machine: Path) -> None:
    """Names that are none, far too many parts, and those that take long to compare."""
    snapshot = put_snapshot(machine / "hf" / "hub", MODEL, {SMALL: b"GGUF"})
    trees = snapshot.parent.parent / "trees"
    trees.mkdir()
    names = [f"{number}-00001-of-99999.gguf" for number in range(5000)]
    names += ["../../../x-Q8_0.gguf", "\0.gguf", "", "Q4_" * 100_000 + ".gguf", "a/" * 10_000 + "b.gguf"]
    (trees / f"{COMMIT}.json").write_text(json.dumps({"files": dict.fromkeys(names)}))
    start = time.process_time()
    assert list(listed()) == [f"{MODEL}:Q2_K"]
    for kind in ("Q8_0", "0", "b"):
        message_of(f"{MODEL}:{kind}", offline=True)
    assert time.process_time() - start < 20
    (trees / f"{COMMIT}.json").write_text("[]")
    assert find_model(f"{MODEL}:Q2_K", offline=True) == snapshot / SMALL


def test_a_copy_in_weights_cache(machine: Path) -> None:
    folder = list(model_folders())[-1] / MODEL
    for name in (SMALL, LARGE):
        put(folder / name)
    assert find_model(f"{MODEL}:Q8_0", offline=True) == folder / LARGE


def test_at_the_command_line(hub: Hub, capsys: Any) -> None:
    """`inspect` fetches no weights; `models` shows the name under which a file is asked for."""
    with pytest.raises(TinyStarError, match=r"Fetch all 0\.0 MB of it first"):
        find_model(f"{MODEL}:Q8_0", config_only=True)
    assert hub.downloads == []
    found = find_model(f"{MODEL}:Q8_0")
    assert find_model(f"{MODEL}:Q8_0", config_only=True) == found
    find_model(f"{MODEL}:Q8_0", revision="v1")
    assert tinystar(["models"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(MODEL)]
    assert [(line[0], line[3:]) for line in lines] == [
        (f"{MODEL}:Q8_0", ["hub", "cache"]),
        (f"{MODEL}:Q8_0", ["hub", "cache", "@", "v1"]),
    ]


def test_a_model_is_loaded(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the hub by its type: the same numbers as from the file."""
    case = ROWS["llama"]
    reference_model("llama", **case.smallest, **case.more).save_pretrained(machine / "saved")
    path = write_gguf(machine / "saved", machine / "Tiny-F32.gguf")
    with serve_hub({MODEL: {path.name: path.read_bytes()}}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        model = load(f"{MODEL}:F32")[0]
    shutil.rmtree(machine / "saved")
    ids = random_ids(2, 12)
    assert np.array_equal(model(ids), load(path)[0](ids))
