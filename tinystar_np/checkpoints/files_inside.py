"""A check that a model's files are in its own directory: no name or link may lead elsewhere.

A model directory is untrusted. A file name or a symbolic link in it could point at any file of this machine,
so every file of a model is looked up here first. Links that somebody has made in a directory of his own, to
weights on another disk, are followed where he says so (``links_followed``).
"""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from tinystar_np.checkpoints.json_file import one_line
from tinystar_np.errors import CheckpointError

_following: ContextVar[bool] = ContextVar("tinystar_np_following_links", default=False)


@contextmanager
def links_followed() -> Iterator[None]:
    """Let the links in a model's directory lead anywhere inside the ``with`` block.

    What they lead to must be a regular file all the same. Links in the hub's cache are not made by hand, and
    are not followed out of it in any case.
    """
    token = _following.set(True)
    try:
        yield
    finally:
        _following.reset(token)


def are_links_followed() -> bool:
    """Say whether this runs inside ``links_followed``."""
    return _following.get()


def file_inside(directory: Path, name: str) -> Path:
    """Find a model's file and check that it is a regular file inside the model's directory.

    directory  the model's directory
    name       a file name, without separators unless it is the name of a file found there

    Returns directory / name. Raises CheckpointError if the file is missing, is not a regular file, or is
    outside.
    """
    path = directory / name
    try:
        target = path.resolve(strict=True)
    except FileNotFoundError:
        problem = "there is no such file.\nThe model is incomplete: download it again."
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # no permission, links in a circle, a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        problem = f"cannot be opened ({reason}).\nThe model is damaged: download it again."
    else:
        places = _allowed_places(directory)
        in_hub_cache = len(places) > 1
        inside = any(target.is_relative_to(place) for place in places)
        if not inside and (in_hub_cache or not _following.get()):
            what_to_do = "Copy that file into the directory if you trust it."
            if not in_hub_cache:
                what_to_do = _what_to_do(path, target)
            problem = f"leads out of the model's directory, to {one_line(target)}.\n{what_to_do}"
        elif not target.is_file():
            problem = (
                "is not a regular file.\n"
                "A directory, pipe or device stands where the model's file should be: download it again."
            )
        else:
            return path
    raise CheckpointError(f"{directory / one_line(name)}: {problem}")


def _what_to_do(path: Path, target: Path) -> str:
    """Say what somebody does who has made a link out of a model's directory himself."""
    words = "If you made this link: --follow-links, load(…, follow_links=True), follows it for one call"
    try:
        same_disk = target.is_file() and path.lstat().st_dev == target.stat().st_dev
    except OSError:
        same_disk = False
    if same_disk:
        command = f"ln -f {shlex.quote(str(target))} {shlex.quote(str(path))}"
        return f"{words}; {one_line(command)} makes a hard link of it, which is always followed."
    return f"{words}; a hard link, which is always followed, cannot lead to another disk. Or copy that file."


def _allowed_places(directory: Path) -> set[Path]:
    """List the directories that the files of a model may be in after links are resolved.

    The hub's cache keeps each content once, and fills snapshots with links to it:

        models--openai-community--gpt2/snapshots/<commit>/config.json → ../../blobs/<hash>

    Newer versions share blobs between repositories, in a folder beside them: ../../../blobs/<xx>/<hash>. A
    repository controls what is in a snapshot, but nothing outside: where the cache, a model's folder or
    ``blobs`` is a link, the user has moved that to another disk, and it is followed.
    """
    real = directory.resolve()
    places = {real}
    for way in (directory.absolute(), real):  # the user's links in between, and a link to a snapshot itself
        for snapshot in (way, *way.parents):  # or a folder in a snapshot
            repository = snapshot.parent.parent
            if snapshot.parent.name == "snapshots" and repository.name.startswith("models--"):
                blobs = repository / "blobs", repository.parent / "blobs"
                places |= {Path(os.path.realpath(place)) for place in blobs}
    return places
