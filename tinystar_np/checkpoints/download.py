"""Fetching a model from the hub: its configuration, safetensors and tokenizer, and nothing else.

huggingface_hub talks to the hub and keeps the cache. But when it is interrupted it deletes a partial file,
and it does not check a file against the hash that the hub announced. For weights of gigabytes both matter, so
``_fetch_content`` puts the contents into the cache beforehand:

    blobs/<hash>.incomplete   the partial file; the next try goes on from its end
    blobs/<hash>              the whole file, once its bytes have the hash that is its name

and the library finds them there, and only links them into the snapshot.
"""

import glob
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from tinystar_np.checkpoints.config_file import CONFIG_FILE
from tinystar_np.checkpoints.hub import repository_folder
from tinystar_np.checkpoints.hub_errors import explain, hub_error
from tinystar_np.checkpoints.model_files import (
    INDEX_FILE,
    SINGLE_FILE,
    instead_of_weights,
    read_index,
    small_files,
)
from tinystar_np.errors import TinyStarError

USUAL_ENDPOINT = "https://huggingface.co"
SMALLEST_WITH_BAR = 1_000_000  # bytes
HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")  # git's SHA-1 of a small file, SHA-256 of a large one


class DamagedFileError(Exception):
    """A downloaded file has not the hash that the hub announced."""


def download(repository: str, revision: str | None, cache: Path, config_only: bool = False) -> Path:
    """Download a model into the hub's cache, with the hub library's progress bars if stderr is a terminal.

    repository   such as "openai-community/gpt2"
    revision     a branch, tag or commit; None is the newest
    cache        the hub's cache
    config_only  fetch nothing but config.json

    Returns the directory of its files. Raises HubError if the hub cannot be reached, refuses, or has no
    safetensors for this model, and CheckpointError for an invalid index; what was downloaded until then is
    kept, and the next try goes on from there.
    """
    endpoint = (os.environ.get("HF_ENDPOINT") or USUAL_ENDPOINT).rstrip("/")
    revision = revision or "main"
    try:
        with _quiet_library(show_bars=False):
            info = HfApi(endpoint=endpoint).model_info(
                repository, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT, files_metadata=True
            )
        files = _Files(info, repository, cache, endpoint)
        if CONFIG_FILE not in files.on_hub:
            raise hub_error(
                f"{repository} has no {CONFIG_FILE}.\nIt is not a model in the format of transformers."
            )
        # The weights come last, so that errors of the other files show before the long download.
        return files.fetch([CONFIG_FILE] if config_only else [*files.small(), *files.weights()], revision)
    except TinyStarError:
        raise
    except Exception as error:
        # "from None": a traceback of the library's errors may quote the access token.
        raise explain(error, repository, revision, endpoint, cache) from None


