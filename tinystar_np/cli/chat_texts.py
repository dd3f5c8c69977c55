"""Messages of a conversation that are not typed line by line: from files, and from the user's own editor."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from tinystar_np.cli.streams import file_text
from tinystar_np.errors import InputError

EDITORS = ("VISUAL", "EDITOR")
USUAL_EDITOR = "vi"


def read_file(path: Path) -> str:
    """Return a file's text without the line ends after it; raises InputError as ``file_text`` does."""
    return file_text(path).rstrip("\n")


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
