"""From a model's name to the directory of its config.json, without its weights where they are not here.

``find_model`` looks first, so that a model that is on this disk is the one that would be run. What is left
is a model of the hub: of it one small file is fetched, into the hub's cache.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

from tinystar_np.checkpoints.config_file import CONFIG_FILE
from tinystar_np.checkpoints.hub import NAME, OWNERS, find_model, offline_by_environment
from tinystar_np.checkpoints.hub_cache import find_snapshot, hub_cache_directory
from tinystar_np.errors import HubError


def find_config(
    name: str, *, revision: str | None = None, offline: bool = False, cache_dir: Path | None = None
) -> Path:
    """Find a directory that holds a model's config.json; arguments as for ``find_model``.

    Returns the directory, which holds the weights too where they are on this disk already. Raises HubError
    if there is no such model, or its config.json cannot be fetched.
    """
    try:
        return find_model(name, revision=revision, offline=True, cache_dir=cache_dir)
    except HubError:
        is_path = name.startswith(".") or os.path.exists(os.path.expanduser(name))
        if is_path or not NAME.fullmatch(name) or ".." in name:
            raise  # no model of the hub: there is nothing to fetch
    owned = f"{OWNERS[name]}/{name}" if name in OWNERS else name
    cache = hub_cache_directory(cache_dir)
    for spelling in (name, owned):
        snapshot = find_snapshot(spelling, revision, cache)
        if snapshot is not None and (snapshot / CONFIG_FILE).exists():
            return snapshot
    if offline or offline_by_environment():
        raise HubError(
            f"{name}: its {CONFIG_FILE} is not on this machine, and offline mode forbids to fetch it.\n"
            f"Fetch it once without --offline and HF_HUB_OFFLINE. Looked in {cache}."
        )
    return _fetched(owned, revision, cache)


def _fetched(repository: str, revision: str | None, cache: Path) -> Path:
    # Imported only now, as in download.py: the hub's library is slow to import.
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    from tinystar_np.checkpoints.download import SECONDS_TO_ANSWER, quiet_library
    from tinystar_np.checkpoints.hub_errors import explain

    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    host = urlsplit(endpoint).netloc.rpartition("@")[2] or endpoint  # without a password
    try:
        with quiet_library():
            # Asked first: this gives up at once where there is no hub, a download tries for 20 seconds.
            HfApi(endpoint=endpoint).model_info(
                repository, revision=revision or "main", timeout=SECONDS_TO_ANSWER
            )
            path = hf_hub_download(
                repository,
                CONFIG_FILE,
                revision=revision,
                cache_dir=cache,
                endpoint=endpoint,
                etag_timeout=SECONDS_TO_ANSWER,
            )
    except Exception as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise HubError(
                f"{repository} has no {CONFIG_FILE}.\nIt is not a model in the format of transformers."
            ) from None
        raise HubError(explain(error, repository, revision, host, cache)) from None
    return Path(path).parent
