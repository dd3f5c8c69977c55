"""A model for a command: its options, and what loading it has to say."""

import argparse
import warnings

from tinystar_np.cli.machine import add_threads_argument
from tinystar_np.cli.terminal import add_loading_arguments, note
from tinystar_np.fast.threads import use_threads
from tinystar_np.loading import load
from tinystar_np.models import Decoder
from tinystar_np.text import Tokenizer


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a model comes from, how it is kept, and on how many threads it runs."""
    loading = add_loading_arguments(parser)
    loading.add_argument(
        "--in-memory",
        action="store_true",
        help="copy float32 weights out of the file first: it pays off in long answers",
    )
    add_threads_argument(parser)


def open_model(arguments: argparse.Namespace) -> tuple[Decoder, Tokenizer | None]:
    """Load the model that the arguments name; what ``load`` warns of is a note, what it raises is raised."""
    use_threads(arguments.threads)
    with warnings.catch_warnings(record=True) as warned:
        found = load(
            arguments.model,
            arguments.dtype,
            revision=arguments.revision,
            offline=arguments.offline,
            cache_dir=arguments.cache_dir,
            in_memory=arguments.in_memory,
        )
    for warning in warned:
        note(str(warning.message), arguments)
    return found
