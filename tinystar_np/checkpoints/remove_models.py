"""What is kept on this disk and may be removed: models in the hub's cache, and parts of broken downloads.

What ships with packages is removed with the package. The cache is emptied by the hub's own library, which
knows what its repositories share.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tinystar_np.checkpoints.hub import OLD_NAMES, hub_cache_directory, model_folders, repository_folder
from tinystar_np.checkpoints.installed import find_installed
from tinystar_np.errors import HubError

PARTIAL = "*.incomplete"


@dataclass(frozen=True)
class Kept:
    """Something on this disk that can be removed.

    name     of the model
    folder   what is removed
    nbytes   what that frees
    partial  whether these are parts of broken downloads only
    """

    name: str
    folder: Path
    nbytes: int
    partial: bool = False


def partial_downloads(cache_dir: str | Path | None = None) -> list[Kept]:
    """List the models of which parts of broken downloads are kept, from which the next try goes on."""
    found = []
    for folder in sorted(hub_cache_directory(cache_dir).glob("models--*")):
        parts = _regular((folder / "blobs").glob(PARTIAL))
        if parts:
            nbytes = sum(part.lstat().st_size for part in parts)
            found.append(Kept(_name_of(folder), folder, nbytes, partial=True))
    return found


def find_kept(name: str, cache_dir: str | Path | None = None) -> Kept:
    """Find a model of the hub's cache, all its revisions together, or one in a folder weights_cache.

    Raises HubError where there is none, or it is part of a package.
    """
    spellings = next((list(pair) for pair in OLD_NAMES.items() if name in pair), [name])
    plain = all(part not in ("", ".", "..") for part in name.split("/")) and name.count("/") <= 1
    for spelling in spellings if plain else ():
        folder = repository_folder(spelling, hub_cache_directory(cache_dir))
        if folder.is_dir():
            return Kept(spelling, folder, _size(folder))
        for place, called in model_folders().items():
            if (place / spelling).is_dir():
                if called == "shipped":
                    raise HubError(f"{name} is part of this package, and goes with it.")
                return Kept(spelling, place / spelling, _size(place / spelling))
    if (path := find_installed(name)) is not None:
        raise HubError(f"{name} is part of an installed package, and goes with it (pip uninstall): {path}")
    raise HubError(f"{name} is not kept on this disk, or not as something that can be removed by name.")


def remove(kept: Kept, cache_dir: str | Path | None = None) -> None:
    """Remove a model, or the parts of its broken downloads; links are removed, never followed.

    Raises HubError where that is not allowed.
    """
    try:
        if kept.partial:
            for part in _regular((kept.folder / "blobs").glob(PARTIAL)):
                part.unlink(missing_ok=True)
        elif not _removed_by_library(kept.folder, hub_cache_directory(cache_dir)):
            if kept.folder.is_symlink():
                kept.folder.unlink()
            else:
                shutil.rmtree(kept.folder)
    except OSError as error:
        raise HubError(f"{kept.folder}: cannot be removed ({error.strerror}).") from error


def _removed_by_library(folder: Path, cache: Path) -> bool:
    """Have the hub's library remove a model; False where it does not know that one."""
    if folder.parent != cache or folder.is_symlink():
        return False
    from huggingface_hub import scan_cache_dir  # late: its import takes longer than NumPy's

    whole = scan_cache_dir(cache)
    for repository in whole.repos:
        if repository.repo_path == folder:
            commits = [revision.commit_hash for revision in repository.revisions]
            # A copy of a repository has the same commits: the library is shown no other.
            alone = replace(whole, repos=frozenset([repository]))
            alone.delete_revisions(*commits).execute()
            return not folder.exists()
    return False


def _name_of(folder: Path) -> str:
    return folder.name.removeprefix("models--").replace("--", "/")


def _regular(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
