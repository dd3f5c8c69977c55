"""Fetching a model from the hub: its configuration, safetensors and tokenizer, and nothing else."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tinystar_np.checkpoints.config_file import CONFIG_FILE
from tinystar_np.checkpoints.hub_address import host_of, hub_endpoint, hub_error
from tinystar_np.checkpoints.hub_cache import repository_folder
from tinystar_np.checkpoints.model_files import PICKLE_ENDINGS, needed_files
from tinystar_np.errors import HubError


def download(repository: str, revision: str | None, cache: Path) -> Path:
    """Download a model into the hub's cache, with the hub library's progress bars if stderr is a terminal.

    repository  such as "openai-community/gpt2"
    revision    a branch, tag or commit; None is the newest
    cache       the hub's cache

    Returns the directory of its files. Raises HubError if the hub cannot be reached, refuses, or has no
    safetensors for this model; what has arrived until then stays, and the next try goes on from there.
    """
    return _download(repository, revision, cache, _files_of_model)


def download_config(repository: str, revision: str | None, cache: Path) -> Path:
    """Download the config.json of a model, as ``download`` does the whole."""
    return _download(repository, revision, cache, _config_alone)


def _download(
    repository: str, revision: str | None, cache: Path, choose: Callable[[list[str], str], list[str]]
) -> Path:
    # Imported only now: most runs find their model on disk, and this import costs more than NumPy's.
    from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download

    from tinystar_np.checkpoints.hub_errors import explain
    from tinystar_np.checkpoints.hub_file import Announced, fetch_file

    endpoint = hub_endpoint()
    try:
        with _quiet_library():
            info = HfApi(endpoint=endpoint).model_info(
                repository,
                revision=revision or "main",
                timeout=constants.HF_HUB_ETAG_TIMEOUT,
                files_metadata=True,
            )
            on_hub = {file.rfilename: file for file in info.siblings or []}
            names = choose(list(on_hub), repository)
            folder = repository_folder(repository, cache)
            left = []
            for name in names:
                found = on_hub[name]
                hash_ = found.lfs.sha256 if found.lfs else found.blob_id
                file = Announced(name, found.size or 0, hash_ or "")
                if (folder / "snapshots" / str(info.sha) / name).exists():
                    continue
                if file.is_checkable:
                    url = hf_hub_url(repository, name, revision=info.sha, endpoint=endpoint)
                    fetch_file(file, url, folder, cache / ".locks" / folder.name)
                else:
                    left.append(name)
        # The links to all of them, and those files that could not be checked.
        with _quiet_library(show_bars=bool(left)):
            return Path(
                snapshot_download(
                    repository,
                    revision=revision,
                    cache_dir=cache,
                    endpoint=endpoint,
                    allow_patterns=names,
                )
            )
    except HubError:
        raise
    except Exception as error:
        # "from None": a traceback of the library's errors may quote the access token.
        raise hub_error(explain(error, repository, revision, host_of(endpoint), cache)) from None


def _files_of_model(names: list[str], repository: str) -> list[str]:
    """Choose the files to fetch; raises HubError if they are not a model that can be read."""
    needed = needed_files(names)
    _config_alone(names, repository)
    if not any(name.endswith(".safetensors") for name in needed):
        pickles = [name for name in names if name.endswith(PICKLE_ENDINGS)]
        found = f", only {pickles[0]}, which is not opened: it can run code" if pickles else ""
        raise hub_error(
            f"{repository} has no safetensors{found}.\n"
            "Use a model that has them, or convert it with transformers' from_pretrained and save_pretrained."
        )
    return needed


def _config_alone(names: list[str], repository: str) -> list[str]:
    if CONFIG_FILE not in names:
        raise hub_error(
            f"{repository} has no {CONFIG_FILE}.\nIt is not a model in the format of transformers."
        )
    return [CONFIG_FILE]


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
