"""List the models on this disk and the architectures that run, find some by a word, or describe one."""

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from tinystar_np.checkpoints.hub import hub_cache_directory
from tinystar_np.checkpoints.local_models import list_local_models
from tinystar_np.checkpoints.remove_models import partial_downloads
from tinystar_np.cli.nearest import no_such
from tinystar_np.cli.remove import kept_history
from tinystar_np.cli.streams import OK, say
from tinystar_np.cli.terminal import UsageError, add_cache_argument, add_common_arguments
from tinystar_np.cli.wording import size_of
from tinystar_np.models import ARCHITECTURES, EMBEDDING_ARCHITECTURES, VISION_ARCHITECTURES
from tinystar_np.models.facts import docstring, headline, model_file, named_alike
from tinystar_np.models.not_yet import NOT_YET

NAME = 18
"""Columns of a name in the list, at most."""
ALL = sorted({*ARCHITECTURES, *VISION_ARCHITECTURES, *EMBEDDING_ARCHITECTURES})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "about", nargs="*", metavar="WORD",
        help="a model_type, as the list has it: print what it is and where its file is; other words: list "
        "the architectures whose description has them all (`tinystar models experts window`)",
    )  # fmt: skip
    add_cache_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_common_arguments(parser)
    parser.set_defaults(command=models, parser=parser)


def models(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if not arguments.about:
        _list(arguments)
    elif len(arguments.about) == 1 and arguments.about[0] in ALL:
        _describe(arguments.about[0], arguments.json)
    else:
        _search(arguments.about, arguments.json)
    return OK


def _describe(model_type: str, as_json: bool) -> None:
    text, path = docstring(model_type), str(model_file(model_type))
    if as_json:
        say(json.dumps({"model_type": model_type, "file": path, "docstring": text}, indent=2))
    else:
        say(f"{text}\n\n{path}")


def _search(words: Sequence[str], as_json: bool) -> None:
    """List the architectures whose description has all words.

    Raises UsageError where none has, or for a type of transformers that does not run here.
    """
    nearest, why = NOT_YET.get(" ".join(words), ("", ""))
    if nearest:
        raise UsageError(f"{words[0]} does not run here: {why}. The nearest that does is {nearest}.")
    described = {name: f"{name} {docstring(name)}".casefold() for name in ALL}
    found = [name for name, text in described.items() if all(word.casefold() in text for word in words)]
    if not found:
        raise UsageError(no_such("architecture", " ".join(words), ALL))
    if as_json:
        say(json.dumps({"architectures": found}, indent=2))
    else:
        _list_architectures(found)


def _list(arguments: argparse.Namespace) -> None:
    found, cache = list_local_models(arguments.cache_dir), hub_cache_directory(arguments.cache_dir)
    parts = partial_downloads(arguments.cache_dir)
    if arguments.json:
        rows = [asdict(model) | {"path": str(model.path)} for model in found]
        partial = [{"name": part.name, "nbytes": part.nbytes, "folder": str(part.folder)} for part in parts]
        found_here = {
            "architectures": sorted(ARCHITECTURES),
            "with_images": sorted(VISION_ARCHITECTURES),
            "embedding": sorted(EMBEDDING_ARCHITECTURES),
            "models": rows,
            "partial_downloads": partial,
        }
        say(json.dumps({**found_here, "hub_cache": str(cache)}, indent=2))
        return
    names = [*(model.name for model in found), *(part.name for part in parts)]
    width = max(map(len, names), default=0)
    for model in found:
        revision = f" @ {model.revision}" if model.revision else ""
        say(f"{model.name:{width}}  {model.nbytes / 1e6:9.1f} MB  {model.place}{revision}")
    for part in parts:
        say(f"{part.name:{width}}  {part.nbytes / 1e6:9.1f} MB  parts of a broken download")
    paths = {model.path: model.nbytes for model in found if model.place == "hub cache"}
    together = sum(paths.values()) + sum(part.nbytes for part in parts)
    if together:
        say(f"\nThe hub's cache has {size_of(together)}: {cache}")
        say("`tinystar remove MODEL` removes a model, `tinystar remove --partial` broken downloads.")
    if history := kept_history():
        say(f"\nWhat was typed in chat: {size_of(history.stat().st_size)}, {history}")
        say("`tinystar remove --history` removes it.")
    groups = named_alike(name for name in ARCHITECTURES if name != "tinystar")
    say(f"\n{sum(map(len, groups.values()))} architectures run. `tinystar models NAME` says more of one,\n"
        "`tinystar models WORD` lists those that a word is about.\n")  # fmt: skip
    _list_groups({name: its for name, its in groups.items() if len(its) > 1})
    say("")
    _list_architectures(its[0] for its in groups.values() if len(its) == 1)
    say(f"  your  {'tinystar':{NAME}}  TinyStar: every part as you choose")
    say("\nModels of text and images, each with one of these decoders (--image, /image):\n")
    _list_architectures(VISION_ARCHITECTURES)
    say("\nModels that embed texts and images, to compare them (tinystar_np.load):\n")
    _list_architectures(EMBEDDING_ARCHITECTURES)


def _list_groups(groups: Mapping[str, Sequence[str]]) -> None:
    """Say a line of each group: its years, the letters that the names begin with, and the names."""
    width = max(map(len, groups), default=0)
    for letters, names in groups.items():
        years = sorted(headline(name)[0] for name in names)
        ends = years[0] if years[0] == years[-1] else f"{years[0]}–{years[-1]}"
        margin = f"  {ends:9}  {letters:{width}}  "
        say(textwrap.fill("  ".join(names), _columns(), initial_indent=margin,
                          subsequent_indent=" " * len(margin), break_on_hyphens=False))  # fmt: skip


def _list_architectures(names: Iterable[str]) -> None:
    headlines = {name: headline(name) for name in names}
    longest = max(map(len, headlines), default=0)
    for name, (year, line) in sorted(headlines.items(), key=lambda item: (item[1][0], item[0])):
        margin = f"  {year}  {name:{min(longest, NAME)}}  "
        say(margin + textwrap.shorten(line, max(_columns() - len(margin), 20), placeholder=" …"))


def _columns() -> int:
    """How wide the lines are."""
    return max(min(shutil.get_terminal_size().columns, 110), 50)
