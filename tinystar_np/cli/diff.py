"""Compare two models without torch: their configs, their tensors, and what
they compute on the same tokens.

Of each tensor that differs it says how: rows or heads in another order,
transposed, another layer's, times a factor, rounded. The last lines are the
answer: the first activation that differs, and why. Exit code 1 if any does.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.json_file import one_line, shown
from tinystar_np.checkpoints.model_files import GGUF
from tinystar_np.cli.activations import (
    add_comparing_arguments,
    check_tolerance,
    given_ids,
    say_activations,
    say_answer,
)
from tinystar_np.cli.model_argument import completed
from tinystar_np.cli.streams import FAILURE, OK, say
from tinystar_np.cli.terminal import (
    MODEL_HELP,
    add_common_arguments,
    add_source_arguments,
    columns_of,
    say_styled,
    say_table,
)
from tinystar_np.cli.wording import wrapped
from tinystar_np.loading import load
from tinystar_np.seeing.comparison.models import TOLERANCE, ModelDifference, diff, names_listed
from tinystar_np.text import Tokenizer, load_tokenizer

MOST = 12  # lines of tensors

EPILOG = """examples:
  {command} HuggingFaceTB/SmolLM2-135M converted/
  {command} model.Q8_0.gguf original/ --prompt "Once upon a time"

docs/comparing.md says what the answers mean."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    completed(parser.add_argument("a", metavar="A", help=MODEL_HELP))
    completed(parser.add_argument("b", metavar="B", help="the one that is held against it"))
    parser.add_argument("--prompt", help="the text to run both on (default: 40 random tokens)")
    add_comparing_arguments(parser, TOLERANCE)
    add_source_arguments(parser)
    add_common_arguments(parser)
    parser.set_defaults(command=run, parser=parser, in_one_process=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    check_tolerance(arguments)
    where = {name: getattr(arguments, name) for name in ("revision", "offline", "cache_dir")}
    a, b = (find_model(name, **where) for name in (arguments.a, arguments.b))
    ids = None
    if arguments.prompt is not None:
        ids = given_ids(arguments.prompt, None if arguments.ids else _tokenizer(a), arguments)
    found = diff(a, b, ids, tolerance=arguments.tolerance)
    if arguments.json:
        say(json.dumps(_facts(found)))
    else:
        _print(found, arguments)
    return FAILURE if found.differs else OK


def _tokenizer(path: Path) -> Tokenizer | None:
    """Load a model's tokenizer; that of a directory even where its tensors do not fit."""
    return load(path)[1] if path.suffix == GGUF else load_tokenizer(path)


def _facts(found: ModelDifference) -> dict[str, object]:
    return {
        "answer": found.answer,
        "first": found.first and found.first.name,
        "keys": {key: list(map(_plain, pair)) for key, pair in found.keys.items()},
        "keys_without_effect": found.without_effect,
        "compared": found.compared,
        "tensors": [asdict(each) for each in found.tensors],
        "only": found.only,
        "faults": found.faults,
        "tokens": found.tokens,
        "unseen": found.unseen,
        "activations": [asdict(row) | {"relative": row.relative} for row in found.activations],
    }


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | list | dict) or value is None else str(value)


def _print(found: ModelDifference, arguments: argparse.Namespace) -> None:
    columns = columns_of(sys.stdout)

    def paragraph(words: str, indent: int = 2) -> None:
        say(wrapped(words, columns, first=" " * indent, indent=indent))

    def title(words: str) -> None:
        say_styled(words, "bold", arguments)

    title("config.json")
    if found.keys:
        rows = [(key, shown(a), shown(b)) for key, (a, b) in found.keys.items()]
        say_table(("key", "A", "B"), rows, arguments, left=(0, 1, 2), indent=2)
    else:
        paragraph("no difference that counts")
    if found.without_effect:
        paragraph(f"without effect here: {', '.join(map(one_line, found.without_effect))}")

    title("\ntensors")
    count = len(found.tensors)
    differing = f"{count} differ{'s' if count == 1 else ''}" if count else "all equal"
    paragraph(f"{found.compared} in both, {differing}")
    for side, faults, only in zip("AB", found.faults, found.only, strict=True):
        for fault in faults:
            paragraph(f"{side} does not fit its own config.json: it {fault}", 4)
        if only and not any(found.faults):
            paragraph(f"only in {side}: {names_listed(only.values())}", 4)
    lines = found.grouped()
    for where, kind in lines[:MOST]:
        paragraph(f"{where}: {kind}", 4)
    if len(lines) > MOST:
        paragraph(f"… and {len(lines) - MOST} more (--json lists all)", 4)

    title("\nactivations")
    if not found.activations:
        why = "none has the same shape in both" if found.tokens else "tensors that do not fit do not run"
        paragraph(f"not compared: {why}")
    else:
        beyond = sum(row.exceeds(arguments.tolerance) for row in found.activations)
        paragraph(
            f"on {found.tokens} {'random ' if arguments.prompt is None else ''}tokens, {beyond} of "
            f"{len(found.activations)} differ by more than {arguments.tolerance:g} of their largest"
        )
        for words in found.unseen:
            paragraph(f"not to be seen here: {words}")
        say_activations(found.activations, found.first, arguments)
    say()
    say_answer(found.answer, arguments)
