"""From a model's name to the directory of its config.json, without its weights where they are not here.

``find_model`` looks first, so that a model that is on this disk is the one that would be run. What is left
is a model of the hub: of it one small file is fetched, into the hub's cache.
"""

import os
from pathlib import Path

from tinystar_np.checkpoints.config_file import CONFIG_FILE
from tinystar_np.checkpoints.hub import NAME, OWNERS, find_model, offline_by_environment
from tinystar_np.checkpoints.hub_address import hub_error
from tinystar_np.checkpoints.hub_cache import find_snapshot, hub_cache_directory
from tinystar_np.errors import HubError


def find_config(
    name: str, *, revision: str | None = None, offline: bool = False, cache_dir: str | Path | None = None
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
        raise hub_error(
            f"{name}: its {CONFIG_FILE} is not on this machine, and offline mode forbids to fetch it.\n"
            f"Fetch it once without --offline and HF_HUB_OFFLINE. Looked in {cache}."
        )
    # Imported late, as it leads to the hub's library.
    from tinystar_np.checkpoints.download import download_config

    return download_config(owned, revision, cache)
