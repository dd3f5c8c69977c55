"""Measure how fast a model runs on this machine: prompts, tokens, many texts at once, and memory.

Memory sets the limit of generating: how fast it can be read is measured as well, in turn with the model, and
the share that is reached is told. 1 GB is 10⁹ bytes.
"""

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tinystar_np.checkpoints.hub import find_model
from tinystar_np.cli.inspect import count_of, size_of
from tinystar_np.cli.machine import describe_machine, load_warning
from tinystar_np.cli.open_model import add_model_arguments, open_model
from tinystar_np.cli.progress import progress_line
from tinystar_np.cli.side_by_side import speed_of
from tinystar_np.cli.streams import OK, say
from tinystar_np.cli.terminal import (
    UsageError,
    add_common_arguments,
    note,
    say_styled,
)
from tinystar_np.models import Decoder

if TYPE_CHECKING:
    from tinystar_np.inspection.speed import Engine, Found, Rounds, Task

PREFILL = (64, 512, 2048)  # those that fit into the model's context
BATCH = (1, 4, 16)
PROMPT = 32  # tokens before those that are generated


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "model",
        nargs="?",
        default="stories",
        help="directory, hub id or shipped model (default: %(default)s)",
    )
    group = parser.add_argument_group("measuring")
    add = group.add_argument
    add("--against", choices=["transformers"], help="run the same model there, too, in turn")
    add("--prefill", type=int, nargs="+", metavar="N", help="prompt lengths (default: 64 512 2048, as fit)")
    add("--batch", type=int, nargs="+", default=BATCH, metavar="N", help="texts at once (default: 1 4 16)")
    add("--new", type=int, default=32, metavar="N", help="tokens to generate in each (default: 32)")
    add("--rounds", type=int, default=3, metavar="N", help="turns of each (default: 3)")
    add("--json", action="store_true", help="print JSON, with every single value, instead of a table")
    add_model_arguments(parser)
    add_common_arguments(parser)
    parser.set_defaults(command=bench, parser=parser)


def bench(arguments: argparse.Namespace) -> int:
    """Run the command."""
    # Imported late: no other command needs them.
    from tinystar_np.inspection.beside_transformers import TransformersEngine
    from tinystar_np.inspection.speed import TinyStarEngine, measure, weight_type

    _check(arguments)
    with ExitStack() as until_then:
        progress = until_then.enter_context(progress_line(arguments))
        theirs = None
        if arguments.against:
            where = {name: getattr(arguments, name) for name in ("revision", "offline", "cache_dir")}
            directory = find_model(arguments.model, **where)
            theirs = until_then.enter_context(TransformersEngine(directory))
        model, _ = open_model(arguments)
        machine = describe_machine()
        tasks = _tasks(arguments, model)
        engines: list[Engine] = [TinyStarEngine(model)]
        dtypes = [weight_type(model)]
        warning = load_warning()
        if warning:
            note(warning, arguments)
        if theirs:
            progress("loading torch and transformers")
            dtypes.append("bfloat16" if dtypes[0] == "bfloat16" else "float32")
            machine |= theirs.load(dtypes[1], machine["threads"])
            engines.append(theirs)
        found = measure(engines, tasks, model.vocab_size, arguments.rounds, progress)
    names = [f"{engine.name} {dtype}" for engine, dtype in zip(engines, dtypes, strict=True)]
    if arguments.json:
        facts = _facts(found, tasks, model, [engine.name for engine in engines], dtypes)
        about = {"model": arguments.model, "machine": machine, "warning": warning, "new": arguments.new}
        say(json.dumps(about | facts, indent=2))
        return OK
    say(f"{arguments.model}: {count_of(model.parameters)} parameters, {machine['threads']} threads\n")
    for i, line in enumerate(_table(found, tasks, names)):
        say_styled(line, "bold", arguments) if i == 0 else say(line)
    say("\n" + "\n".join(_notes(found, tasks, model, machine)))
    return OK


def _check(arguments: argparse.Namespace) -> None:
    """Raise UsageError for numbers that make no sense, before anything is loaded."""
    for key in ("prefill", "batch", "new", "rounds"):
        given = getattr(arguments, key)
        for value in given if isinstance(given, list | tuple) else [given]:
            if value is not None and value < 1:
                raise UsageError(f"--{key} {value}: it must be 1 or more.")


