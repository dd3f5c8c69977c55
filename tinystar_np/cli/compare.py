"""Run a model here and in transformers on the same prompt, and show how far each activation differs.

The last lines are the answer: the first activation that differs by more than the tolerance, and why. Needs
torch and transformers. Exit code 1 if any activation exceeds the tolerance.
"""

import argparse
import json
import sys
from contextlib import suppress
from dataclasses import asdict

from tinystar_np.amounts import counted
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.cli.activations import (
    add_comparing_arguments,
    check_tolerance,
    given_ids,
    say_activations,
    say_answer,
)
from tinystar_np.cli.model_argument import add_model_word
from tinystar_np.cli.open_model import raise_for_embeddings, raise_for_gguf
from tinystar_np.cli.streams import FAILURE, OK, say
from tinystar_np.cli.terminal import add_common_arguments, add_loading_arguments, columns_of, note
from tinystar_np.cli.wording import wrapped
from tinystar_np.errors import InputError
from tinystar_np.loading import load
from tinystar_np.seeing.comparison.models import default_ids

PROMPT = (
    "Once upon a time, in a small town by the sea, there lived a girl who loved to count: 1, 2, 3. "
    "What comes next? asked her friend."
)
"""Some forty tokens: enough for positions, masks and small windows to count."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model_word(parser, "prompt")
    parser.add_argument(
        "prompt", nargs="?", help="the text to run both on (default: a text of some 40 tokens)"
    )
    parser.add_argument(
        "--against", metavar="MODEL", help="what transformers loads, no GGUF file (default: the same model)"
    )
    add_comparing_arguments(parser, 1e-4)
    add_loading_arguments(parser)
    add_common_arguments(parser)
    parser.set_defaults(command=compare, parser=parser, in_one_process=True)


def compare(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from tinystar_np.seeing.comparison.activations import first_beyond
    from tinystar_np.seeing.comparison.with_transformers import run_both

    check_tolerance(arguments)
    where = {name: getattr(arguments, name) for name in ("revision", "offline", "cache_dir")}
    directory = find_model(arguments.model, **where)
    reference = find_model(arguments.against, **where) if arguments.against else directory
    raise_for_gguf(reference)
    model, tokenizer = load(directory, arguments.dtype)
    raise_for_embeddings(model)
    if arguments.prompt is not None:
        ids = given_ids(arguments.prompt, tokenizer, arguments)
    else:
        ids = default_ids(model).tolist()
        if tokenizer is not None:
            with suppress(InputError):  # of a vocabulary of a few letters
                ids = tokenizer.encode(PROMPT)[: model.context_length]
    note(f"{counted(len(ids), 'token')}; loading torch and transformers …", arguments)
    found = run_both(model, ids, reference)

    rows = found.differences
    first = first_beyond(rows, arguments.tolerance)
    answer = found.answer(arguments.tolerance)
    if arguments.json:
        facts = {
            "answer": answer,
            "first": first and first.name,
            "tolerance": arguments.tolerance,
            "tokens": found.tokens,
            "unseen": found.unseen,
            "activations": [asdict(row) | {"relative": row.relative} for row in rows],
        }
        say(json.dumps(facts))
        return FAILURE if first else OK
    say_activations(rows, first, arguments)
    beyond = sum(row.exceeds(arguments.tolerance) for row in rows)
    if beyond:
        paragraph = f"{beyond} of {len(rows)} activations differ by more than {arguments.tolerance:g}."
        columns = columns_of(sys.stdout)
        say(f"\n{wrapped(paragraph, columns)}")
    columns = columns_of(sys.stderr)
    for words in found.unseen:
        note(wrapped(f"Not to be seen with this prompt: {words}.", columns), arguments)
    say_answer(answer, arguments)
    return FAILURE if first else OK
