"""A check that a model's files are in its own directory: no name or link may lead elsewhere.

A model directory is untrusted. A file name or a symbolic link in it could point at any file of this machine,
so every file of a model is looked up here first.
"""

import os
from pathlib import Path

from tinystar_np.checkpoints.json_file import one_line
from tinystar_np.errors import CheckpointError


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
        if not any(target.is_relative_to(place) for place in _allowed_places(directory)):
            problem = (
                f"leads out of the model's directory, to {one_line(target)}.\n"
                "Copy that file into the directory if you trust it."
            )
        elif not target.is_file():
            problem = (
                "is not a regular file.\n"
                "A directory, pipe or device stands where the model's file should be: download it again."
            )
        else:
            return path
    raise CheckpointError(f"{directory / one_line(name)}: {problem}")


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
