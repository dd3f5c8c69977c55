"""``tinystar experiments --trained``: the seven designs as trained, what each costs and what it gains.

Quality and recall are those of one training run, whose results ship with this package. Size, cost and speed
are those of this engine at the sizes that were trained; speed does not depend on training, and its weights
are random.
"""

import argparse
import json
from collections.abc import Mapping, Sequence

from tinystar_np.cli.experiments import check_lengths, how_measured, measured, prepare, width_of_text
from tinystar_np.cli.streams import OK, say
from tinystar_np.cli.terminal import UsageError, note, say_table
from tinystar_np.cli.trained_findings import findings, limits
from tinystar_np.cli.trained_picture import picture
from tinystar_np.cli.trained_table import LONG, SHORT, Compared, facts, parts
from tinystar_np.cli.wording import wrapped
from tinystar_np.inspection.experiments import takes
from tinystar_np.inspection.machine import describe_machine
from tinystar_np.inspection.trained import Training, read_training


def trained(arguments: argparse.Namespace) -> int:
    """Run the command."""
    training = read_training()
    chosen = _chosen(arguments.configs, training)
    configs = {name: training.designs[name].config for name in chosen}
    check_lengths(arguments, configs)
    prepare(arguments)
    tokens, new = arguments.tokens, arguments.new
    costs = {name: takes(config, sorted({tokens, SHORT, LONG})) for name, config in configs.items()}
    speeds = measured(configs, arguments) if arguments.rounds else {}
    compared = [Compared(training.designs[name], costs[name], speeds.get(name)) for name in chosen]
    machine = describe_machine()
    found, open_questions = findings(compared, training), limits(compared, training)
    notes = _notes(compared, training, machine, arguments)
    if arguments.json:
        say(
            json.dumps(
                {
                    "machine": machine,
                    "tokens": tokens,
                    "new": new,
                    "rounds": arguments.rounds,
                    "trained_on": training.device,
                    "noise": {
                        "of": training.repeated.name,
                        "mean": training.noise(),
                        **{text: training.noise(text) for text in training.texts},
                    },
                    "designs": [facts(one, training) for one in compared],
                    "findings": found,
                    "limits": open_questions,
                },
                indent=2,
            )
        )
    else:
        for part in parts(compared, training, tokens, new):
            say(part.title)
            say_table(part.head, part.rows, arguments, indent=2)
            say("")
        width = width_of_text()
        said = [*found, *open_questions]
        say("\n".join(wrapped(words, width, "- ", 2) for words in said))
        say("\n" + "\n".join(wrapped(words, width) for words in notes))
    if arguments.plot:
        picture(compared, training, tokens, new, "\n".join(notes)).save(arguments.plot)
        note(f"Picture: {arguments.plot}", arguments)
    return OK


def _chosen(asked: Sequence[str], training: Training) -> list[str]:
    """Return the designs with these names, by default all; raises UsageError for others."""
    names = list(training.designs)
    for name in asked:
        if name not in names:
            raise UsageError(f"--trained: no results of {name!r}. There are those of {', '.join(names)}.")
    return list(dict.fromkeys(asked)) or names


def _notes(
    compared: Sequence[Compared],
    training: Training,
    machine: Mapping[str, str | int],
    arguments: argparse.Namespace,
) -> list[str]:
    """Return notes on what the numbers mean and how they were measured."""
    ending = [f"{one.name} has {one.takes.context_length}" for one in compared if one.ends_early]
    notes = [f"* More tokens than there are positions for: {', '.join(ending)}."] if ending else []
    notes.append(
        f"Caches are in float32. Losses are of windows of {training.context} tokens: "
        "what a longer cache is worth was not measured."
    )
    if arguments.rounds:
        notes.append(f"{how_measured(machine, arguments.rounds)}; random weights.")
    return notes
