"""What a person has typed, over sessions: for the arrow keys of the next conversation.

One JSON string a line, as a message may have several lines. Only the user may read the file (0600): messages
are private. TINYSTAR_NP_HISTORY names another file, or is "off": then nothing is kept.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

SETTING = "TINYSTAR_NP_HISTORY"
OFF = "off"
MOST = 1000  # entries that are read; the file is cut to them once it has twice as many
LONGEST = 100_000  # characters of an entry


def history_file() -> Path | None:
    """Return the file of the history; None where it is switched off, or nobody's home is known."""
    named = os.environ.get(SETTING)
    if named is not None:
        return None if named in ("", OFF) else Path(named).expanduser()
    state = os.environ.get("XDG_STATE_HOME", "")
    with suppress(RuntimeError):
        home = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
        return home / "tinystar_np" / "chat_history"
    return None


class History:
    """The entries of a file, and those that are added.

    path  the file; None to keep nothing

    problem  why the file cannot be used, None where it can; then ``path`` may be set to None
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.problem: str | None = None
        self.entries: list[str] = []
        if path is None or not path.exists():
            return
        try:
            self.entries = _entries(path)
            if len(self.entries) > 2 * MOST:
                self._rewrite(path)
            self.entries = self.entries[-MOST:]
        except OSError as error:
            self.problem = str(error.strerror)

    def add(self, entry: str) -> None:
        """Keep an entry, unless it is the last one again."""
        if self.entries[-1:] == [entry] or len(entry) > LONGEST:
            return
        self.entries.append(entry)
        if self.path is None or self.problem:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _opened(self.path, os.O_APPEND) as file:
                file.writelines([f"{json.dumps(entry)}\n"])
        except OSError as error:
            self.problem = str(error.strerror)

    def _rewrite(self, path: Path) -> None:
        new = path.with_name(f"{path.name}.new")
        with _opened(new, os.O_TRUNC) as file:
            file.writelines(f"{json.dumps(entry)}\n" for entry in self.entries[-MOST:])
        new.replace(path)


def _opened(path: Path, how: int) -> TextIO:
    """Open a file to write that nobody else may read, whatever it was."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
    if hasattr(os, "fchmod"):
        os.fchmod(number, 0o600)
    return open(number, "w", encoding="utf-8")


def _entries(path: Path) -> list[str]:
    """Read the entries; lines that are none are passed over."""
    found = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with suppress(ValueError):
                entry = json.loads(line[: 6 * LONGEST + 2])
                if isinstance(entry, str) and entry:
                    found.append(entry)
    return found
