"""Run a model here and in transformers on the same prompt, and show how far each activation differs.

The first activation that differs by more than the tolerance is marked: that is where to look. Needs torch and
transformers. Exit code 1 if any activation exceeds the tolerance.
"""

import argparse
import json
from dataclasses import asdict

from tinystar_np.checkpoints.hub import find_model
from tinystar_np.cli.model_argument import add_model_word
from tinystar_np.cli.open_model import raise_for_gguf
from tinystar_np.cli.streams import FAILURE, OK, say
from tinystar_np.cli.terminal import (
    UsageError,
    add_common_arguments,
    add_loading_arguments,
    note,
    say_table,
)
from tinystar_np.errors import TokenizerError
from tinystar_np.loading import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model_word(parser, "prompt", needed=("prompt",))
    parser.add_argument("prompt", nargs="?", help="the text to run both on")
    parser.add_argument(
        "--ids", action="store_true", help="the prompt is token ids with commas between: 5,17,3"
    )
    parser.add_argument(
        "--against", metavar="MODEL", help="what transformers loads, no GGUF file (default: the same model)"
    )
    parser.add_argument(
        "--tolerance", type=float, default=1e-4, help="largest difference over largest value (default: 1e-4)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_loading_arguments(parser)
    add_common_arguments(parser)
    parser.set_defaults(command=compare, parser=parser)


def compare(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from tinystar_np.seeing.compare import compare_with_transformers

    if not arguments.tolerance >= 0:
        raise UsageError(f"--tolerance {arguments.tolerance}: it must be 0 or more.")
    where = {name: getattr(arguments, name) for name in ("revision", "offline", "cache_dir")}
    directory = find_model(arguments.model, **where)
    reference = find_model(arguments.against, **where) if arguments.against else directory
    raise_for_gguf(reference)
    model, tokenizer = load(directory, arguments.dtype)
    if arguments.ids:
        ids = _parsed(arguments.prompt)
    elif tokenizer is None:
        raise TokenizerError(f"{directory}: has no tokenizer files. Give token ids: --ids 5,17,3")
    else:
        ids = tokenizer.encode(arguments.prompt)
    note(f"{len(ids)} tokens; loading torch and transformers …", arguments)
    rows = compare_with_transformers(model, ids, reference)

    first = next((row for row in rows if row.exceeds(arguments.tolerance)), None)
    if arguments.json:
        listed = [asdict(row) | {"relative": row.relative} for row in rows]
        say(
            json.dumps(
                {"first": first and first.name, "tolerance": arguments.tolerance, "activations": listed}
            )
        )
        return FAILURE if first else OK
    mark = f"← the first beyond {arguments.tolerance:g}"
    cells = [
        (
            row.name,
            str(row.shape),
            f"{row.largest:.2e}",
            f"{row.error:.1e}",
            f"{row.relative:.1e}",
            mark if row is first else "",
        )
        for row in rows
    ]
    red = [i for i, row in enumerate(rows) if row.exceeds(arguments.tolerance)]
    head = ("activation", "shape", "largest", "differs by", "relative", "")
    say_table(head, cells, arguments, left=(0, 1, 5), red=red)
    beyond = len(red)
    say(
        f"\n{beyond} of {len(rows)} activations differ by more than {arguments.tolerance:g}."
        if beyond
        else f"\nAll {len(rows)} activations agree within {arguments.tolerance:g}."
    )
    return FAILURE if first else OK


def _parsed(ids: str) -> list[int]:
    try:
        return [int(part) for part in ids.split(",")]
    except ValueError as error:
        raise UsageError(f"--ids {ids}: token ids must be whole numbers with commas between.") from error
