"""Putting a file of the hub into its cache, whole or not at all.

    blobs/<hash>.incomplete   the partial file; the next try goes on from its end
    blobs/<hash>              the whole file, once its bytes have the hash that is its name
    snapshots/<commit>/<name> a link to it, made last

These are the names of the hub's library, which finds the files there. It is not asked to fetch them: when it
is interrupted it deletes a partial file, it checks no hash, and it writes as many bytes as come, under a name
that whoever answers may choose.
"""

import errno
import hashlib
import os
import re
import shutil
import time
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import are_symlinks_supported
from huggingface_hub.utils import WeakFileLock, tqdm  # type: ignore[attr-defined]

from tinystar_np.checkpoints.hub_answers import LEAST_BYTES, StrangeAnswerError, open_answer
from tinystar_np.checkpoints.hub_errors import status_of
from tinystar_np.checkpoints.hub_listing import HubFile
from tinystar_np.checkpoints.json_file import one_line, shown
from tinystar_np.checkpoints.model_files import GGUF

WEIGHTS = (".safetensors", GGUF)
SMALLEST_WITH_BAR = 1_000_000  # bytes
SMALL_LIMIT = 64_000_000  # bytes of a file other than weights, or of one whose length nobody says
TRIES = 5  # in a row that bring next to nothing


class DamagedFileError(Exception):
    """A downloaded file has not the hash that the hub announced; the message is its name."""


class WrongLengthError(Exception):
    """A file is longer or shorter than the hub announced; the message is its name."""


class TooLargeError(Exception):
    """A file other than weights is larger than any model's; the message is its name."""


def store(file: HubFile, url: str, snapshot: Path) -> None:
    """Put a file into a snapshot of the cache; waits for other processes that fetch it.

    file      as the hub announces it
    url       where it is
    snapshot  the directory of its commit in the cache

    Only what is missing is fetched. Raises DamagedFileError, WrongLengthError, TooLargeError,
    the library's errors and those of hub_answers.
    """
    folder = snapshot.parent.parent
    # Where the hub announces no hash, the partial file is named after the commit and the name.
    key = file.hash or hashlib.sha256(f"{snapshot.name}/{file.name}".encode()).hexdigest()
    blob, partial = folder / "blobs" / key, folder / "blobs" / f"{key}.incomplete"
    lock = folder.parent / ".locks" / folder.name / f"{key}.lock"  # the library's own
    for path in (lock, partial):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_unless_regular(path)
    with WeakFileLock(lock):
        # A blob may be there from another process, an interrupted try or another revision. Or its link was
        # deleted because the file is damaged: then it must not be used again.
        is_new = not (file.hash and _is_whole(blob, file))
        if is_new:
            blob.unlink(missing_ok=True)
            if not file.hash:
                partial.unlink(missing_ok=True)  # nothing would show whether an earlier run's part fits
            blob = blob.with_name(_fetch(file, url, partial))
            os.replace(partial, blob)
        _link(snapshot / file.name, blob, is_new, folder.parent)


def remove_unless_regular(path: Path) -> None:
    """Remove what is no regular file but is about to be written.

    The cache may be another's: through a link something outside would be written, a pipe would be waited for.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.unlink()


def _fetch(file: HubFile, url: str, partial: Path) -> str:
    """Fetch a file, or what an earlier try has not, into the partial file; returns its hash."""
    # What an earlier run left, and what the last try reached that brought more than next to nothing.
    left = reached = _size(partial)
    failures = 0
    with _progress_bar(file) as bar:
        while True:
            start = _size(partial)
            if file.size is not None and start > file.size:
                start = 0
            try:
                if start != file.size or not start:
                    _receive(file, url, partial, start, bar)
            except Exception as error:
                # A connection that breaks again and again is taken up as long as it brings something.
                if (arrived := _size(partial)) >= reached + LEAST_BYTES:
                    failures, reached = 0, arrived
                failures += 1
                nothing_follows = status_of(error) == 416 and start > 0
                if failures == TRIES or not (nothing_follows or _may_pass(error)):
                    raise
                if nothing_follows:  # so what is there is of no use
                    os.truncate(partial, 0)
                time.sleep(2 ** (failures - 1))
                continue
            hash_ = _hash(partial, file.hash)
            if file.hash in ("", hash_):
                return hash_
            partial.unlink()
            if not left:
                raise DamagedFileError(file.name)
            left = 0  # an earlier run's part may be damaged: all is fetched again, once


def _progress_bar(file: HubFile) -> tqdm:
    """Return the library's bar, which its settings switch off; for a small file, one that shows nothing."""
    is_small = (file.size or 0) < SMALLEST_WITH_BAR
    return tqdm(  # type: ignore[no-untyped-call]
        desc=one_line(file.name if len(file.name) <= 40 else f"(…){file.name[-40:]}"),
        total=file.size,
        unit="B",
        unit_scale=True,
        disable=True if is_small else None,  # None: unless stderr is a terminal
    )


def _receive(file: HubFile, url: str, partial: Path, start: int, bar: tqdm) -> None:
    """Receive a file from byte ``start`` on, and append it to as many of the partial file."""
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with open_answer(url, timeout, start) as (head, pieces), partial.open("ab") as output:
        if head.status_code == 206:
            place, _, total = head.headers.get("Content-Range", "").partition("/")
            if not start or not place.startswith(f"bytes {start}-"):
                raise StrangeAnswerError(f"asked for bytes from {start} on, it sends {shown(place)}")
        else:  # the whole file, even if only its rest was asked for
            start, total = 0, head.headers.get("Content-Length", "")
        sent = int(total) if re.fullmatch("[0-9]{1,18}", total) else None
        size = sent if file.size is None else file.size
        if sent not in (None, size):
            raise WrongLengthError(file.name)
        if size is not None and size > SMALL_LIMIT and not file.name.endswith(WEIGHTS):
            raise TooLargeError(file.name)
        limit = SMALL_LIMIT if size is None else size
        if shutil.disk_usage(partial.parent).free < limit - output.tell():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        output.truncate(start)
        bar.n = start
        for piece in pieces:
            start += len(piece)
            if start > limit:
                raise WrongLengthError(file.name)
            output.write(piece)
            bar.update(len(piece))
        if size is not None and start < size:
            raise WrongLengthError(file.name)


def _may_pass(error: Exception) -> bool:
    """Say whether another try may be spared this fault.

    Errors are known by the names of their classes, as the library's HTTP client is httpx or httpx2.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    passing = {"TimeoutException", "NetworkError", "RemoteProtocolError"}
    return status_of(error) in (408, 429) or not kinds.isdisjoint(passing)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_whole(blob: Path, file: HubFile) -> bool:
    """Say whether a blob is there and has the length and the hash that the hub announces."""
    return blob.is_file() and file.size in (None, blob.stat().st_size) and _hash(blob, file.hash) == file.hash


def _hash(path: Path, like: str) -> str:
    """Return the hash of a file: git's SHA-1 if ``like`` is one, by its 40 digits, else the SHA-256."""
    with path.open("rb") as file:
        if len(like) != 40:
            return hashlib.file_digest(file, "sha256").hexdigest()
        start = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        return hashlib.file_digest(file, start.copy).hexdigest()


def _link(pointer: Path, blob: Path, is_new: bool, cache: Path) -> None:
    """Give a blob its name in a snapshot: by a link, or as the library does where the disk knows no links."""
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.unlink(missing_ok=True)  # a link to a blob that was deleted
    if are_symlinks_supported(cache):
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    elif is_new:
        os.replace(blob, pointer)
    else:  # links from before may lead to it
        shutil.copyfile(blob, pointer)
