"""A hub that sends without end, too much, or something else than was asked for."""

import gzip
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path

import pytest
from hub_machine import NEEDED, SHORT, TOKEN, answer, check_all_inside, message_of
from hub_server import Fault, Hub, serve_hub

from tinystar_np.checkpoints import download, hub_store

pytest_plugins = ["hub_fixtures"]
pytestmark = pytest.mark.usefixtures("machine", "in_time")

MODEL, CONFIG = "owner/model", "config.json"
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


# Bytes without end


ENDLESS = {
    "body": (answer("200 OK", [CHUNKED], repeat(CHUNK)), "wrong length|more than 10 MB"),
    "without a length": (answer("200 OK", [b"\r\n"], repeat(b" " * 65536)), "wrong length|more than 10 MB"),
    "error": (answer("404 Not Found", [CHUNKED], repeat(CHUNK)), "HTTP 404"),
    "redirect": (answer("302 Found", [b"Location: ?\r\n", CHUNKED], repeat(CHUNK)), "redirects 10 times"),
    "headers": (answer("200 OK", repeat(b"X: y\r\n")), "broke off"),
    "one header": (answer("200 OK", [b"X: "], repeat(b"x" * 1000)), "broke off"),
    "chunk": (answer("200 OK", [CHUNKED, b"fffffffffff\r\n"], repeat(b" " * 65536)), "wrong length|10 MB"),
    "trailers": (answer("200 OK", [CHUNKED, b"0\r\n"], repeat(b"X: y\r\n")), "broke off"),
    "not HTTP": (lambda: repeat(b"SSH-2.0"), "broke off"),
}  # fmt: skip


@pytest.mark.parametrize("where", ["api", "file"])
@pytest.mark.parametrize("kind", ENDLESS)
def test_an_answer_without_end(served: Hub, machine: Path, kind: str, where: str) -> None:
    raw, words = ENDLESS[kind]
    served.faults[MODEL] = Fault(
        raw=raw, on_files_only=where == "file", only=CONFIG if where == "file" else ""
    )
    said = message_of(MODEL)
    assert any(word in said for word in words.split("|")), said
    assert served.sent < 60_000_000  # ten times what is read at most, in the buffers of the system included
    assert sum(path.stat().st_size for path in machine.rglob("*.incomplete")) <= len(NEEDED[CONFIG])
    served.faults.clear()
    check_all_inside(machine)


def test_a_file_without_end_and_of_unknown_length(
    served: Hub, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_store, "SMALL_LIMIT", 1_000_000)
    files = {"siblings": [{"rfilename": entry["rfilename"]} for entry in SHORT]}
    served.faults[MODEL] = Fault(says=files, raw=ENDLESS["body"][0], on_files_only=True, only=".safetensors")
    assert "model.safetensors of owner/model arrives" in message_of(MODEL)
    assert sum(path.stat().st_size for path in machine.rglob("*.incomplete")) <= 1_000_000
    served.faults[MODEL] = Fault(says=files)
    check_all_inside(machine)


@pytest.mark.parametrize("where", ["api", "file", "redirect", "error"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "x"])
def test_a_compressed_answer(served: Hub, where: str, encoding: str) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    status = {"redirect": "302 Found", "error": "404 Not Found"}.get(where, "200 OK")
    lines = f"Content-Encoding: {encoding}\r\nContent-Length: {len(bomb)}\r\n\r\n"
    if where == "redirect":
        lines = f"Location: {served.url}/elsewhere\r\n{lines}"
    served.faults[MODEL] = Fault(
        raw=answer(status, [lines.encode(), bomb]),
        on_files_only=where == "file",
        only=CONFIG * (where == "file"),
    )
    tracemalloc.start()
    said = message_of(MODEL)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    words = {"redirect": "has no model", "error": "HTTP 404"}.get(where, "it compresses what it sends")
    assert words in said
    assert peak < 20_000_000


def test_nobody_asks_for_compression(served: Hub, machine: Path) -> None:
    check_all_inside(machine)
    assert served.encodings == {"identity"}


def test_a_small_file_that_is_huge(served: Hub, machine: Path) -> None:
    served.faults[MODEL] = Fault(
        says={"siblings": [SHORT[0] | {"size": 65_000_000}, SHORT[1]]},
        raw=answer("200 OK", [CHUNKED], repeat(CHUNK)),
        on_files_only=True,
        only=CONFIG,
    )
    assert "config.json of owner/model is larger than any model's file of this name" in message_of(MODEL)
    assert served.sent < 10_000_000


def test_more_files_than_any_model_has(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FILES_LIMIT", 10)
    assert f"a model of {len(NEEDED)} files, more than the 10" in message_of(MODEL)
    assert not served.downloads


@pytest.mark.parametrize("size", [10**15, 10**300])
def test_a_file_that_does_not_fit_on_the_disk_is_not_begun(served: Hub, machine: Path, size: int) -> None:
    listed = [SHORT[0], SHORT[1] | {"size": size}]
    served.faults[MODEL] = Fault(
        says={"siblings": listed}, raw=ENDLESS["body"][0], on_files_only=True, only=".safetensors"
    )
    assert "The disk is full: owner/model does not fit" in message_of(MODEL)
    assert served.sent < 20_000_000
    assert not any(path.stat().st_size for path in machine.rglob("*.incomplete"))


# Redirects


def redirect(to: str) -> Callable[[], Iterable[bytes]]:
    return answer("302 Found", [b"Content-Length: 0\r\nLocation: " + to.encode() + b"\r\n\r\n"])


def test_the_api_of_another_host_gets_no_token(served: Hub) -> None:
    with serve_hub({MODEL: NEEDED}) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost") + f"/api/models/{MODEL}/revision/main"
        served.faults[MODEL] = Fault(raw=redirect(elsewhere))
        assert "wrong length" in message_of(MODEL)  # of files, which were sought there as well
        assert other.tokens == {None}
    assert served.tokens == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "http://", "http://[", "\x7f"]
)
@pytest.mark.parametrize("where", ["api", "file"])
def test_redirects_to_what_is_no_page(served: Hub, machine: Path, to: str, where: str) -> None:
    served.faults[MODEL] = Fault(
        raw=redirect(to), on_files_only=where == "file", only=CONFIG if where == "file" else ""
    )
    said = message_of(MODEL)
    assert not to.startswith(("file", "ftp")) or "does not answer as a hub does: it" in said
    assert not list(machine.rglob(CONFIG))
