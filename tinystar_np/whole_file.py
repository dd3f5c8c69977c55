"""Atomic writing: files and directories that are written completely or not at all.

A disk may fill up, a person may press Ctrl-C, another program may be reading: a file that is overwritten is
incomplete for a while, and stays so if writing fails. So the bytes go into a new file beside it, which is
renamed at the end. Renaming within a directory is one step: opening the name gives the old file or the new
one, and a process that has the old one open (or mapped into memory) keeps it.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from stat import S_IMODE
from typing import BinaryIO

from tinystar_np.errors import CheckpointError, TinyStarError

UNFINISHED = ".part"
NAME = 50  # characters of a file's name, which may have 255 bytes, that go into the unfinished file's


@contextmanager
def whole_file(path: Path, error: type[TinyStarError] = CheckpointError) -> Iterator[BinaryIO]:
    """Open a file to write, which replaces ``path`` when the block ends, and not before.

        with whole_file(path) as file:
            file.write(...)

    path   a regular file or none; its permissions stay. A link is replaced, not its target.
    error  the class of error where the file cannot be written

    If the block ends in an exception, Ctrl-C included, ``path`` is unchanged and nothing is left beside it.
    Raises ``error``, which names the file and the reason, for every OSError, those of the block included.
    """
    partial = path.parent / f".{path.name[:NAME]}.{token_hex(4)}{UNFINISHED}"
    try:
        with _created(partial, path) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # some disks say only now that they are full
        partial.replace(path)
    except OSError as problem:
        there = " The file that was there is unchanged." if os.path.isfile(path) else ""
        raise error(f"{path}: cannot be written ({problem.strerror or problem}).{there}") from problem
    finally:
        with suppress(OSError, ValueError):
            partial.unlink()  # it is gone already where all went well


def _created(partial: Path, path: Path) -> BinaryIO:
    """Open the new file, with the permissions of the old one if there is one."""
    try:
        old = path.stat() if path.exists() else None
        if old and not path.is_file():
            raise OSError("it is a directory" if path.is_dir() else "it is no ordinary file")
        if old and not os.access(path, os.W_OK):
            raise OSError("it is read-only")
        file = partial.open("xb")
    except ValueError as problem:  # a name with NUL, or with half of a surrogate pair
        raise OSError("no file can have this name") from problem
    if old:
        with suppress(OSError, NotImplementedError):  # not every file system has permissions
            partial.chmod(S_IMODE(old.st_mode))
    return file


@contextmanager
def whole_directory(path: Path, last: str) -> Iterator[Path]:
    """Give a directory to write into, whose files are moved to ``path`` when the block ends, and not before.

    path  new, or an empty directory
    last  name of the file that is moved last, without which the others are of no use

    If the block ends in an exception, Ctrl-C included, ``path`` is unchanged. Raises CheckpointError where
    ``path`` is anything else or cannot be written, and for OSErrors of the block.
    """
    unfinished = path / f".{token_hex(4)}{UNFINISHED}"
    made = False
    try:
        made = not path.exists()
        if not made and (not path.is_dir() or any(path.iterdir())):
            what = "is not empty" if path.is_dir() else "is no directory"
            raise CheckpointError(
                f"{path}: {what}.\nGive a new or an empty directory: nothing is overwritten."
            )
        path.mkdir(parents=True, exist_ok=True)
        unfinished.mkdir()
        yield unfinished
        for file in sorted(unfinished.iterdir(), key=lambda file: file.name == last):
            file.rename(path / file.name)
    except OSError as problem:
        raise CheckpointError(f"{path}: cannot be written ({problem.strerror or problem}).") from problem
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if made:
            with suppress(OSError):  # not empty: all went well
                path.rmdir()
