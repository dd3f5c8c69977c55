"""A small Hugging Face hub on 127.0.0.1, for tests that must not leave this machine.

    with serve_hub({"owner/model": {"config.json": b"{}"}}) as hub:
        hub.url                                 for HF_ENDPOINT
        hub.requests                            ["GET /api/models/owner/model/revision/main", ...]
        hub.downloads                           ["config.json", ...]: what was fetched with GET
        hub.faults["owner/model"] = Fault(403)  its API and its files answer so from now on

Set HF_HUB_DISABLE_XET=1 as well where the hub's library runs in another process. To try a fault by hand:

    python tests/hub_server.py DIRECTORY [FAULT]  # serves it as owner/model; FAULT is such as "Fault(403)"
"""

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "1234567890abcdef1234567890abcdef12345678"
LARGE = (".safetensors", ".gguf", "tokenizer.json")  # kept as the hub keeps large files, with git-lfs


@dataclass
class Fault:
    """How a repository misbehaves."""

    status: int = 200
    code: str | None = None  # the X-Error-Code header: GatedRepo, RepoNotFound, RevisionNotFound
    message: str | None = None  # the X-Error-Message header
    on_files_only: bool = False  # the API answers well; only files fail
    unless_token: str | None = None  # the status is for those only who show another token than this, or none
    only: str = ""  # of the files, those alone whose names end so

    hang: bool = False  # never answers
    wait: float = 0.0  # seconds before it answers
    stall_after: int | None = None  # bytes of a file that are sent before nothing more comes
    cut_after: int | None = None  # bytes of a file that are sent before the connection breaks
    ends_at: int | None = None  # the byte of a file before which every connection breaks
    announce: int = 0  # bytes that Content-Length says too many (or too few, if negative)
    api_size: int = 0  # bytes that the API says too many
    damage: bool = False  # one byte of a file arrives changed
    no_ranges: bool = False  # sends whole files only
    no_hashes: bool = False  # the API does not announce hashes
    page: bool = False  # every answer is a web page
    says: dict[str, object] = field(default_factory=dict)  # keys of the API's answer that are other ones
    headers: dict[str, str] = field(default_factory=dict)  # headers of files that are other ones
    raw: Callable[[], Iterable[bytes]] | None = None  # what is sent in place of an answer, HTTP or not
    pause: float = 0.0  # seconds between its pieces


@dataclass
class Hub:
    """A running hub."""

    url: str
    repositories: dict[str, dict[str, bytes]]
    revisions: dict[str, str]  # branch or tag → commit
    faults: dict[str, Fault] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)  # of requests for a part of a file
    tokens: set[str | None] = field(default_factory=set)  # the Authorization headers that were sent
    encodings: set[str | None] = field(default_factory=set)  # the Accept-Encoding headers
    sent: int = 0  # bytes of raw answers
    store: str = ""  # where large files are redirected to, if anywhere: another host that needs no token
    stopping: threading.Event = field(default_factory=threading.Event)

    def commit_of(self, revision: str) -> str | None:
        if revision in self.revisions:
            return self.revisions[revision]
        known = {commit for commit in self.revisions.values() if commit.startswith(revision)}
        return known.pop() if len(known) == 1 and len(revision) >= 7 else None

    @property
    def downloads(self) -> list[str]:
        return sorted(
            line.partition("/resolve/")[2].partition("/")[2]
            for line in self.requests
            if line.startswith("GET ") and "/resolve/" in line
        )


