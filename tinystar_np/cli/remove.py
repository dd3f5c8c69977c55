"""Remove from this disk: models of the hub's cache, parts of broken downloads, what was typed in chat.

`tinystar models` lists what there is. Models can be downloaded again.
"""

import argparse
import sys
from pathlib import Path

from tinystar_np.checkpoints.remove_models import Kept, find_kept, partial_downloads, remove
from tinystar_np.cli.chat_history import history_file
from tinystar_np.cli.model_argument import completed
from tinystar_np.cli.streams import FAILURE, OK, say, tell
from tinystar_np.cli.terminal import UsageError, add_cache_argument, add_common_arguments
from tinystar_np.cli.visible import visible
from tinystar_np.cli.wording import size_of

EPILOG = """examples:
  {command} HuggingFaceTB/SmolLM2-135M-Instruct
  {command} --partial --history

All revisions of a model go. At a terminal it is asked first; elsewhere --yes is needed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    words = "of the hub's cache, by its name"
    completed(parser.add_argument("models", nargs="*", metavar="MODEL", help=words))
    option = parser.add_argument(
        "-m", "--model", dest="more", action="append", default=[], metavar="MODEL", help="the same"
    )
    completed(option)
    parser.add_argument("--partial", action="store_true", help="parts of broken downloads, of all models")
    parser.add_argument("--history", action="store_true", help="what was typed in `tinystar chat`")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add_cache_argument(parser)
    add_common_arguments(parser)
    parser.set_defaults(command=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    names = dict.fromkeys([*arguments.models, *arguments.more])
    if not (names or arguments.partial or arguments.history):
        raise UsageError("Nothing to remove is named. `tinystar models` lists what there is.")
    found = [find_kept(name, arguments.cache_dir) for name in names]
    if arguments.partial:
        found += partial_downloads(arguments.cache_dir)
    history = kept_history() if arguments.history else None
    if not found and history is None:
        say("There is nothing to remove.")
        return OK
    for kept in found:
        say(_line(kept))
    if history is not None:
        say(visible(f"what was typed in chat  {size_of(history.stat().st_size)}  {history}"))
    if not arguments.yes and not _agreed():
        return FAILURE
    for kept in found:
        remove(kept, arguments.cache_dir)
    freed = sum(kept.nbytes for kept in found)
    if history is not None:
        freed += history.stat().st_size
        history.unlink()
    say(f"Removed: {size_of(freed)}.")
    return OK


def kept_history() -> Path | None:
    """Return the file of what was typed in chat, if it is there."""
    path = history_file()
    return path if path is not None and path.is_file() else None


def _line(kept: Kept) -> str:
    what = ", parts of a broken download" if kept.partial else ""
    return visible(f"{kept.name}  {size_of(kept.nbytes)}{what}  {kept.folder}")


def _agreed() -> bool:
    """Ask at a terminal; elsewhere --yes is wanted."""
    if not sys.stdin.isatty():
        raise UsageError("Nothing was removed: add --yes, as there is no terminal to ask at.")
    tell("Remove? [y/N] ", end="")
    try:
        return input().strip().lower() in ("y", "yes")
    except EOFError:
        return False
