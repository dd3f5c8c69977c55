"""A hub that sends a byte now and then, or whose connections break."""

import math
import os
import time
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_machine import NEEDED, SHORT, answer, check_all_inside, message_of
from hub_server import COMMIT, Fault, Hub
from huggingface_hub import constants

from tinystar_np.checkpoints import hub_answers, hub_store

pytest_plugins = ["hub_fixtures"]
pytestmark = pytest.mark.usefixtures("machine", "in_time")

MODEL, CONFIG = "owner/model", "config.json"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


SLOW = {
    "status": answer("200", repeat(b"x")),
    "headers": answer("200 OK", [b"X: "], repeat(b"x")),
    "body": answer("200 OK", [b"Content-Length: 2222\r\n\r\n"], repeat(b" ")),
    "chunk's head": answer("200 OK", [CHUNKED, b"1;"], repeat(b"x")),
    "trailer": answer("200 OK", [CHUNKED, b"0\r\nX: "], repeat(b"x")),
    "redirect": answer("302 Found", [b"Location: /x\r\n", CHUNKED], repeat(b"1\r\nx\r\n")),
    "patience": lambda: repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("where", ["api", "file"])
@pytest.mark.parametrize("kind", SLOW)
def test_an_answer_that_comes_byte_by_byte(
    served: Hub, machine: Path, monkeypatch: pytest.MonkeyPatch, kind: str, where: str
) -> None:
    is_file = where == "file"
    listed = [entry | {"size": 2222} for entry in SHORT]  # the body's length
    served.faults[MODEL] = Fault(
        raw=SLOW[kind], pause=0.02, on_files_only=is_file, only=CONFIG * is_file, says={"siblings": listed}
    )
    begun = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(hub_answers, "WINDOW", 0.05)  # half a second
        assert "sends owner/model too slowly" in message_of(MODEL)
    assert time.monotonic() - begun < 10
    served.faults.clear()
    check_all_inside(machine)


def test_a_slow_line_that_goes_on_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(hub_answers, "time", SimpleNamespace(monotonic=lambda: now))
    pace = hub_answers.Pace(20, 110)
    for _ in range(5):  # until 200
        pace.arrived(hub_answers.LEAST_BYTES)
        now += 20
        assert not pace.is_over()
    pace.arrived(hub_answers.LEAST_BYTES)
    assert pace.left() == 10
    now += 10
    assert pace.is_over()


def test_a_slow_line_that_as_good_as_stops_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(hub_answers, "time", SimpleNamespace(monotonic=lambda: now))
    pace = hub_answers.Pace(20, math.inf)
    pace.arrived(10**9)  # which is no reason to wait for days
    now += 20
    assert not pace.is_over()
    pace.arrived(hub_answers.LEAST_BYTES - 1)
    now += 20
    assert pace.is_over()


def test_an_answer_of_the_api_that_is_only_slow(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_answers, "WHOLE_ANSWER", 0.05)
    monkeypatch.setattr(hub_answers, "LEAST_BYTES", 1)
    served.faults[MODEL] = Fault(raw=SLOW["body"], pause=0.02)
    assert "sends owner/model too slowly" in message_of(MODEL)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut_after=1),
        Fault(cut_after=1, no_ranges=True),
        Fault(cut_after=60_000, no_ranges=True),
        Fault(cut_after=60_000, damage=True),
        Fault(stall_after=1),
    ],
)
def test_a_connection_that_always_breaks(served: Hub, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    fault.only, fault.on_files_only = ".safetensors", True
    served.repositories[MODEL] = NEEDED | {"model.safetensors": os.urandom(200_000)}
    served.faults[MODEL] = fault
    assert message_of(MODEL)
    assert served.downloads.count("model.safetensors") <= 2 * hub_store.TRIES


@pytest.mark.parametrize("left", [10, len(NEEDED["model.safetensors"])])
def test_a_damaged_rest_of_an_earlier_run_is_replaced_once(served: Hub, machine: Path, left: int) -> None:
    weights = NEEDED["model.safetensors"]
    partial = (
        machine
        / "hf"
        / "hub"
        / "models--owner--model"
        / "blobs"
        / f"{sha256(weights).hexdigest()}.incomplete"
    )
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"?" * left)
    served.faults[MODEL] = Fault(damage=True, only=".safetensors", on_files_only=True)
    assert "model.safetensors of owner/model arrived damaged" in message_of(MODEL)
    assert served.downloads.count("model.safetensors") <= 2


def test_where_no_hash_is_announced_nothing_of_an_earlier_run_is_used(served: Hub, machine: Path) -> None:
    served.faults[MODEL] = Fault(no_hashes=True)
    key = sha256(f"{COMMIT}/model.safetensors".encode()).hexdigest()
    partial = machine / "hf" / "hub" / "models--owner--model" / "blobs" / f"{key}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"?" * 10)
    check_all_inside(machine)
    assert not served.ranges


@pytest.mark.parametrize("place", ["", "bytes 0-9/10", "bytes */99", "nonsense"])
def test_another_part_of_a_file_than_asked_for(
    served: Hub, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    served.repositories[MODEL] = NEEDED | {"model.safetensors": os.urandom(200_000)}
    served.faults[MODEL] = Fault(
        cut_after=60_000, only=".safetensors", on_files_only=True, headers={"Content-Range": place}
    )
    assert "does not answer as a hub does: asked for bytes from 60000 on, it sends" in message_of(MODEL)