def _tasks(arguments: argparse.Namespace, model: Decoder) -> "list[Task]":
    """List what is measured: one text at a time comes last, beside the bandwidth that it is held against."""
    from tinystar_np.inspection.speed import Task

    room, trained = model.context_length, model.context_length or model.trained_length
    fitting = [length for length in PREFILL if trained is None or length <= trained]
    lengths = arguments.prefill or fitting or [trained]
    prompt = PROMPT if room is None else min(PROMPT, room - arguments.new)
    if room is not None and max(lengths) > room:
        raise UsageError(f"--prefill {max(lengths)}: the model has places for {room} tokens.")
    if prompt < 1:
        raise UsageError(
            f"--new {arguments.new}: the model has places for {room} tokens, the prompt's included."
        )
    prefill = [Task(1, length, 0) for length in sorted(set(lengths))]
    decode = [Task(rows, prompt, arguments.new) for rows in sorted(set(arguments.batch), reverse=True)]
    return [*prefill, *decode]


def _table(found: "Found", tasks: "Sequence[Task]", names: Sequence[str]) -> list[str]:
    """Write the table: its head, a line per task, and the memory."""
    from tinystar_np.inspection.speed import in_words

    rows = [["tokens/s", *names, *(["times as fast"] if len(names) > 1 else [])]]
    for task in sorted(tasks, key=lambda task: (task.new, task.rows, task.tokens)):
        cells = [_spread(found.speed(task, i), speed_of) for i in range(len(names))]
        if len(names) > 1:
            cells.append(_spread(found.ratio(task), "{:.2f}".format))
        rows.append([in_words(task), *cells])
    rows.append(["peak memory", *map(size_of, found.peaks), *([""] if len(names) > 1 else [])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [zip(row, widths, strict=True) for row in rows]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(line)
        ).rstrip()
        for line in lines
    ]


def _spread(rounds: "Rounds", words: Any) -> str:
    """Write a median with the range of its rounds."""
    if len(rounds.speeds) < 2:
        return words(rounds.median)
    return f"{words(rounds.median)} ({words(rounds.lowest)}–{words(rounds.highest)})"


def _notes(found: "Found", tasks: "Sequence[Task]", model: Decoder, machine: dict[str, Any]) -> list[str]:
    """Say what limits generating, and how all this was measured."""
    from tinystar_np.inspection.speed import bytes_per_token

    read = bytes_per_token(model)
    limit = _spread(found.limit, lambda nbytes: f"{nbytes / 1e9:.1f}")
    notes = [f"Memory is read at {limit} GB/s. A token reads {size_of(round(read))} of weights."]
    for task in tasks:
        if task.new and task.rows == 1:
            share = _spread(found.share(task, read), lambda share: f"{share:.0%}")
            notes.append(f"Decode reaches {share} of what memory allows.")
    rounds = len(found.bandwidth)
    how = (
        "one round"
        if rounds == 1
        else f"medians (lowest–highest) of {rounds} rounds, fewer where one is long"
    )
    return [*notes, f"{machine['processor']}, {machine['threads']} threads; {how}."]


def _facts(
    found: "Found", tasks: "Sequence[Task]", model: Decoder, names: Sequence[str], dtypes: Sequence[str]
) -> dict[str, Any]:
    """Say everything that was measured, for programs."""
    from tinystar_np.inspection.speed import bytes_per_token, in_words

    read = bytes_per_token(model)
    alone = next((task for task in tasks if task.new and task.rows == 1), None)
    return {
        "parameters": model.parameters,
        "weight_bytes": sum(array.nbytes for array in model.weights.values()),
        "weight_bytes_per_token": round(read),
        "engines": [
            {
                "name": name,
                "dtype": dtype,
                "peak_bytes": found.peaks[i],
                "tokens_per_second": {in_words(task): _spread_of(found.speed(task, i)) for task in tasks},
            }
            for i, (name, dtype) in enumerate(zip(names, dtypes, strict=True))
        ],
        "ratios": {in_words(task): _spread_of(found.ratio(task)) for task in tasks if len(names) > 1},
        "bandwidth_bytes_per_second": _spread_of(found.limit),
        "share_of_bandwidth": alone and _spread_of(found.share(alone, read)),
    }


def _spread_of(rounds: "Rounds") -> dict[str, Any]:
    """Write one measured value, for programs."""
    spread = {"median": rounds.median, "lowest": rounds.lowest, "highest": rounds.highest}
    return {**spread, "rounds": rounds.speeds}
