"""Messages of a conversation that are not typed line by line: from files, and from the user's own editor."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from tinystar_np.cli.streams import read_text
from tinystar_np.errors import InputError

EDITORS = ("VISUAL", "EDITOR")
USUAL_EDITOR = "vi"


def read_file(path: Path) -> str:
    """Return a file's text; raises InputError where it is missing, too long or not UTF-8."""
    if not path.is_file():  # a pipe or a device may never end
        raise InputError(f"{path}: there is no such file, or it is none with a text.")
    try:
        with path.open("rb") as file:
            return read_text(file.read, str(path), on="").rstrip("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error


def edited(text: str) -> str:
    """Let the user write a text in the editor that VISUAL or EDITOR names; returns it.

    text  to begin with

    Raises InputError where there is no such editor, or it ends with an error: then nothing is sent.
    """
    editor = next(filter(None, map(os.environ.get, EDITORS)), USUAL_EDITOR)
    with tempfile.TemporaryDirectory(prefix="tinystar-") as directory:  # which only the user may read
        path = Path(directory) / "message.txt"
        path.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run([*shlex.split(editor), str(path)], check=False)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InputError(f"The editor {editor!r} cannot be started ({reason}). Set EDITOR.") from None
        if done.returncode:
            raise InputError(f"The editor ended with code {done.returncode}: nothing is sent.")
        return read_file(path).strip("\n")
