"""One line on a terminal that says what is going on, and is gone when it is done."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cli.streams import tell
from tinystar_np.generation.loop import LanguageModel


def shows_progress(arguments: argparse.Namespace) -> bool:
    """Tell whether somebody watches: stderr is a terminal that can go back in a line, and not --quiet."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not arguments.quiet


@contextmanager
def progress_line(arguments: argparse.Namespace) -> Iterator[Callable[[str], None]]:
    """Give a function that shows a line in place of the one before; the last is wiped out at the end."""
    shown = shows_progress(arguments)

    def show(words: str) -> None:
        if shown:
            tell(f"\r{words}\x1b[K", end="")

    try:
        yield show
    finally:
        show("")


class ReadingModel:
    """A model that shows how far it is while it reads a prompt; everything else is the model's own.

    model   whose calls are watched
    tokens  of the prompt
    """

    def __init__(self, model: LanguageModel, tokens: int, arguments: argparse.Namespace) -> None:
        self._model = model
        self._tokens, self._read = tokens, 0
        self._arguments = arguments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, ids: Any, cache: Any = None, last_only: bool = False) -> NDArray[np.float32]:
        """Continue after what the cache holds, as the model does."""
        if self._read >= self._tokens:
            return self._model(ids, cache=cache, last_only=last_only)
        with progress_line(self._arguments) as show:
            show(f"reading the prompt {self._read}/{self._tokens}")
            logits = self._model(ids, cache=cache, last_only=last_only)
        self._read += np.shape(ids)[-1]
        return logits
