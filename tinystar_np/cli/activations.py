"""The table of activations that two runs were compared by, and the arguments that choose tokens for them."""

import argparse
import sys
from collections.abc import Sequence

from tinystar_np.cli.streams import say
from tinystar_np.cli.terminal import UsageError, columns_of, say_styled, say_table, styled
from tinystar_np.cli.wording import wrapped
from tinystar_np.errors import TokenizerError
from tinystar_np.seeing.comparison.activations import Difference
from tinystar_np.text import Tokenizer

AROUND = 5  # lines shown before and after the first that differs
NARROW, WIDE = 72, 110  # columns of a terminal for the shapes, and for all numbers


def add_comparing_arguments(parser: argparse.ArgumentParser, tolerance: float) -> None:
    """Add the options of commands that compare activations; ``tolerance`` is the command's own default."""
    parser.add_argument(
        "--ids", action="store_true", help="the prompt is token ids with commas between: 5,17,3"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=tolerance,
        metavar="X",
        help="largest difference over largest value (default: %(default)g)",
    )
    parser.add_argument(
        "--all", action="store_true", help=f"list all activations, not {AROUND} around the first that differs"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def check_tolerance(arguments: argparse.Namespace) -> None:
    """Raise UsageError for a tolerance that is none."""
    if not arguments.tolerance >= 0:
        raise UsageError(f"--tolerance {arguments.tolerance}: it must be 0 or more.")


def given_ids(prompt: str, tokenizer: Tokenizer | None, arguments: argparse.Namespace) -> list[int]:
    """Return the tokens of a prompt, or those that it lists with ``--ids``."""
    if arguments.ids:
        try:
            return [int(part) for part in prompt.split(",")]
        except ValueError as error:
            raise UsageError(
                f"--ids {prompt}: token ids must be whole numbers with commas between."
            ) from error
    if tokenizer is None:
        raise TokenizerError("The model has no tokenizer files. Give token ids: --ids 5,17,3")
    return tokenizer.encode(prompt)


def say_activations(
    rows: Sequence[Difference], first: Difference | None, arguments: argparse.Namespace
) -> None:
    """Print the activations around the first that differs, or all with ``--all``."""
    start, stop = 0, len(rows)
    if not arguments.all:
        if first is None:
            return
        at = rows.index(first)
        start, stop = max(at - AROUND, 0), min(at + AROUND + 1, len(rows))
    columns = columns_of(sys.stdout)
    if start:
        say(f"… {start} before these agree …")
    shown = rows[start:stop]
    red = [i for i, row in enumerate(shown) if row.exceeds(arguments.tolerance)]
    if columns < NARROW:
        for i, row in enumerate(shown):
            words = f"{row.name} {row.relative:.1e}{' ← first' if row is first else ''}"
            line = wrapped(words, columns, indent=2)
            say(styled(line, "red", sys.stdout, arguments) if i in red else line, raw=True)
    elif columns < WIDE:
        brief = [
            (row.name, _shape(row), f"{row.relative:.1e}", "← first" if row is first else "") for row in shown
        ]
        say_table(("activation", "shape", "relative", ""), brief, arguments, left=(0, 1, 3), red=red)
    else:
        mark = f"← the first beyond {arguments.tolerance:g}"
        cells = [
            (
                row.name,
                _shape(row),
                f"{row.largest:.2e}",
                f"{row.error:.1e}",
                f"{row.relative:.1e}",
                mark if row is first else "",
            )
            for row in shown
        ]
        head = ("activation", "shape", "largest", "differs by", "relative", "")
        say_table(head, cells, arguments, left=(0, 1, 5), red=red)
    if stop < len(rows):
        after = sum(row.exceeds(arguments.tolerance) for row in rows[stop:])
        say(
            wrapped(f"… {len(rows) - stop} after these, of which {after} differ; --all lists them …", columns)
        )


def _shape(row: Difference) -> str:
    return " × ".join(map(str, row.shape))


def say_answer(answer: str, arguments: argparse.Namespace) -> None:
    """Print the last lines of a comparison."""
    columns = columns_of(sys.stdout)
    for line in answer.splitlines():
        say_styled(wrapped(line, columns), "bold", arguments)
