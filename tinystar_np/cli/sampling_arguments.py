"""The options that choose tokens, for every command that generates text."""

import argparse
from dataclasses import fields
from typing import Any

from tinystar_np.cli.terminal import UsageError
from tinystar_np.errors import InputError
from tinystar_np.generation import SamplingOptions


def add_sampling_arguments(parser: argparse.ArgumentParser, max_new_tokens: int) -> None:
    """Declare the options; ``max_new_tokens`` is the command's own default."""
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument(
        "-n",
        "--max-tokens",
        dest="max_new_tokens",
        type=int,
        default=max_new_tokens,
        metavar="N",
        help="new tokens (default: %(default)s)",
    )
    sampling.add_argument(
        "--temperature",
        "--temp",
        type=float,
        default=0.8,
        metavar="T",
        help="0 takes the likeliest (default: 0.8)",
    )
    sampling.add_argument(
        "--top-k", type=int, default=40, metavar="K", help="of the K likeliest; 0 is off (default: 40)"
    )
    sampling.add_argument("--top-p", type=float, default=0.95, metavar="P", help="1 is off (default: 0.95)")
    sampling.add_argument("--min-p", type=float, default=0.0, metavar="P", help="0 is off (default)")
    sampling.add_argument("--typical-p", type=float, default=1.0, metavar="P", help="1 is off (default)")
    sampling.add_argument(
        "--repetition-penalty", type=float, default=1.0, metavar="X", help="1 is off (default)"
    )
    sampling.add_argument(
        "--no-repeat-ngram-size", type=int, default=0, metavar="N", help="0 is off (default)"
    )
    sampling.add_argument(
        "--prompt-lookup",
        dest="prompt_lookup_num_tokens",
        type=int,
        default=0,
        metavar="N",
        help="guess N tokens at once from the text so far: with --temperature 0 the same text, sooner where "
        "it repeats itself (default: off)",
    )
    sampling.add_argument("-s", "--seed", type=int, help="the same seed gives the same text")
    sampling.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end before this text, or this special token; repeatable",
    )


def sampling_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given, as ``stream`` and its like take them.

    Raises UsageError where one is out of its range.
    """
    given = {field.name: getattr(arguments, field.name) for field in fields(SamplingOptions)}
    try:
        SamplingOptions(**given)
    except InputError as error:
        raise UsageError(str(error)) from error
    return given
