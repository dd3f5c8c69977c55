"""Compare configurations of TinyStar: the size, memory and cost of each, and its speed on this machine.

Weights are random, in float32: nothing is measured about how well a model would learn. --trained tells that
of the shipped configurations, as one training run of small models showed it. 1 KB is 1000 bytes.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tinystar_np.amounts import counted
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.cli.open_model import add_threads_argument
from tinystar_np.cli.side_by_side import COUNTED, LONG, ends_early, findings, panels, quantities
from tinystar_np.cli.streams import OK, say
from tinystar_np.cli.terminal import UsageError, add_common_arguments, note, progress_line, say_table
from tinystar_np.cli.wording import wrapped
from tinystar_np.errors import ConfigError
from tinystar_np.fast.threads import use_threads
from tinystar_np.inspection.experiments import Experiment, Speed, measure, takes
from tinystar_np.inspection.machine import describe_machine, load_warning
from tinystar_np.models.tinystar_config import TinyStarConfig, configuration_names
from tinystar_np.seeing.plots import check_plotting, plot_small_multiples

MOST_COLUMNS = 100  # of a terminal
TOKENS = 512  # of the prompt
TOKENS_TRAINED = 480  # the trained models have places for 512, with the new tokens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "configs",
        nargs="*",
        metavar="CONFIG",
        help="shipped configurations by name, or .yaml, .toml and .json files (default: all shipped)",
    )
    add = parser.add_argument_group("measuring").add_argument
    add("--tokens", type=int, metavar="N", help="length of the prompt (default: 512; 480 with --trained)")
    add("--new", type=int, default=32, metavar="N", help="tokens to generate after it (default: 32)")
    add("--rounds", type=int, default=5, metavar="N", help="turns of each; 0: do not measure (default: 5)")
    add_threads_argument(parser)
    parser.add_argument("--trained", action="store_true", help="also what small models learnt with each")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a picture, too: a .png or .svg")
    add_common_arguments(parser)
    parser.set_defaults(command=experiments, parser=parser, in_one_process=True)


def experiments(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.tokens is None:
        arguments.tokens = TOKENS_TRAINED if arguments.trained else TOKENS
    if arguments.trained:
        from tinystar_np.cli.trained import trained  # late: it imports what is shared from here

        return trained(arguments)
    tokens, new, rounds = arguments.tokens, arguments.new, arguments.rounds
    configs = find_configs(arguments.configs)
    check_lengths(arguments, configs)
    prepare(arguments)
    costs = {name: takes(config, sorted({tokens, LONG})) for name, config in configs.items()}
    speeds = measured(configs, arguments) if rounds else {}
    compared = [Experiment(name, configs[name], costs[name], speeds.get(name)) for name in configs]
    machine = describe_machine()
    shown = quantities(tokens, new, measured=rounds > 0)
    notes = _notes(compared, machine, arguments)
    if arguments.json:
        found = {
            "machine": machine,
            "tokens": tokens,
            "new": new,
            "rounds": rounds,
            "configurations": [_facts(one) for one in compared],
            "findings": findings(compared, tokens),
        }
        say(json.dumps(found, indent=2))
    else:
        for i, part in enumerate(filter(None, (shown[:COUNTED], shown[COUNTED:]))):
            say("\n" if i else "", end="")
            head = ["", *(quantity.head for quantity in part)]
            say_table(
                head, [[one.name, *(quantity.cell(one) for quantity in part)] for one in compared], arguments
            )
        width = width_of_text()
        for said in filter(None, (findings(compared, tokens), notes)):
            say("\n" + "\n".join(wrapped(words, width) for words in said))
    if arguments.plot:
        names = [one.name for one in compared]
        title = "TinyStar configurations side by side"
        plot_small_multiples(arguments.plot, title, names, panels(compared, shown), "\n".join(notes))
        note(f"Picture: {arguments.plot}", arguments)
    return OK


def find_configs(asked: Sequence[str]) -> dict[str, TinyStarConfig]:
    """Read the configurations with these names or paths, by default all shipped ones: {name to show: config}.

    Raises ConfigError for an unknown name, and for errors in a file.
    """
    names = configuration_names()
    found = {}
    for given in asked or names:
        path = Path(given)
        if given in names:
            found[given] = TinyStarConfig.named(given)
        elif path.suffix in (".yaml", ".yml", ".toml", ".json") or path.exists():
            config = TinyStarConfig.from_file(path)
            short = path.resolve().parent.name if path.name == "config.json" else path.stem
            found[given if short in found or short in names else short] = config
        else:
            raise ConfigError(
                f"There is no configuration {given!r}. There are: {', '.join(names)}.\n"
                "One of your own is a file whose name ends with .yaml, .toml or .json."
            )
    return found


def prepare(arguments: argparse.Namespace) -> None:
    """Set the number of threads; raise an error if no picture can be written, before the work is done."""
    use_threads(arguments.threads)
    if arguments.plot:
        check_plotting(arguments.plot)


def check_lengths(arguments: argparse.Namespace, configs: Mapping[str, TinyStarConfig]) -> None:
    """Raise UsageError for numbers that make no sense."""
    for key, least in (("tokens", 1), ("new", 1), ("rounds", 0)):
        if getattr(arguments, key) < least:
            raise UsageError(f"--{key} {getattr(arguments, key)}: it must be {least} or more.")
    tokens, new = arguments.tokens, arguments.new
    for name, config in configs.items():
        if config.context_length is not None and tokens + new > config.context_length:
            raise UsageError(
                f"--tokens {tokens} and --new {new}: {name} has places for {config.context_length} tokens "
                "(max_positions), the prompt and the new ones together."
            )


def measured(configs: Mapping[str, TinyStarConfig], arguments: argparse.Namespace) -> dict[str, Speed]:
    """Measure, with a progress line on a terminal."""
    warning = load_warning()
    if warning:
        note(warning, arguments)

    with progress_line(arguments) as show:
        return measure(configs, arguments.tokens, arguments.new, arguments.rounds, show)


def _notes(
    compared: Sequence[Experiment], machine: Mapping[str, str | int], arguments: argparse.Namespace
) -> list[str]:
    """Return notes on what the numbers mean and how they were measured."""
    ending = [f"{one.name} has {one.takes.context_length}" for one in compared if ends_early(one)]
    notes = [f"* More tokens than there are positions for: {', '.join(ending)}."] if ending else []
    notes.append("FLOPs: the matrix products of one token, two operations per multiply-add.")
    if arguments.rounds:
        notes.append(f"{how_measured(machine, arguments.rounds)}.")
    return notes


def how_measured(machine: Mapping[str, str | int], rounds: int) -> str:
    """Say where speeds were measured, and what numbers of so many rounds are shown."""
    how = "one round" if rounds == 1 else f"median (lowest–highest) of {rounds} rounds"
    return f"Speeds: {machine['processor']}, {counted(int(machine['threads']), 'thread')}; {how}"


def width_of_text() -> int:
    """Return how many columns of the terminal sentences take."""
    return max(min(shutil.get_terminal_size().columns, MOST_COLUMNS), 2)


def _facts(one: Experiment) -> JsonObject:
    """Return everything about one configuration, for programs."""
    takes, speed = one.takes, one.speed
    lengths = sorted(takes.flops)
    return {
        "name": one.name,
        "parameters": takes.parameters,
        "weight_bytes": takes.weight_bytes,
        "context_length": takes.context_length,
        "cache_bytes": takes.state
        and {
            "fixed": takes.state.fixed,
            "per_token": takes.state.per_token,
            "at": {tokens: takes.state.at(tokens) for tokens in lengths},
        },
        "flops_per_token": takes.flops,
        "prefill_tokens_per_second": speed and speed.prefill.facts(),
        "decode_tokens_per_second": speed and speed.decode and speed.decode.facts(),
        "config": one.config.to_dict(),
    }
