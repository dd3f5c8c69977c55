"""Names of files as they are typed in a conversation, or dropped onto the terminal, which quotes them."""

import os
import shlex
from pathlib import Path


def path_of(typed: str) -> Path:
    """Return the path that was typed: it may have blanks, begin with ~, or be quoted as for a shell."""
    path = Path(typed).expanduser()
    quoted = typed[:1] in "\"'" or ("\\" in typed and os.name != "nt")  # there it stands between folders
    if quoted and not path.exists():
        try:
            words = shlex.split(typed)
        except ValueError:  # a quotation mark that is part of the name
            words = []
        if len(words) == 1:
            return Path(words[0]).expanduser()
    return path


def completions_of(typed: str) -> list[str]:
    """Return how what was typed of a path may go on, each without what stands before its last blank."""
    name = typed.rpartition("/")[2]
    folder = typed[: len(typed) - len(name)]
    try:
        names = sorted(path.name for path in Path(folder).expanduser().iterdir())
    except OSError:
        return []
    kept = typed.rfind(" ") + 1
    return [(folder + other)[kept:] for other in names if other.startswith(name)]
