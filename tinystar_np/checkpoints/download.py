"""Fetching a model from the hub: its configuration, safetensors and tokenizer, and nothing else."""

import glob
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinystar_np.checkpoints.config_file import CONFIG_FILE
from tinystar_np.checkpoints.hub_address import host_of, hub_endpoint, hub_error
from tinystar_np.checkpoints.hub_cache import mend_links, repository_folder
from tinystar_np.checkpoints.model_files import instead_of_weights, small_files
from tinystar_np.checkpoints.shard_index import INDEX_FILE, SINGLE_FILE, read_index
from tinystar_np.errors import TinyStarError


def download(repository: str, revision: str | None, cache: Path) -> Path:
    """Download a model into the hub's cache, with the hub library's progress bars if stderr is a terminal.

    repository  such as "openai-community/gpt2"
    revision    a branch, tag or commit; None is the newest
    cache       the hub's cache

    Returns the directory of its files. Raises HubError if the hub cannot be reached, refuses, or has no
    safetensors for this model, and CheckpointError for an index that cannot be used; what has arrived until
    then stays, and the next try goes on from there.
    """
    return _download(repository, revision, cache, _files_of_model)


def download_config(repository: str, revision: str | None, cache: Path) -> Path:
    """Download the config.json of a model, as ``download`` does the whole."""
    return _download(repository, revision, cache, lambda files: [CONFIG_FILE])


def _download(
    repository: str, revision: str | None, cache: Path, choose: "Callable[[_Files], list[str]]"
) -> Path:
    # Imported only now: most runs find their model on disk, and this import costs more than NumPy's.
    from huggingface_hub import HfApi, constants

    from tinystar_np.checkpoints.hub_errors import explain

    endpoint = hub_endpoint()
    try:
        with _quiet_library():
            info = HfApi(endpoint=endpoint).model_info(
                repository,
                revision=revision or "main",
                timeout=constants.HF_HUB_ETAG_TIMEOUT,
                files_metadata=True,
            )
        files = _Files(info, repository, cache, endpoint)
        if CONFIG_FILE not in files.names:
            raise hub_error(
                f"{repository} has no {CONFIG_FILE}.\nIt is not a model in the format of transformers."
            )
        return files.fetch(choose(files), revision)
    except TinyStarError:
        raise
    except Exception as error:
        # "from None": a traceback of the library's errors may quote the access token.
        raise hub_error(explain(error, repository, revision, host_of(endpoint), cache)) from None


class _Files:
    """The files of a repository at one commit.

    info  as the hub's library gives it, with the files' sizes and hashes
    """

    def __init__(self, info: Any, repository: str, cache: Path, endpoint: str) -> None:
        self.repository = repository
        self.commit = str(info.sha)
        self._on_hub = {file.rfilename: file for file in info.siblings or []}
        self._cache = cache
        self._endpoint = endpoint

    @property
    def names(self) -> set[str]:
        """The names of all of them."""
        return set(self._on_hub)

    def fetch(self, names: Iterable[str], revision: str | None) -> Path:
        """Fetch some of them into the hub's cache.

        revision  what the cache shall note this commit as; the commit itself for nothing

        Returns their directory.
        """
        from huggingface_hub import hf_hub_url, snapshot_download

        from tinystar_np.checkpoints.hub_file import Announced, fetch_file

        folder = repository_folder(self.repository, self._cache)
        snapshot = folder / "snapshots" / self.commit
        uncheckable = False
        with _quiet_library():
            for name in sorted(names):
                found = self._on_hub[name]
                hash_ = found.lfs.sha256 if found.lfs else found.blob_id
                file = Announced(name, found.size or 0, hash_ or "")
                if (snapshot / name).exists():
                    continue
                if file.is_checkable:
                    url = hf_hub_url(self.repository, name, revision=self.commit, endpoint=self._endpoint)
                    fetch_file(file, url, folder, self._cache / ".locks" / folder.name)
                else:
                    uncheckable = True
        # The links to all of them, and those files that could not be checked.
        with _quiet_library(show_bars=uncheckable):
            directory = Path(
                snapshot_download(
                    self.repository,
                    revision=revision,
                    cache_dir=self._cache,
                    endpoint=self._endpoint,
                    allow_patterns=[glob.escape(name) for name in names],
                )
            )
        mend_links(directory)
        return directory


def _files_of_model(files: _Files) -> list[str]:
    """Choose the files to fetch; raises TinyStarError if they are not a model that can be read."""
    small = small_files(files.names)
    if SINGLE_FILE in files.names:
        return [*small, SINGLE_FILE]
    if INDEX_FILE not in files.names:
        there, what_to_do = instead_of_weights(files.names)
        raise hub_error(f"{files.repository} has {there}.\n{what_to_do}")
    # Noted as no branch's: whoever works offline keeps what the branch was, until all of this has arrived.
    shards = set(read_index(files.fetch([INDEX_FILE], files.commit)).values())
    if absent := sorted(shards - files.names):
        raise hub_error(
            f"{files.repository}: {INDEX_FILE} names {absent[0]}, which the repository does not have.\n"
            "Only the model's authors can mend it: use another model or revision."
        )
    return [*small, INDEX_FILE, *shards]


@contextmanager
def _quiet_library(show_bars: bool = True) -> Iterator[None]:
    """Keep the hub library's warnings off stderr, and progress bars where stderr is no terminal.

    What matters of the warnings becomes our own error message.
    """
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    # A user who sets the library's own variable for this has decided already.
    decided = "HF_HUB_DISABLE_PROGRESS_BARS" in os.environ or are_progress_bars_disabled()
    hide_bars = not decided and not (show_bars and sys.stderr.isatty())
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
