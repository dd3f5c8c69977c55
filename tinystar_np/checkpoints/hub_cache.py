"""The hub's cache on this disk, read without the hub's library.

Importing huggingface_hub takes longer than importing NumPy, for what is a look at four directories:

    models--openai-community--gpt2/refs/main            a text file: the commit that "main" was last time
    models--openai-community--gpt2/snapshots/<commit>/  the files of that commit, as links
    models--openai-community--gpt2/blobs/               their contents
    models--openai-community--gpt2/trees/<commit>.json  names of all files of that commit (newer caches)

Documented at https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from tinystar_np.checkpoints.json_file import read_json_object
from tinystar_np.checkpoints.model_files import has_model, has_tokenizer, small_files
from tinystar_np.errors import CheckpointError

FULL_COMMIT = re.compile(r"[0-9a-f]{40}")
SHORT_COMMIT = re.compile(r"[0-9a-f]{7,39}")


def hub_cache_directory(cache_dir: str | Path | None = None) -> Path:
    """Find the hub's cache: the argument, or what the environment says, by the hub library's own rules."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser().absolute()
    setting = os.environ.get
    home = setting("HF_HOME") or os.path.join(setting("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    cache = setting("HF_HUB_CACHE") or setting("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(cache)).expanduser().absolute()


def find_snapshot(repository: str, revision: str | None, cache: Path) -> Path | None:
    """Find the directory of a repository's files at one revision.

    repository  such as "openai-community/gpt2"
    revision    a branch, tag, full commit or beginning of one; None is "main"
    cache       the hub's cache

    Returns the directory, which may lack files, or None.
    """
    folder = repository_folder(repository, cache)
    commit = revision or "main"
    if ".." in commit or commit.startswith("/"):
        return None  # no name in git, but a way out of the cache
    if not FULL_COMMIT.fullmatch(commit):
        try:
            commit = (folder / "refs" / commit).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            commit = _commit_beginning_with(commit, folder)
        if not FULL_COMMIT.fullmatch(commit):
            return None
    snapshot = folder / "snapshots" / commit
    if not os.path.isdir(snapshot):
        return None
    mend_links(snapshot)
    return snapshot


def mend_links(snapshot: Path) -> None:
    """Let a snapshot's links lead to their contents again where the user has moved ``snapshots`` elsewhere.

    The library's links are ../../blobs/<hash>, which goes up from where the snapshot really lies. Others are
    left as they are.
    """
    with suppress(OSError):  # in a cache that only others may write, they stay so
        for path in snapshot.iterdir():
            if path.is_symlink() and not path.exists():
                target = Path(os.readlink(path))
                content = snapshot.parent.parent / "blobs" / target.name
                if target == Path("../../blobs", target.name) and content.exists():
                    path.unlink()
                    path.symlink_to(content.resolve())


def _commit_beginning_with(digits: str, folder: Path) -> str:
    """Find the only commit of a repository on this disk that begins so, or return ""."""
    if not SHORT_COMMIT.fullmatch(digits):
        return ""
    found = [path.name for path in (folder / "snapshots").glob(f"{digits}*")]
    return found[0] if len(found) == 1 else ""


def repository_folder(repository: str, cache: Path) -> Path:
    """Name the directory that the cache keeps a repository in."""
    return cache / f"models--{repository.replace('/', '--')}"


def commits_on_disk(repository: str, cache: Path) -> list[str]:
    """List the commits of which a whole model is here, whatever they are called."""
    snapshots = (repository_folder(repository, cache) / "snapshots").glob("*")
    return sorted(snapshot.name for snapshot in snapshots if has_model(snapshot))


def has_part(repository: str, cache: Path) -> bool:
    """Tell whether a download of a repository has begun that never came to a whole model."""
    begun = any((repository_folder(repository, cache) / "blobs").glob("*"))
    return begun and not commits_on_disk(repository, cache)


def is_complete(snapshot: Path) -> bool:
    """Tell whether a snapshot holds all of a model that its repository has.

    config.json and the weights must be there, and each small file of the repository where the list of its
    files is on disk. Otherwise a tokenizer must.
    """
    if not has_model(snapshot):
        return False
    listing = snapshot.parent.parent / "trees" / f"{snapshot.name}.json"
    try:
        needed = small_files(read_json_object(listing)["files"])
    except (CheckpointError, KeyError, TypeError):  # no list, or not one of the form we know
        return has_tokenizer(snapshot)
    return all((snapshot / name).exists() for name in needed)
