"""One file from the hub to its cache: never twice the same bytes, and nothing damaged.

The hub's library throws away what has arrived of a file when it is interrupted, and does not check what
arrived when it is not. For weights of gigabytes both matter, so the contents are fetched here:

    blobs/<hash>.incomplete   what has arrived; the next try goes on from its end
    blobs/<hash>              the whole file, once its bytes have the hash that is its name

The hub announces the hash and the size of each file beforehand: of a large one (git-lfs) the SHA-256, of a
small one the SHA-1 that git gives it, of "blob <size>", a zero byte and the content. The library then finds
the contents on the disk and only links them into the snapshot.
"""

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported only where mypy does not look
    WeakFileLock,
    build_hf_headers,
    get_session,
    hf_raise_for_status,
    tqdm,
)

HEX = frozenset("0123456789abcdef")
TRIES_IN_VAIN = 4  # one after another, none of which brings a byte
SECONDS_BETWEEN_TRIES = 1.0
SMALLEST_WITH_BAR = 1_000_000  # bytes


class DamagedFileError(Exception):
    """What arrived is not what the hub announced."""


class WrongLengthError(Exception):
    """The hub ends a file before the size that it announced."""


@dataclass(frozen=True)
class Announced:
    """A file as the hub announces it."""

    name: str
    size: int
    hash: str  # 64 hexadecimal digits of SHA-256, or 40 of git's SHA-1

    @property
    def is_checkable(self) -> bool:
        """Tell whether its hash is of a known kind (other hubs may name files as they like)."""
        return len(self.hash) in (40, 64) and HEX.issuperset(self.hash)


def fetch_file(file: Announced, url: str, folder: Path, locks: Path) -> None:
    """Fetch a file's content, or the rest of it, if it is not in the cache; waits for others who do so.

    file    what to fetch
    url     where from
    folder  the repository's folder in the hub's cache
    locks   the folder of the repository's locks, which the library uses too

    Raises DamagedFileError if the content is not the announced one; WrongLengthError; the errors of the hub's
    library and its HTTP client; OSError.
    """
    blob = folder / "blobs" / file.hash
    for directory in (blob.parent, locks):
        directory.mkdir(parents=True, exist_ok=True)
    partial = blob.with_name(f"{file.hash}.incomplete")
    with WeakFileLock(locks / f"{file.hash}.lock"):
        if blob.exists():
            # By another process meanwhile, or by a try that was interrupted, or for another revision. Or its
            # link was deleted because the file is damaged: then it must not come back.
            if _has_hash(blob, file.hash):
                return
            blob.unlink()
        resumed = partial.exists()
        _fetch_rest(file, url, partial)
        if resumed and not _has_hash(partial, file.hash):
            # The beginning may be to blame, which an earlier run left there: once more, from the start.
            partial.unlink()
            _fetch_rest(file, url, partial)
        if not _has_hash(partial, file.hash):
            partial.unlink()
            raise DamagedFileError(file.name)
        os.replace(partial, blob)


def _fetch_rest(file: Announced, url: str, partial: Path) -> None:
    """Append to the file what it lacks, going on where it stopped if the connection breaks or stalls."""
    with partial.open("ab") as output:
        if output.tell() > file.size:
            output.truncate(0)
            output.seek(0)
        small = file.size < SMALLEST_WITH_BAR
        in_vain = 0
        with tqdm(  # type: ignore[no-untyped-call]
            desc=file.name, total=file.size, initial=output.tell(), unit="B", unit_scale=True, disable=small
        ) as bar:
            while (before := output.tell()) < file.size:
                failure: Exception = WrongLengthError(file.name)
                try:
                    _append(output, url, bar)
                except Exception as error:
                    if not _may_pass(error):
                        raise
                    failure = error
                in_vain = 0 if output.tell() > before else in_vain + 1
                if in_vain == TRIES_IN_VAIN:
                    raise failure
                if output.tell() < file.size:
                    time.sleep(SECONDS_BETWEEN_TRIES)


def _append(output: BinaryIO, url: str, bar: tqdm) -> None:
    """Ask once for what comes after the end of a file, and append it as it arrives."""
    # The address is the hub's own. It may redirect to another host, which the client then sends no token.
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if there := output.tell():
        headers["Range"] = f"bytes={there}-"
    with get_session().stream(
        "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
    ) as response:
        hf_raise_for_status(response)
        if there and response.status_code != 206:  # the whole file, though a part was asked for
            output.truncate(0)
            output.seek(0)
            bar.update(-there)
        for piece in response.iter_bytes():
            output.write(piece)
            bar.update(len(piece))


def _may_pass(error: Exception) -> bool:
    """Tell whether it is worth trying again at once: the network's moods, and a hub that is overburdened."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500
    # The library's HTTP client is httpx or httpx2, by its version; their errors have the same names.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"TimeoutException", "NetworkError", "RemoteProtocolError"})


def _has_hash(path: Path, announced: str) -> bool:
    """Tell whether a file's bytes have a hash, of the kind that its length says."""
    with path.open("rb") as file:
        if len(announced) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest() == announced
        start = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        return hashlib.file_digest(file, start.copy).hexdigest() == announced
