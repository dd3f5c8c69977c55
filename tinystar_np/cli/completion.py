"""Print a script by which a shell completes commands, options and the names of models on this disk."""

import argparse
import os

from tinystar_np.cli.streams import OK, say
from tinystar_np.errors import TinyStarError

PROGRAMS = ["tinystar", "ask-gpt2"]

EPILOG = """in which file each shell looks for it:
  bash   eval "$({command} bash)"                in ~/.bashrc
  zsh    eval "$({command} zsh)"                 in ~/.zshrc, after compinit
  fish   {command} fish | source                 in ~/.config/fish/config.fish

It needs the package argcomplete: pip install 'tinystar_np[completion]'."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that reads the script")
    parser.set_defaults(command=completion, parser=parser, verbose=False, color="auto", quiet=False)


def completion(arguments: argparse.Namespace) -> int:
    """Run the command."""
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        raise TinyStarError(
            "Completion needs the package argcomplete.\nInstall it: pip install 'tinystar_np[completion]'"
        ) from None
    say(shellcode(PROGRAMS, shell=arguments.shell), raw=True)
    return OK


def is_asked_for() -> bool:
    """Say whether this process was started by a shell that wants words completed."""
    return "_ARGCOMPLETE" in os.environ


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell, and end the process."""
    from argcomplete import autocomplete

    autocomplete(parser, always_complete_options="long")
