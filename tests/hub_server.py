"""A small Hugging Face hub on 127.0.0.1, for tests that must not leave this machine.

    with serve_hub({"owner/model": {"config.json": b"{}"}}) as hub:
        hub.url                                 for HF_ENDPOINT
        hub.requests                            ["GET /api/models/owner/model/revision/main", ...]
        hub.downloads                           ["config.json", ...]: what was fetched with GET
        hub.faults["owner/model"] = Fault(403)  its API and its files answer so from now on

Set HF_HUB_DISABLE_XET=1 as well where the hub's library runs in another process.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "1234567890abcdef1234567890abcdef12345678"


@dataclass
class Fault:
    """How a repository misbehaves."""

    status: int = 200
    code: str | None = None  # the X-Error-Code header: GatedRepo, RepoNotFound, RevisionNotFound
    on_files_only: bool = False  # the API answers well; only files fail
    cut_after: int | None = None  # bytes of a file that are sent before the connection breaks
    hang: bool = False  # never answers


@dataclass
class Hub:
    """A running hub."""

    url: str
    repositories: dict[str, dict[str, bytes]]
    revisions: dict[str, str]  # branch or tag → commit
    faults: dict[str, Fault] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def commit_of(self, revision: str) -> str | None:
        return revision if revision in self.revisions.values() else self.revisions.get(revision)

    @property
    def downloads(self) -> list[str]:
        return sorted(
            line.partition("/resolve/")[2].partition("/")[2]
            for line in self.requests
            if line.startswith("GET ") and "/resolve/" in line
        )


@contextmanager
def serve_hub(
    repositories: dict[str, dict[str, bytes]], revisions: dict[str, str] | None = None
) -> Iterator[Hub]:
    """Serve repositories, each a dictionary of files, until the block ends.

    All revisions have the same files; ``revisions`` names those that exist besides main.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet; in two, each answer waits 40 ms for an acknowledgement

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def _route(self) -> None:
        hub: Hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        is_api = path.startswith("/api/models/")
        name = path.removeprefix("/api/models").removeprefix("/")
        repository = next(
            (known for known in {*hub.repositories, *hub.faults} if name.startswith(known + "/")), ""
        )
        fault = hub.faults.get(repository, Fault())
        if fault.hang:
            hub.stopping.wait(60)
            self.close_connection = True
        elif fault.status != 200 and not (is_api and fault.on_files_only):
            self._fail(fault.status, fault.code)
        elif repository not in hub.repositories:
            self._fail(404, "RepoNotFound")
        elif is_api:
            self._answer_api(hub, repository, name.removeprefix(repository + "/"))
        else:
            self._answer_file(hub, repository, name.removeprefix(repository + "/resolve/"), fault)

    def _answer_api(self, hub: Hub, repository: str, rest: str) -> None:
        kind, _, revision = rest.partition("/")
        commit = hub.commit_of(revision)
        files = hub.repositories[repository]
        if commit is None:
            self._fail(404, "RevisionNotFound")
        elif kind == "revision":
            siblings = [{"rfilename": name} for name in files]
            self._send_json({"id": repository, "sha": commit, "siblings": siblings})
        else:
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": _hash(content)}
                for name, content in files.items()
            ]
            self._send_json(entries)

    def _answer_file(self, hub: Hub, repository: str, rest: str, fault: Fault) -> None:
        revision, _, name = rest.partition("/")
        commit = hub.commit_of(revision)
        content = hub.repositories[repository].get(name)
        if commit is None or content is None:
            self._fail(404, "RevisionNotFound" if commit is None else "EntryNotFound")
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_hash(content)}"', "Accept-Ranges": "bytes"}
        cut = self.command == "GET" and fault.cut_after is not None
        self._send(200, content, headers, cut_after=fault.cut_after if cut else None)

    def _fail(self, status: int, code: str | None) -> None:
        self._send(status, b"{}", {"X-Error-Code": code} if code else {})

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut_after: int | None = None) -> None:
        self.send_response(status)
        for header in headers.items():
            self.send_header(*header)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut_after])
        if cut_after is not None:
            self.close_connection = True


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
