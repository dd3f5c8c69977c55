"""The files of a repository at one commit, as the hub announces them.

    GET /api/models/openai-community/gpt2/revision/main?blobs=true

    {"sha": "607a30d7…", "siblings": [
        {"rfilename": "config.json", "size": 665, "blobId": "10c66461…"},
        {"rfilename": "model.safetensors", "size": 548105171, "blobId": "e6…", "lfs": {"sha256": "248d…"}}]}

What the hub says becomes names of files on this disk, so it is checked here.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from tinystar_np.checkpoints.hub import FULL_COMMIT
from tinystar_np.checkpoints.hub_answers import StrangeAnswerError
from tinystar_np.checkpoints.json_file import JsonObject, parse_json_object, shown
from tinystar_np.errors import CheckpointError

# A path that leads down, on every system; no drives, control characters or halves of surrogate pairs.
_PART = r"(?!\.\.?(?:/|$))[^/\\:\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}"
FILE_PATH = re.compile(f"{_PART}(/{_PART}){{0,30}}")


LIST_LIMIT = 10_000  # of longer lists of files the hub may leave out some


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. What the hub does not announce, if it is not Hugging Face's, is None or ""."""

    name: str
    size: int | None  # in bytes
    hash: str  # of its bytes: git's SHA-1 of a small file, the SHA-256 of a large one
    blob: str  # what git stores: of a small file the same hash, of a large one that of a pointer to it


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit, by name.

    Names that cannot be a file's are left out.
    """

    commit: str
    files: dict[str, HubFile]
    entries: dict[str, JsonObject]  # for trees/<commit>.json in the cache; empty if they would not be all


def read_listing(answer: bytes, revision: str) -> Listing:
    """Read the hub's answer, and check all that is used of it.

    revision  what it was asked for

    Raises StrangeAnswerError if it is of another form, or about another commit than that asked for.
    """
    try:
        info = parse_json_object(answer, Path("answer"))
    except CheckpointError:
        raise StrangeAnswerError("what it says of the model is not JSON") from None
    commit, siblings = info.get("sha"), info.get("siblings")
    if not isinstance(commit, str) or not FULL_COMMIT.fullmatch(commit):
        raise StrangeAnswerError(f"it names {shown(commit)} as the model's commit, which is no hash")
    if FULL_COMMIT.fullmatch(revision) and commit != revision:
        raise StrangeAnswerError(f"asked for commit {revision[:12]}, it offers {commit[:12]}")
    if not isinstance(siblings, list | None):
        raise StrangeAnswerError(f"its list of files is {shown(siblings)}")
    listed = [_read_file(entry) for entry in siblings or []]
    files = {file.name: file for file in listed if FILE_PATH.fullmatch(file.name)}
    all_known = len(files) == len(listed) <= LIST_LIMIT and all(
        file.hash and file.blob and file.size is not None for file in listed
    )
    entries = {name: _tree_entry(files[name]) for name in sorted(files)} if all_known else {}
    return Listing(commit, files, entries)


def _read_file(entry: object) -> HubFile:
    """Read one entry of the list of files."""
    if not isinstance(entry, dict) or not isinstance(name := entry.get("rfilename"), str):
        raise StrangeAnswerError(f"an entry of its list of files is {shown(entry)}")
    size, blob, large = entry.get("size"), _hash_in(entry, "blobId", 40), entry.get("lfs")
    hash_ = blob
    if isinstance(large, dict):
        size, hash_ = large.get("size", size), _hash_in(large, "sha256", 64)
    if size is not None and (type(size) is not int or size < 0):
        raise StrangeAnswerError(f"the size of {shown(name)} is {shown(size)}")
    return HubFile(name, size, hash_, blob)


def _hash_in(entry: JsonObject, key: str, digits: int) -> str:
    """Return the hash under a key, or "" where anything else stands there."""
    value = entry.get(key)
    return value if isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) else ""


def _tree_entry(file: HubFile) -> JsonObject:
    """Return a file's entry in the library's list of a commit's files."""
    large = {"lfs_sha256": file.hash, "lfs_size": file.size} if file.hash != file.blob else {}
    return {"size": file.size, "blob_id": file.blob, **large}