@contextmanager
def serve_hub(
    repositories: dict[str, dict[str, bytes]], revisions: dict[str, str] | None = None, port: int = 0
) -> Iterator[Hub]:
    """Serve repositories, each a dictionary of files, until the block ends.

    All revisions have the same files; ``revisions`` names those that exist besides main.
    """
    server = _Server(("127.0.0.1", port), _Handler)
    hub = Hub(
        f"http://127.0.0.1:{server.server_address[1]}", repositories, {"main": COMMIT} | (revisions or {})
    )
    server.hub = hub
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100  # with the usual 5, clients that come at once wait for seconds on a busy machine


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet; in two, each answer waits 40 ms for an acknowledgement

    def log_message(self, *arguments: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client went away, as some tests have it do
            super().handle()

    def finish(self) -> None:
        with suppress(ConnectionError):
            super().finish()

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def _route(self) -> None:
        hub: Hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        token = self.headers["Authorization"]
        hub.requests.append(f"{self.command} {path}")
        hub.tokens.add(token)
        hub.encodings.add(self.headers["Accept-Encoding"])
        is_api = path.startswith("/api/models/")
        name = path.removeprefix("/api/models").removeprefix("/")
        repository = next(
            (known for known in {*hub.repositories, *hub.faults} if name.startswith(known + "/")), ""
        )
        fault = hub.faults.get(repository, Fault())
        if (fault.on_files_only and is_api) or not (is_api or path.endswith(fault.only)):
            fault = Fault(says=fault.says)
        hub.stopping.wait(fault.wait)
        if fault.hang:
            hub.stopping.wait(60)
            self.close_connection = True
        elif fault.raw is not None:
            self._send_raw(fault)
        elif fault.page:
            self._send(200, b"<html>Welcome to this network", {"Content-Type": "text/html"})
        elif fault.status != 200 and not (fault.unless_token and token == f"Bearer {fault.unless_token}"):
            self._fail(fault.status, fault.code, fault.message)
        elif repository not in hub.repositories:
            self._fail(404, "RepoNotFound")
        elif is_api:
            self._answer_api(hub, repository, name.removeprefix(repository + "/"), fault)
        else:
            self._answer_file(hub, repository, name.removeprefix(repository + "/resolve/"), fault)

    def _answer_api(self, hub: Hub, repository: str, rest: str, fault: Fault) -> None:
        kind, _, revision = rest.partition("/")
        commit = hub.commit_of(revision)
        files = hub.repositories[repository]
        if commit is None:
            self._fail(404, "RevisionNotFound")
            return
        entries = []
        for name, content in files.items():
            size = len(content) + fault.api_size
            entry = {"type": "file", "path": name, "rfilename": name, "size": size, "oid": git_hash(content)}
            if name.endswith(LARGE):
                entry["lfs"] = {"size": size, "pointerSize": 134, "sha256": _hash(name, content)}
                entry["lfs"]["oid"] = entry["lfs"]["sha256"]
            entry["blobId"] = entry["oid"]
            if fault.no_hashes:
                entry = {"type": "file", "path": name, "rfilename": name, "size": size, "oid": "unknown"}
            entries.append(entry)
        if kind == "revision":
            self._send_json({"id": repository, "sha": commit, "siblings": entries} | fault.says)
        else:
            self._send_json(entries)

    def _answer_file(self, hub: Hub, repository: str, rest: str, fault: Fault) -> None:
        revision, _, name = rest.partition("/")
        commit = hub.commit_of(revision)
        content = hub.repositories[repository].get(name)
        if commit is None or content is None:
            self._fail(404, "RevisionNotFound" if commit is None else "EntryNotFound")
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_hash(name, content)}"', "Accept-Ranges": "bytes"}
        if hub.store and name.endswith(LARGE):
            linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(content))}
            self._send(302, b"", headers | linked | {"Location": f"{hub.store}{self.path}"})
            return
        if fault.damage:
            content = bytes([content[0] ^ 1]) + content[1:]
        status, start, asked = 200, 0, self.headers["Range"]
        if asked and not fault.no_ranges:
            hub.ranges.append(f"{name} {asked}")
            start, size = int(asked.removeprefix("bytes=").partition("-")[0]), len(content)
            if start >= size:
                self._fail(416, None)
                return
            status, content = 206, content[start:]
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        if fault.ends_at is not None:
            fault = Fault(cut_after=max(fault.ends_at - start, 0))
        self._send(status, content, headers | fault.headers, fault)

    def _fail(self, status: int, code: str | None, message: str | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(status, b"{}", {name: value for name, value in headers.items() if value})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], fault: Fault | None = None) -> None:
        fault = fault if fault and self.command == "GET" else Fault()
        self.send_response(status)
        for header in headers.items():
            self.send_header(*header)
        self.send_header("Content-Length", str(len(body) + fault.announce))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = fault.cut_after if fault.stall_after is None else fault.stall_after
        self.wfile.write(body[:stop])
        if fault.stall_after is not None:
            self.wfile.flush()
            self.server.hub.stopping.wait(60)
        # After a whole answer it stays open: the client, told nothing else, is about to use it again.
        if (stop is not None and stop < len(body)) or fault.announce:
            self.close_connection = True

    def _send_raw(self, fault: Fault) -> None:
        self.close_connection = True
        for piece in fault.raw():
            self.wfile.write(piece)
            self.wfile.flush()
            self.server.hub.sent += len(piece)
            if self.server.hub.stopping.wait(fault.pause):
                break


def _hash(name: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else git_hash(content)


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _main(directory: str, fault: str = "Fault()") -> None:
    files = {path.name: path.read_bytes() for path in Path(directory).iterdir() if path.is_file()}
    with serve_hub({"owner/model": files}, {"v1": "a" * 40}) as hub:
        hub.faults["owner/model"] = eval(fault)
        print(f"export HF_ENDPOINT={hub.url} HF_HUB_DISABLE_XET=1", flush=True)
        shown = 0
        while not hub.stopping.wait(0.2):
            print("".join(f"{line}\n" for line in hub.requests[shown:]), end="", flush=True)
            shown = len(hub.requests)


if __name__ == "__main__":
    _main(*sys.argv[1:])
