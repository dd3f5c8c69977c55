"""From a model's name to the directory of its files, looking at the nearest places first.

1. a directory of this machine
2. the models shipped in this package
3. weights_cache/ beside the package and in the current directory
4. the hub's cache, which transformers shares
5. the hub
"""

import os
import re
from pathlib import Path

from tinystar_np.checkpoints.config_file import CONFIG_FILE
from tinystar_np.checkpoints.hub_address import hub_error
from tinystar_np.checkpoints.hub_cache import (
    commits_on_disk,
    find_snapshot,
    has_part,
    hub_cache_directory,
    is_complete,
)
from tinystar_np.checkpoints.model_files import has_model
from tinystar_np.errors import HubError

PACKAGE = Path(__file__).parent.parent

NAME = re.compile(r"[A-Za-z0-9_.-]{1,96}(/[A-Za-z0-9_.-]{1,96})?")

# The hub's first models had no owner's name before theirs. Both spellings are still in use, and in caches.
OWNERS = {
    "gpt2": "openai-community",
    "gpt2-medium": "openai-community",
    "gpt2-large": "openai-community",
    "gpt2-xl": "openai-community",
    "distilgpt2": "distilbert",
}


def find_model(
    name: str, *, revision: str | None = None, offline: bool = False, cache_dir: str | Path | None = None
) -> Path:
    """Find the directory that holds a model's config.json and weights, downloading it if need be.

    name       a directory, a shipped model such as "stories", or a model of the hub
    revision   a branch, tag or commit (or its first 7 digits) of a model of the hub; the newest if None
    offline    never ask the network (the environment's HF_HUB_OFFLINE=1 says the same)
    cache_dir  the hub's cache, in place of the usual one

    Returns the directory. Raises HubError if there is no such model here, or it cannot be fetched.
    """
    # os.path, as Path's own tests raise on names too long or with an unknown ~user.
    path = os.path.expanduser(name)
    if _looks_like_path(name) or os.path.exists(path):
        return _checked_directory(path, revision)
    _check_name(name)
    spellings = _spellings(name)
    if revision is None:
        for folder in model_folders():
            for spelling in spellings:
                if (folder / spelling / CONFIG_FILE).exists():
                    return folder / spelling

    cache = hub_cache_directory(cache_dir)
    snapshots = [find_snapshot(spelling, revision, cache) for spelling in spellings]
    on_disk = [snapshot for snapshot in snapshots if snapshot is not None]
    for snapshot in on_disk:
        if is_complete(snapshot):
            return snapshot
    # Not all that the hub may have, but enough to compute with if the hub cannot be asked.
    usable = next((snapshot for snapshot in on_disk if has_model(snapshot)), None)

    if offline or offline_by_environment():
        if usable is not None:
            return usable
        raise _not_on_disk(name, spellings, revision, cache, begun=bool(on_disk))
    # Imported late, as it leads to the hub's library.
    from tinystar_np.checkpoints.download import download

    try:
        return download(spellings[-1], revision, cache)
    except HubError:
        if usable is not None:
            return usable
        raise


def _not_on_disk(name: str, spellings: list[str], revision: str | None, cache: Path, begun: bool) -> HubError:
    """Make the error for a model that is not here and may not be fetched."""
    begun = begun or any(has_part(spelling, cache) for spelling in spellings)
    part = "only a part of it is" if begun else "it is not"
    wanted = name if revision is None else f"{name} at revision {revision!r}"
    fetch = f"Fetch it once without --offline and HF_HUB_OFFLINE. Looked in {cache}."
    if others := [commit[:12] for spelling in spellings for commit in commits_on_disk(spelling, cache)]:
        here = " or ".join(others[:4])
        fetch = f"Ask for revision {here}, which is here, or fetch it once without offline mode."
    return hub_error(f"{wanted}: {part} on this machine, and offline mode forbids to fetch it.\n{fetch}")


def _looks_like_path(name: str) -> bool:
    """Tell a path from a name of the hub, which has at most one slash and begins with a letter or digit."""
    return name.startswith((".", "/", "~")) or name.replace(os.sep, "/").count("/") >= 2


def _checked_directory(path: str, revision: str | None) -> Path:
    """Return a directory of this machine if it may be a model."""
    if "://" in path:
        raise hub_error(
            f"{path!r} is an address.\n"
            "Give the name of the model alone, owner/model; HF_ENDPOINT says where another hub is."
        )
    if not os.path.exists(path):
        raise hub_error(f"{path!r}: there is no such directory.\nA model of the hub is named owner/model.")
    if not os.path.isdir(path):
        raise hub_error(f"{path!r}: is a file.\nGive the directory that holds {CONFIG_FILE} and the weights.")
    if not os.path.exists(os.path.join(path, CONFIG_FILE)):
        raise hub_error(
            f"{path!r}: this directory has no {CONFIG_FILE}.\n"
            "Give the directory of a model; one of the hub with this name is asked for as owner/model."
        )
    if revision is not None:
        raise hub_error(f"{path!r}: a directory has no revision {revision!r}.\nAsk without a revision.")
    return Path(path)


def _check_name(name: str) -> None:
    """Refuse what cannot be a name before it becomes part of a path or an address."""
    if not NAME.fullmatch(name) or ".." in name:
        raise hub_error(
            f"{name!r} is no name of a model.\n"
            "Give a directory, a shipped model (stories), or one of the hub (openai-community/gpt2)."
        )


def _spellings(name: str) -> list[str]:
    """List the names under which a model may be stored, its present name on the hub last."""
    owner, _, short = name.rpartition("/")
    if owner in ("", OWNERS.get(short)) and short in OWNERS:
        return [short, f"{OWNERS[short]}/{short}"]
    return [name]


def model_folders() -> dict[Path, str]:
    """List the folders whose sub-directories are models, nearest first, and what each is called."""
    return {
        PACKAGE / "shipped": "shipped",
        PACKAGE.parent / "weights_cache": "weights_cache",
        Path.cwd() / "weights_cache": "weights_cache",
    }


def offline_by_environment() -> bool:
    """Read HF_HUB_OFFLINE, and TRANSFORMERS_OFFLINE where that is not set, as the hub's library does."""
    setting = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return setting.upper() in {"1", "ON", "YES", "TRUE"}
