"""Continue a text."""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tinystar_np.cache import PREFILL
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.cli.image_option import add_image_option, settle_seeing_model
from tinystar_np.cli.model_argument import add_model_option
from tinystar_np.cli.open_model import (
    add_model_arguments,
    add_parallel_argument,
    add_sampling_arguments,
    chosen_settings,
    open_model,
    sampling_settings,
)
from tinystar_np.cli.prompt_text import read_prompt
from tinystar_np.cli.streams import OK, say, tell
from tinystar_np.cli.terminal import (
    add_common_arguments,
    add_text_arguments,
    note,
    progress_line,
    warnings_noted,
)
from tinystar_np.errors import TinyStarError
from tinystar_np.generation import Piece, stream
from tinystar_np.generation.image_prompt import seeing
from tinystar_np.generation.language_model import Progress
from tinystar_np.generation.options import Sampling
from tinystar_np.models import Decoder
from tinystar_np.text import Tokenizer

BARE = (4, 4096)
"""How many matrices, and their rows and columns, to measure memory with: 0.27 GB, read in 0.1 s."""
PIECES_UNSEEN = 2  # pieces of a prompt that are read without a progress line

EPILOG = """examples:
  {command} "The capital city of France is"
  {command} --model stories --temperature 0 "Once upon a time"
  echo "Once upon a time" | {command} -n 50 --stop "The end"
  cat story.txt | {command} - "The moral of the story:"
  tinystar ask --image cat.jpg "What is on the table?"

The text goes to stdout, everything else to stderr. Exit codes: 0 ok, 1 failure, 2 usage, 130 after Ctrl-C."""


def add_arguments(
    parser: argparse.ArgumentParser, default_model: str = "stories", images: bool = True
) -> None:
    """Declare the command's arguments; ``images`` says whether images may be given."""
    parser.add_argument(
        "prompt", nargs="*", help="the text to continue; a text on stdin goes after it, or where - is"
    )
    add_model_option(parser, default_model)
    if images:
        add_image_option(parser, "an image that the prompt is about")
    else:
        parser.set_defaults(image=[])
    add_sampling_arguments(parser, max_new_tokens=100)
    add_model_arguments(parser)
    add_parallel_argument(parser)
    add_common_arguments(parser)
    output = parser.add_argument_group("results")
    output.add_argument("--no-stream", action="store_true", help="print the text when it is complete")
    output.add_argument("--json", action="store_true", help="print one JSON object instead of the text")
    add_text_arguments(output)
    output.add_argument("--stats", action="store_true", help="print speeds and memory to stderr")
    parser.set_defaults(command=ask, parser=parser)


def ask(arguments: argparse.Namespace) -> int:
    """Run the command."""
    given = sampling_settings(arguments)
    if not arguments.prompt and sys.stdin.isatty():
        arguments.parser.print_help()
        return OK
    prompt = read_prompt(arguments.prompt, arguments)
    settle_seeing_model(arguments)

    started = time.perf_counter()
    model, tokenizer = open_model(arguments)
    loaded = time.perf_counter()
    given = chosen_settings(arguments, given, tokenizer)
    if not arguments.image:
        say_how_to_chat(arguments, tokenizer)
    pieces: list[Piece] = []
    arrived: list[float] = []
    at_once = not (arguments.json or arguments.no_stream)
    with progress_line(arguments) as show:

        def reading(read: int, tokens: int) -> None:
            if tokens > PIECES_UNSEEN * PREFILL:
                show(f"reading the prompt {read}/{tokens}" if read < tokens else "")

        with warnings_noted(arguments):  # of images
            answered = answer(model, tokenizer, prompt, arguments.image, reading, given)
        for piece in answered:
            pieces.append(piece)
            arrived.append(time.perf_counter())
            if at_once:
                say(piece.text, end="", raw=arguments.raw)
    text = "".join(piece.text for piece in pieces)
    if arguments.json:
        say(json.dumps(_result(arguments.model, prompt, text, pieces)))
    else:
        say("" if at_once else text, raw=arguments.raw)
    if pieces and pieces[-1].finish_reason == "context":
        note(f"The model's context of {model.context_length} tokens is full.", arguments)
    if arguments.stats:
        prompt_tokens = tokens_of(tokenizer, prompt, arguments.image)
        guessed = sum(piece.guessed for piece in pieces) if given["prompt_lookup_num_tokens"] else None
        tell(_statistics(loaded - started, loaded, arrived, prompt_tokens, guessed, model))
    return OK


