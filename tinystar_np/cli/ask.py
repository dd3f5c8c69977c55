"""Continue a text."""

import argparse
import json
import sys
import time
from typing import Any

from tinystar_np.cli.sampling_arguments import add_sampling_arguments, sampling_settings
from tinystar_np.cli.terminal import OK, add_common_arguments, add_loading_arguments, note
from tinystar_np.errors import InputError
from tinystar_np.generation import Piece, stream
from tinystar_np.loading import load

EXAMPLES = """examples:
  {command} "The capital city of France is"
  {command} --model stories --temperature 0 "Once upon a time"
  echo "Once upon a time" | {command} -n 50 --stop "The end" -

The text goes to stdout, everything else to stderr. Exit codes: 0 ok, 1 failure, 2 usage, 130 after Ctrl-C."""


def add_arguments(parser: argparse.ArgumentParser, default_model: str) -> None:
    """Declare the command's arguments."""
    parser.add_argument("prompt", nargs="*", help="the text to continue; - or a pipe reads it from stdin")
    parser.add_argument(
        "-m",
        "--model",
        default=default_model,
        help="directory, hub id or shipped model (default: %(default)s)",
    )
    add_sampling_arguments(parser, max_new_tokens=100)
    add_loading_arguments(parser)
    add_common_arguments(parser)
    output = parser.add_argument_group("results")
    output.add_argument("--no-stream", action="store_true", help="print the text when it is complete")
    output.add_argument("--json", action="store_true", help="print one JSON object instead of the text")
    output.add_argument("--stats", action="store_true", help="print times and memory to stderr")
    parser.set_defaults(command=ask, parser=parser)


def ask(arguments: argparse.Namespace) -> int:
    """Run the command."""
    given = sampling_settings(arguments)
    if not arguments.prompt and sys.stdin.isatty():
        arguments.parser.print_help()
        return OK
    prompt = read_prompt(arguments.prompt)

    started = time.perf_counter()
    model, tokenizer = load(
        arguments.model,
        arguments.dtype,
        revision=arguments.revision,
        offline=arguments.offline,
        cache_dir=arguments.cache_dir,
    )
    loaded = time.perf_counter()
    pieces: list[Piece] = []
    arrived: list[float] = []
    shown = not (arguments.json or arguments.no_stream)
    for piece in stream(model, tokenizer, prompt, **given):
        pieces.append(piece)
        arrived.append(time.perf_counter())
        if shown:
            print(piece.text, end="", flush=True)
    text = "".join(piece.text for piece in pieces)
    if arguments.json:
        print(json.dumps(_result(arguments.model, prompt, text, pieces)))
    else:
        print("" if shown else text)
    if pieces and pieces[-1].finish_reason == "context":
        note(f"The model's context of {model.context_length} tokens is full.", arguments)
    if arguments.stats:
        prompt_tokens = len(tokenizer.encode(prompt)) if tokenizer else 0
        guessed = sum(piece.guessed for piece in pieces) if given["prompt_lookup_num_tokens"] else None
        print(_statistics(loaded - started, loaded, arrived, prompt_tokens, guessed), file=sys.stderr)
    return OK


def read_prompt(words: list[str]) -> str:
    """Return the prompt from the arguments, or from stdin where there are none or a dash.

    The line end that ``echo`` puts behind a text is no part of it.
    """
    if words and words != ["-"]:
        return " ".join(words)
    try:
        return sys.stdin.buffer.read().decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"The prompt on stdin is not UTF-8 (byte {error.start}). Convert it first."
        ) from error


def _result(model: str, prompt: str, text: str, pieces: list[Piece]) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": prompt,
        "text": text,
        "finish_reason": pieces[-1].finish_reason if pieces else "length",
        "tokens": [{"id": piece.token_id, "logprob": piece.logprob} for piece in pieces],
    }


def _statistics(
    load_seconds: float, loaded: float, arrived: list[float], prompt_tokens: int, guessed: int | None
) -> str:
    """Say where the time went. The first token comes with the prompt: it is what the prompt's pass yields."""
    lines = [f"load       {load_seconds:8.3f} s"]
    if arrived:
        prefill = arrived[0] - loaded
        lines.append(
            f"prompt     {prefill:8.3f} s  {prompt_tokens:5d} tokens  {prompt_tokens / prefill:8.1f} tokens/s"
        )
    if len(arrived) > 1:
        seconds, tokens = arrived[-1] - arrived[0], len(arrived) - 1
        lines.append(f"generation {seconds:8.3f} s  {tokens:5d} tokens  {tokens / seconds:8.1f} tokens/s")
    if guessed is not None:
        passes = len(arrived) - guessed
        lines.append(
            f"lookup     {guessed:5d} of {len(arrived)} tokens were guessed: {passes} passes for all"
        )
    return "\n".join([*lines, f"memory     {_peak_memory() / 1e6:8.0f} MB at the peak"])


def _peak_memory() -> int:
    """Return the most bytes that this process has had in memory, mapped weights included."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
