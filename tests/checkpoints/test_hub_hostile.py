"""A hub that means harm, a cache that somebody else has filled: nothing is written outside, all ends soon."""

import gzip
import hashlib
import math
import os
import shutil
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count, repeat
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_machine import NEEDED, TOKEN, message_of, put_snapshot
from hub_server import COMMIT, Fault, Hub, git_hash, serve_hub
from huggingface_hub import constants, hf_hub_download, snapshot_download

from tinystar_np.checkpoints import download, hub_answers, hub_store
from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.checkpoints.hub import find_model, list_local_models

pytest_plugins = ["hub_fixtures"]
pytestmark = pytest.mark.usefixtures("machine", "in_time")

MODEL, FOLDER, CONFIG = "owner/model", "models--owner--model", "config.json"
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
SHORT = [{"rfilename": name, "size": len(NEEDED[name])} for name in (CONFIG, "model.safetensors")]


@pytest.fixture
def in_time() -> Iterator[None]:
    """Nothing here may wait for ever: not for a pipe, nor for a byte."""

    def give_up(*arguments: object) -> None:
        raise AssertionError("it takes too long")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_store, "time", SimpleNamespace(sleep=lambda seconds: None))


def check(machine: Path) -> Path:
    """The model is fetched, and there is nothing of it anywhere but in its folder."""
    found = find_model(MODEL)
    assert open_checkpoint(found)["a"].tolist() == [0, 1, 2, 3]
    assert {path.name for path in machine.iterdir()} == {"hf", "here"}
    assert not list((machine / "here").iterdir())
    assert {path.name for path in (machine / "hf" / "hub").iterdir()} == {FOLDER, ".locks"}
    assert all(path.name == "main" for path in (machine / "hf" / "hub" / FOLDER / "refs").rglob("*"))
    assert {path.resolve().parent.name for path in found.iterdir()} == {"blobs"}
    return found


# Names that the hub chooses


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
    check(machine)


@pytest.mark.parametrize("key", ["blobId", "lfs", "sha256"])
@pytest.mark.parametrize("hash_", ["../../../../outside", "{machine}/outside", "", 5, None, ["a"], "A" * 40])
def test_hashes_that_are_none(served: Hub, machine: Path, key: str, hash_: object) -> None:
    hash_ = hash_.format(machine=machine) if isinstance(hash_, str) else hash_
    value = {"sha256": hash_} if key == "sha256" else hash_
    listed = [entry | {"lfs" if key == "sha256" else key: value} for entry in SHORT]
    served.faults[MODEL] = Fault(says={"siblings": listed})
    check(machine)


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
    assert {path.name for path in check(machine).iterdir()} == {CONFIG, "model.safetensors"}
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


# Bytes without end


def answer(status: str, *pieces: Iterable[bytes]) -> Callable[[], Iterable[bytes]]:
    return lambda: chain([b"HTTP/1.1 " + status.encode() + b"\r\n"], *pieces)


ENDLESS = {
    "body": (answer("200 OK", [CHUNKED], repeat(CHUNK)), "wrong length|more than 10 MB"),
    "without a length": (answer("200 OK", [b"\r\n"], repeat(b" " * 65536)), "wrong length|more than 10 MB"),
    "error": (answer("404 Not Found", [CHUNKED], repeat(CHUNK)), "HTTP 404"),
    "redirect": (answer("302 Found", [b"Location: ?\r\n", CHUNKED], repeat(CHUNK)), "redirects 10 times"),
    "headers": (answer("200 OK", (b"X-%d: y\r\n" % n for n in count())), "broke off"),
    "one header": (answer("200 OK", [b"X: "], repeat(b"x" * 1000)), "broke off"),
    "chunk": (answer("200 OK", [CHUNKED, b"fffffffffff\r\n"], repeat(b" " * 65536)), "wrong length|10 MB"),
    "trailers": (answer("200 OK", [CHUNKED, b"0\r\n"], (b"X-%d: y\r\n" % n for n in count())), "broke off"),
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
    check(machine)


def test_a_file_without_end_and_of_unknown_length(
    served: Hub, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_store, "SMALL_LIMIT", 1_000_000)
    files = {"siblings": [{"rfilename": entry["rfilename"]} for entry in SHORT]}
    served.faults[MODEL] = Fault(says=files, raw=ENDLESS["body"][0], on_files_only=True, only=".safetensors")
    assert "model.safetensors of owner/model arrives" in message_of(MODEL)
    assert sum(path.stat().st_size for path in machine.rglob("*.incomplete")) <= 1_000_000
    served.faults[MODEL] = Fault(says=files)
    check(machine)


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


# Bytes one at a time, and connections that break


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
    check(machine)


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


@pytest.mark.parametrize("place", ["", "bytes 0-9/10", "bytes */99", "nonsense"])
def test_another_part_of_a_file_than_asked_for(
    served: Hub, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    served.repositories[MODEL] = NEEDED | {"model.safetensors": os.urandom(200_000)}
    served.faults[MODEL] = Fault(
        cut_after=60_000, only=".safetensors", on_files_only=True, headers={"Content-Range": place}
    )
    assert "does not answer as a hub does: asked for bytes from 60000 on, it sends" in message_of(MODEL)


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
    message_of(MODEL)
    assert not list(machine.rglob(CONFIG))


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


# A cache that somebody else has filled


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
