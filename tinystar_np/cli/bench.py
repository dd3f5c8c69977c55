"""Measure how fast a model runs on this machine: prompts, tokens, many texts at once, and memory.

Memory sets the limit of generating: its speed is measured alternately with the model, and the share that the
model reaches is printed. 1 GB is 10⁹ bytes.
"""

import argparse
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.cli.model_argument import add_model_word
from tinystar_np.cli.open_model import add_model_arguments, add_parallel_argument, open_model, raise_for_gguf
from tinystar_np.cli.streams import OK, say
from tinystar_np.cli.terminal import (
    UsageError,
    add_common_arguments,
    note,
    progress_line,
    say_table,
)
from tinystar_np.cli.wording import count_of, size_of, speed_of
from tinystar_np.inspection.engines import Engine, EngineProcess, TinyStarEngine
from tinystar_np.inspection.held import Held, held_by_each
from tinystar_np.inspection.machine import describe_machine, load_warning
from tinystar_np.inspection.speed import (
    Rounds,
    Say,
    Seconds,
    Task,
    bandwidth,
    bare_matrices,
    by_turns,
    weight_type,
)
from tinystar_np.models import Decoder

PREFILL = (64, 512, 2048)  # those that fit into the model's context
BATCH = (1, 4, 16)
PROMPT = 32  # tokens before those that are generated
BARE_PRODUCTS = "bare products"
ENOUGH_SECONDS = 10.0  # a task that has taken so long is not measured again


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model_word(parser, default="stories")
    group = parser.add_argument_group("measuring")
    add = group.add_argument
    add("--against", choices=["transformers"], help="run the same model there, too, in turn")
    add("--prefill", type=int, nargs="+", metavar="N", help="prompt lengths (default: 64 512 2048, as fit)")
    add("--batch", type=int, nargs="+", default=BATCH, metavar="N", help="texts at once (default: 1 4 16)")
    add("--new", type=int, default=32, metavar="N", help="tokens to generate in each (default: 32)")
    add("--rounds", type=int, default=3, metavar="N", help="turns of each (default: 3)")
    add("--json", action="store_true", help="print JSON, with every single value, instead of a table")
    add_model_arguments(parser)
    add_parallel_argument(parser)
    add_common_arguments(parser)
    parser.set_defaults(command=bench, parser=parser)


@dataclass
class Found:
    """The measurements.

    speeds     tokens/s of each task and engine
    bandwidth  bytes of matrices per second in bare products; nothing of a model that processes share
    held       what each process has of the model
    peaks      bytes, of each engine
    """

    speeds: dict[Task, list[Rounds]] = field(default_factory=dict)
    bandwidth: Rounds = field(default_factory=lambda: Rounds(()))
    held: list[Held] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)

    @property
    def weight_bytes(self) -> int:
        """The bytes of all weights, scales and the like included."""
        return sum(each.weights for each in self.held)

    @property
    def bits_per_weight(self) -> float:
        """Bits of each weight, scales and the like included."""
        return 8 * self.weight_bytes / sum(each.numbers for each in self.held)

    @property
    def read(self) -> float:
        """The bytes of weights that a token is multiplied by."""
        return sum(each.read for each in self.held)

    def ratio(self, task: Task) -> Rounds:
        """Divide the first engine's speed by the second's."""
        first, second = self.speeds[task]
        return first.over(second)

    def share(self, task: Task, read: float) -> Rounds:
        """Return the share of the bandwidth that is reached if a token reads so many bytes of weights."""
        bytes_per_second = Rounds(tuple(speed * read for speed in self.speeds[task][0].values))
        return bytes_per_second.over(self.bandwidth)


