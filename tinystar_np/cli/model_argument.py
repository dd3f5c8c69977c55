"""Which model a command is about: -m in every command, or the first word where one is natural.

tinystar inspect stories        tinystar inspect -m stories
tinystar compare stories "Hi"   tinystar compare -m stories "Hi"
"""

import argparse
from collections.abc import Sequence
from typing import Any

from tinystar_np.cli.terminal import MODEL_HELP, UsageError


class Given(argparse.Action):
    """Stores an option's value, and in ``given`` that there was one: it counts more than the model's own."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        """Store a value."""
        setattr(namespace, self.dest, values)
        namespace.given = {*getattr(namespace, "given", ()), self.dest}


def add_model_option(parser: argparse.ArgumentParser, default: str, words: str = MODEL_HELP) -> None:
    """Add -m to a command whose words are all its prompt."""
    said = f"{words} (default: %(default)s)"
    completed(parser.add_argument("-m", "--model", default=default, action=Given, help=said))


def add_model_word(
    parser: argparse.ArgumentParser,
    *later: str,
    needed: Sequence[str] = (),
    default: str | None = None,
    words: str = MODEL_HELP,
) -> None:
    """Add the model as the first word, and as -m, which makes the other words move up.

    later    names of the words after it, which the command adds itself, with nargs="?"
    needed   those of them that must be given
    default  where neither is given; None if one must be
    words    what may be given
    """
    shown = words if default is None else f"{words} (default: {default})"
    completed(parser.add_argument("model", nargs="?", help=shown))
    completed(parser.add_argument("-m", "--model", dest="model_option", metavar="MODEL", help="the same"))
    parser.set_defaults(model_words=("model", *later), model_default=default, words_needed=needed)


def settle_model(arguments: argparse.Namespace) -> None:
    """Put what was given as words and by -m to where the command looks for it: its ``model``.

    Raises UsageError where the model or another word is missing, or the model is given twice.
    """
    given = vars(arguments)
    if "model_words" not in given:
        return
    names, option = arguments.model_words, arguments.model_option
    if option is not None:
        values = [given[name] for name in names]
        if values[-1] is not None:
            raise UsageError(f"The model is given twice: as {values[0]!r} and by -m.")
        given.update(zip(names, [option, *values], strict=False))
    elif arguments.model is None:
        if arguments.model_default is None:
            raise UsageError("No model is given. `tinystar models` lists those on this disk; stories is one.")
        arguments.model = arguments.model_default
    for name in arguments.words_needed:
        if given[name] is None:
            raise UsageError(f"The {name} is missing.")


def completed(action: argparse.Action) -> None:
    """Let a shell complete the names of models on this disk (completion.py)."""
    action.completer = complete_models  # type: ignore[attr-defined]


def complete_models(prefix: str, **_: object) -> list[str]:
    """Return the names of models, and of files and directories, that begin with a prefix."""
    from argcomplete.completers import FilesCompleter

    from tinystar_np.checkpoints.local_models import list_local_models

    names = dict.fromkeys(model.name for model in list_local_models())
    return [*(name for name in names if name.startswith(prefix)), *FilesCompleter()(prefix)]
