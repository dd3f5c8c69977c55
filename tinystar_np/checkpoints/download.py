"""Fetching a model from the hub: its configuration, safetensors and tokenizer, and nothing else."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tinystar_np.checkpoints.config_file import CONFIG_FILE
from tinystar_np.checkpoints.model_files import PICKLE_ENDINGS, needed_files
from tinystar_np.errors import HubError

SECONDS_TO_ANSWER = 15.0


def download(repository: str, revision: str | None, cache: Path) -> Path:
    """Download a model into the hub's cache, with the hub library's progress bars if stderr is a terminal.

    repository  such as "openai-community/gpt2"
    revision    a branch, tag or commit; None is the newest
    cache       the hub's cache

    Returns the directory of its files. Raises HubError if the hub cannot be reached, refuses, or has no
    safetensors for this model.
    """
    # Imported only now: most runs find their model on disk, and this import costs more than NumPy's.
    from huggingface_hub import HfApi, snapshot_download

    from tinystar_np.checkpoints.hub_errors import explain

    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    host = urlsplit(endpoint).netloc.rpartition("@")[2] or endpoint  # without a password
    try:
        with quiet_library():
            api = HfApi(endpoint=endpoint)
            info = api.model_info(repository, revision=revision or "main", timeout=SECONDS_TO_ANSWER)
            names = _names_to_fetch([file.rfilename for file in info.siblings or []], repository)
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
        raise HubError(explain(error, repository, revision, host, cache)) from None


def _names_to_fetch(names: list[str], repository: str) -> list[str]:
    """Choose the files to fetch; raises HubError if they are not a model that can be read."""
    needed = needed_files(names)
    if CONFIG_FILE not in needed:
        raise HubError(
            f"{repository} has no {CONFIG_FILE}.\nIt is not a model in the format of transformers."
        )
    if not any(name.endswith(".safetensors") for name in needed):
        pickles = [name for name in names if name.endswith(PICKLE_ENDINGS)]
        found = f", only {pickles[0]}, which is not opened: it can run code" if pickles else ""
        raise HubError(
            f"{repository} has no safetensors{found}.\n"
            "Use a model that has them, or convert it with transformers' from_pretrained and save_pretrained."
        )
    return needed


@contextmanager
def quiet_library() -> Iterator[None]:
    """Keep the hub library's warnings off stderr, and its progress bars where stderr is no terminal.

    What matters of the warnings becomes our own error message.
    """
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    # A user who sets the library's own variable for this has decided already.
    decided = "HF_HUB_DISABLE_PROGRESS_BARS" in os.environ or are_progress_bars_disabled()
    hide_bars = not decided and not sys.stderr.isatty()
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