def bench(arguments: argparse.Namespace) -> int:
    """Run the command."""
    _check(arguments)
    with ExitStack() as until_then:
        progress = until_then.enter_context(progress_line(arguments))
        theirs = None
        if arguments.against:
            where = {name: getattr(arguments, name) for name in ("revision", "offline", "cache_dir")}
            directory = find_model(arguments.model, **where)
            raise_for_gguf(directory)
            theirs = until_then.enter_context(EngineProcess(directory))
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
            machine |= theirs.load(dtypes[1], int(machine["threads"]))
            engines.append(theirs)
        whole = model.part is None
        found = measure(engines, tasks, model.vocab_size, arguments.rounds, progress, whole)
        found.held = held_by_each(model)
        if not whole:
            found.peaks[0] = sum(each.peak for each in found.held)
    names = [engine.name for engine in engines]
    if arguments.json:
        about = {"model": arguments.model, "machine": machine, "warning": warning, "new": arguments.new}
        say(json.dumps(about | _facts(found, model, names, dtypes), indent=2))
        return OK
    say(f"{arguments.model}: {count_of(model.parameters)} parameters, {machine['threads']} threads\n")
    beside = ["times as fast"] if theirs else []
    rows = [
        [str(task), *(speed.text(speed_of) for speed in found.speeds[task])]
        + [found.ratio(task).text("{:.2f}".format) for _ in beside]
        for task in sorted(tasks, key=lambda task: (task.new, task.rows, task.tokens))
    ]
    rows.append(["peak memory", *map(size_of, found.peaks), *("" for _ in beside)])
    columns = [f"{name} {dtype}" for name, dtype in zip(names, dtypes, strict=True)]
    say_table(["tokens/s", *columns, *beside], rows, arguments)
    say()
    say(f"The weights are {size_of(found.weight_bytes)}, {found.bits_per_weight:.3g} bits each.")
    reads = f"A token reads {size_of(round(found.read))} of weights."
    if found.bandwidth.values:
        limit = found.bandwidth.text(lambda nbytes: f"{nbytes / 1e9:.1f}")
        say(f"Memory is read at {limit} GB/s. {reads}")
        for task in filter(_is_one_text, tasks):
            share = found.share(task, found.read).text("{:.0%}".format)
            say(f"Decode reaches {share} of what memory allows.")
    else:
        weights = size_of(max(each.weights for each in found.held))
        peak = size_of(max(each.peak for each in found.held))
        say(
            f"{reads} Each of {len(found.held)} processes has at most {weights} of weights, and takes {peak}."
        )
    rounds = arguments.rounds
    how = f"medians (lowest–highest) of {rounds} rounds, fewer where one is long"
    say(f"{machine['processor']}, {machine['threads']} threads; {'one round' if rounds == 1 else how}.")
    return OK


def _check(arguments: argparse.Namespace) -> None:
    """Raise UsageError for numbers that make no sense, before anything is loaded."""
    for key in ("prefill", "batch", "new", "rounds"):
        given = getattr(arguments, key)
        for value in given if isinstance(given, list | tuple) else [given]:
            if value is not None and value < 1:
                raise UsageError(f"--{key} {value}: it must be 1 or more.")


def _tasks(arguments: argparse.Namespace, model: Decoder) -> list[Task]:
    """List the tasks; one text at a time comes last, next to the bandwidth that it is compared with."""
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


def _is_one_text(task: Task) -> bool:
    return task.new > 0 and task.rows == 1


def measure(
    engines: list[Engine], tasks: list[Task], vocabulary: int, rounds: int, progress: Say, whole: bool = True
) -> Found:
    """Measure engines alternately, and bare products after the last task of each round.

    vocabulary  V; prompts are random tokens of it
    whole       whether this process has the whole model. Where several share it there are no bare products:
                all processes would have to be measured together
    """
    found = Found()
    progress("warming up")
    sides: dict[str, list[Callable[[], float]]] = {
        str(task): [partial(_speed, task, turn) for turn in task.turns(engines, vocabulary)] for task in tasks
    }
    matrices: list[NDArray[np.float32]] = []

    def bare_products() -> float:
        if not matrices:  # the peaks are read before these are made, which would count as the model's memory
            found.peaks = [engine.peak() for engine in engines]
            matrices.extend(bare_matrices())
        return bandwidth(matrices)

    if whole:
        sides[BARE_PRODUCTS] = [bare_products]
    values = by_turns(sides, rounds, progress, ENOUGH_SECONDS)
    if whole:
        found.bandwidth = Rounds(tuple(values[BARE_PRODUCTS][0]))
    else:
        found.peaks = [engine.peak() for engine in engines]
    found.speeds = {task: [Rounds(tuple(speeds)) for speeds in values[str(task)]] for task in tasks}
    return found


def _speed(task: Task, turn: Callable[[], Seconds]) -> float:
    return task.speed(turn())


def _facts(found: Found, model: Decoder, names: list[str], dtypes: list[str]) -> JsonObject:
    """Return all measurements, for programs."""
    alone = next(filter(_is_one_text, found.speeds), None)
    is_whole = bool(found.bandwidth.values)
    return {
        "parameters": model.parameters,
        "weight_bytes": found.weight_bytes,
        "bits_per_weight": round(found.bits_per_weight, 3),
        "weight_bytes_per_token": round(found.read),
        "engines": [
            {
                "name": name,
                "dtype": dtype,
                "peak_bytes": found.peaks[i],
                "tokens_per_second": {str(task): sides[i].facts() for task, sides in found.speeds.items()},
            }
            for i, (name, dtype) in enumerate(zip(names, dtypes, strict=True))
        ],
        "ratios": {str(task): found.ratio(task).facts() for task in found.speeds if len(names) > 1},
        "bandwidth_bytes_per_second": found.bandwidth.facts() if is_whole else None,
        "share_of_bandwidth": found.share(alone, found.read).facts() if alone and is_whole else None,
        "processes": [] if is_whole else [each.facts() for each in found.held],
    }