class _Files:
    """The files of a repository at one commit.

    info  as the hub's library gives it, with the files' sizes and hashes
    """

    def __init__(self, info: ModelInfo, repository: str, cache: Path, endpoint: str) -> None:
        self.on_hub = {file.rfilename: file for file in info.siblings or []}
        self._commit, self._repository, self._endpoint = str(info.sha), repository, endpoint
        self._cache, self._folder = cache, repository_folder(repository, cache)

    def small(self) -> list[str]:
        """List the model's files other than its weights."""
        return sorted(small_files(self.on_hub))

    def weights(self) -> list[str]:
        """List the files of the model's weights; raises TinyStarError if there are none that can be read."""
        if SINGLE_FILE in self.on_hub:
            return [SINGLE_FILE]
        if INDEX_FILE not in self.on_hub:
            there, what_to_do = instead_of_weights(self.on_hub)
            raise hub_error(f"{self._repository} has {there}.\n{what_to_do}")
        # By commit, not by branch: offline, the branch stays at its last complete commit until all is here.
        shards = set(read_index(self.fetch([INDEX_FILE], self._commit)).values())
        if absent := sorted(shards - self.on_hub.keys()):
            raise hub_error(
                f"{self._repository}: {INDEX_FILE} names {absent[0]}, which the repository does not have.\n"
                "Only the model's authors can mend it: use another model or revision."
            )
        return [INDEX_FILE, *sorted(shards)]

    def fetch(self, names: list[str], revision: str) -> Path:
        """Fetch some of the files into the hub's cache, and return their directory.

        revision  the branch or tag that the cache records for this commit; the commit itself for none
        """
        uncheckable = False
        for name in names:
            file = self.on_hub[name]
            hash_ = (file.lfs.sha256 if file.lfs else file.blob_id) or ""
            if (self._folder / "snapshots" / self._commit / name).exists():
                continue
            if not file.size or not HASH.fullmatch(hash_):
                uncheckable = True  # from another hub than Hugging Face's: the library downloads it
                continue
            url = hf_hub_url(self._repository, name, revision=self._commit, endpoint=self._endpoint)
            with _quiet_library(show_bars=file.size >= SMALLEST_WITH_BAR):
                _fetch_content(name, url, file.size, hash_, self._folder)
        with _quiet_library(show_bars=uncheckable):
            directory = snapshot_download(
                self._repository,
                revision=revision,
                cache_dir=self._cache,
                endpoint=self._endpoint,
                allow_patterns=[glob.escape(name) for name in names],
            )
        return Path(directory)


def _fetch_content(name: str, url: str, size: int, hash_: str, folder: Path) -> None:
    """Fetch a file's content, or the rest of it, if it is not in the cache; waits for other processes' fetch.

    hash_   what the hub announces: the SHA-256, or git's SHA-1
    folder  the repository's, in the hub's cache

    Raises DamagedFileError if the content has another hash, and the library's errors.
    """
    blob = folder / "blobs" / hash_
    partial = blob.with_name(f"{hash_}.incomplete")
    lock = folder.parent / ".locks" / folder.name / f"{hash_}.lock"  # the library's own
    for directory in (blob.parent, lock.parent):
        directory.mkdir(parents=True, exist_ok=True)
    # The library's client follows redirects, and sends other hosts no token.
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    with WeakFileLock(lock):
        if blob.exists():
            # From another process, an interrupted try or another revision. Or its link was deleted because
            # the file is damaged: then it must not be used again.
            if _has_hash(blob, hash_):
                return
            blob.unlink()
        while not blob.exists():
            if partial.exists() and partial.stat().st_size > size:
                partial.unlink()
            with partial.open("ab") as output:
                resumed = output.tell()
                try:
                    http_get(
                        url,
                        output,
                        resume_size=resumed,
                        headers=headers,
                        expected_size=size,
                        displayed_filename=name,
                    )
                except Exception as error:
                    # The library retries only some errors; here any broken transfer that made progress is.
                    broke = "TransportError" in [kind.__name__ for kind in type(error).__mro__]
                    if broke and output.tell() > resumed:
                        continue
                    raise
            if _has_hash(partial, hash_):
                os.replace(partial, blob)
            else:
                partial.unlink()
                if not resumed:  # else an earlier run's part may be damaged: all is fetched again
                    raise DamagedFileError(name)


def _has_hash(path: Path, announced: str) -> bool:
    """Say whether a file's bytes have a hash: 64 digits of SHA-256, or 40 of the SHA-1 that git gives it."""
    with path.open("rb") as file:
        if len(announced) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest() == announced
        start = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        return hashlib.file_digest(file, start.copy).hexdigest() == announced


@contextmanager
def _quiet_library(show_bars: bool) -> Iterator[None]:
    """Keep the library's warnings off stderr, and its progress bars where they are not wanted.

    Errors have messages of our own. Where stderr is no terminal, the library shows no bars.
    """
    # A user who sets the library's own variable for this has decided already.
    decided = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or are_progress_bars_disabled()
    hide_bars = not (show_bars or decided)
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    if hide_bars:
        disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if hide_bars:
            enable_progress_bars()