def answer(
    model: Decoder,
    tokenizer: Tokenizer | None,
    prompt: str,
    images: Sequence[Path],
    progress: Progress,
    settings: Sampling,
) -> Iterator[Piece]:
    """Continue a text; with images, answer it by the model's chat template where it has one.

    A model that sees was taught to answer questions about images, and to continue no text after them.
    """
    if images and tokenizer is not None and tokenizer.chat_template is not None:
        from tinystar_np.generation import Conversation  # late: a text that is continued does not need it

        conversation = Conversation(model, tokenizer)
        return conversation.say(prompt, images=images, progress=progress, **settings)
    return stream(model, tokenizer, prompt, images=images, progress=progress, **settings)


def tokens_of(tokenizer: Tokenizer | None, prompt: str, images: Sequence[Path]) -> int:
    """Count the tokens of a prompt, and of its images, without those of a template."""
    if tokenizer is None:
        return 0
    tokens = len(tokenizer.encode(prompt))
    processor = seeing(tokenizer)
    if processor is not None:
        tokens += sum(processor.tokens_of(processor.pixels(image)) for image in images)
    return tokens


def say_how_to_chat(arguments: argparse.Namespace, tokenizer: Tokenizer | None) -> None:
    """Print a note if the model was taught to answer, which is not asked for here."""
    with suppress(TinyStarError):  # a damaged template hinders no one who does not use it
        if tokenizer is not None and tokenizer.chat_template is not None:
            question = f'tinystar chat -m {shlex.quote(arguments.model)} "…"'
            note(f"The model answers questions, too: {question} uses its chat template.", arguments)


def _result(model: str, prompt: str, text: str, pieces: list[Piece]) -> JsonObject:
    return {
        "model": model,
        "prompt": prompt,
        "text": text,
        "finish_reason": pieces[-1].finish_reason if pieces else "length",
        "tokens": [{"id": piece.token_id, "logprob": piece.logprob} for piece in pieces],
    }


def _statistics(
    load_seconds: float,
    loaded: float,
    arrived: list[float],
    prompt_tokens: int,
    guessed: int | None,
    model: Decoder,
) -> str:
    """Describe the time and memory taken. The first token is part of the prompt's pass.

    Weights that were never touched are counted, too, though they are not in memory yet.

    Generating is compared with the speed of memory: each pass reads the weights from memory once.
    """
    # Imported late: an answer without --stats does not need them.
    from tinystar_np.inspection.held import held_by_each
    from tinystar_np.inspection.speed import bandwidth, bare_matrices, weight_type

    lines = [f"load       {load_seconds:8.3f} s"]

    def add(what: str, seconds: float, tokens: int) -> None:
        lines.append(f"{what:10} {seconds:8.3f} s  {tokens:5d} tokens  {tokens / seconds:8.1f} tokens/s")

    if arrived:
        add("prompt", arrived[0] - loaded, prompt_tokens)
    if len(arrived) > 1:
        add("generation", arrived[-1] - arrived[0], len(arrived) - 1)
    if guessed is not None:
        passes = len(arrived) - guessed
        lines.append(
            f"lookup     {guessed:5d} of {len(arrived)} tokens were guessed: {passes} passes for all"
        )
    each = held_by_each(model)  # before more is taken to measure
    if len(arrived) > 1 and len(each) == 1:  # several processes would have to be measured together
        read, limit = each[0].read, bandwidth(bare_matrices(BARE))
        reached = (len(arrived) - 1 - (guessed or 0)) / (arrived[-1] - arrived[0]) * read
        lines.append(
            f"bandwidth  {reached / 1e9:8.2f} GB/s of weights, {read / 1e6:.2f} MB per token: "
            f"{reached / limit:.0%} of the {limit / 1e9:.1f} GB/s that bare products read now"
        )
    weights, peaks = [one.weights for one in each], [one.peak for one in each]
    bits = 8 * sum(weights) / sum(one.numbers for one in each)

    def most(of_each: list[int]) -> str:
        return f", {max(of_each) / 1e6:.0f} MB at most in one of {len(each)} processes" * (len(each) > 1)

    lines.append(
        f"weights    {sum(weights) / 1e6:8.0f} MB, {bits:.3g} bits each ({weight_type(model)}){most(weights)}"
    )
    lines.append(f"memory     {sum(peaks) / 1e6:8.0f} MB at the peak{most(peaks)}")
    return "\n".join(lines)
