"""GGUF files in the hub's cache: which of a repository's are here, and under which names they are asked for.

    models--owner--model-GGUF/snapshots/<commit>/Model-Q4_K_M.gguf        a link to the file's content
    models--owner--model-GGUF/trees/<commit>.json                         the names of all files, if known

A type is looked for among all names, so that it means the same file here and at the hub.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.gguf_choice import choose, gguf_labels, has_gguf_alone, parts_of
from tinystar_np.checkpoints.json_file import one_line, read_json_object
from tinystar_np.checkpoints.model_files import GGUF
from tinystar_np.errors import CheckpointError, HubError

LONGEST_NAME = 255  # of a file or folder
FOLDERS_LIMIT = 1000  # of a snapshot that are looked through: a link could lead to a whole disk


def find_gguf(directory: Path, repository: str, wanted: str | None) -> Path | None:
    """Find a GGUF file of a repository, with all its parts.

    directory   a snapshot in the hub's cache, or a directory with a copy of the repository
    repository  for error messages
    wanted      a type, or another part of the file's name; None where no type was asked for

    Returns the file, of several parts the first; None if it is not here as a whole, or not exactly one is
    meant, or no type is asked for and the repository has safetensors. Raises CheckpointError if it leads out
    of the cache.
    """
    here = _files_in(directory)
    names = {*here, *(known_files(directory) or ())}
    if wanted is None and not has_gguf_alone(names):
        return None
    try:
        chosen = choose(repository, names, wanted)
    except HubError:
        return None
    return _checked(directory, chosen) if _is_whole(chosen, here) else None


def list_gguf(directory: Path) -> Iterator[tuple[str | None, Path]]:
    """Yield each GGUF model that is here as a whole, after what to ask for; None if only its path will do."""
    here = _files_in(directory)
    for model, label in gguf_labels({*here, *(known_files(directory) or ())}).items():
        if _is_whole(model, here):
            with suppress(CheckpointError):  # where it leads out of the cache
                yield label, _checked(directory, model)


def known_files(snapshot: Path) -> list[str] | None:
    """List the names of all files that a snapshot's repository has; None if the cache does not know them."""
    try:
        files = read_json_object(snapshot.parent.parent / "trees" / f"{snapshot.name}.json").get("files")
    except CheckpointError:
        return None
    if not isinstance(files, dict):  # of unknown form
        return None
    return [name for name in files if max(map(len, name.split("/"))) <= LONGEST_NAME]


def why_not_here(snapshots: Iterable[Path], repository: str, wanted: str | None) -> str:
    """Return what to ask for in place of a GGUF file that is not here; "" if there is none.

    Arguments are as in ``find_gguf``. Raises HubError if the repository has no such file at all.
    """
    for snapshot in snapshots:
        known = known_files(snapshot) or []
        if has_gguf_alone(known) if wanted is None else known:
            choose(repository, known, wanted)
        if here := [f"{repository}:{label}" if label else str(path) for label, path in list_gguf(snapshot)]:
            return " or ".join(map(one_line, here[:4]))
    return ""


def _files_in(directory: Path) -> set[str]:
    """Return the names of the GGUF files in a directory and its folders, links to folders aside."""
    return {
        Path(folder, name).relative_to(directory).as_posix()
        for folder, _, names in islice(os.walk(directory), FOLDERS_LIMIT)
        for name in names
        if name.endswith(GGUF) and os.path.isfile(os.path.join(folder, name))
    }


def _is_whole(model: str, here: set[str]) -> bool:
    return all(part in here for part in parts_of(model))


def _checked(directory: Path, model: str) -> Path:
    """Check that no part of a model leads out, and return the first."""
    first, *_ = [file_inside(directory, part) for part in parts_of(model)]
    return first
