"""Talk with a chat model, which remembers the conversation."""

import argparse
import sys
from contextlib import closing

from tinystar_np.cli.model_argument import add_model_option
from tinystar_np.cli.open_model import (
    add_model_arguments,
    add_sampling_arguments,
    open_model,
    sampling_settings,
)
from tinystar_np.cli.streams import OK, OutputError, read_text, say, tell
from tinystar_np.cli.terminal import (
    MODEL_HELP,
    add_common_arguments,
    add_text_arguments,
    note,
    say_error,
)
from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.generation.conversation import Conversation
from tinystar_np.generation.options import Sampling

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"

PROMPT = "> "

EPILOG = """one line is one message; a line may also be one of these:
  /reset   forget the conversation and begin anew
  /exit    end; so does Ctrl-D, and Ctrl-C where you would type
Ctrl-C during an answer stops the answer: what was said of it stays part of the conversation.

examples:
  {command}
  {command} --model ./llama-3.2-1b-instruct --system "Answer in one sentence."
  printf 'Hello\\nAnd in French?\\n' | {command} --temperature 0

The answers go to stdout, everything else to stderr. A model without a chat template only continues texts:
that is what `tinystar ask` is for. Exit codes: 0 ok, 1 failure, 2 usage, 130 after Ctrl-C."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model_option(parser, DEFAULT_MODEL, f"a model with a chat template: {MODEL_HELP}")
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before the first message")
    add_sampling_arguments(parser, max_new_tokens=512)
    add_model_arguments(parser)
    add_common_arguments(parser)
    add_text_arguments(parser)
    parser.set_defaults(command=chat, parser=parser)


def chat(arguments: argparse.Namespace) -> int:
    """Run the command."""
    settings = sampling_settings(arguments)
    model, tokenizer = open_model(arguments)
    conversation = Conversation(model, tokenizer, arguments.system)
    typed = sys.stdin.isatty()
    if typed:
        note("/reset begins anew, /exit or Ctrl-D ends, Ctrl-C stops an answer.", arguments)
    while True:
        try:
            line = read_typed_line() if typed else read_piped_line()
            if line is None or line.strip() == "/exit":
                return OK
            respond(conversation, line.strip(), settings, arguments, typed)
        except OutputError:
            raise
        except TinyStarError as error:
            if not typed:
                raise
            say_error(f"{error}\n/reset begins a new conversation.", arguments)


def respond(
    conversation: Conversation,
    message: str,
    settings: Sampling,
    arguments: argparse.Namespace,
    typed: bool,
) -> None:
    """Answer a message, or run the command in it; at a terminal Ctrl-C stops an answer and nothing else."""
    if message == "/reset":
        conversation.reset()
        note("A new conversation.", arguments)
    elif message:
        try:
            answer(conversation, message, settings, arguments)
        except KeyboardInterrupt:
            if not typed:
                raise
            say()


def read_typed_line() -> str | None:
    """Ask for the user's next line; None after Ctrl-D."""
    try:
        if sys.stdout.isatty():
            import readline  # noqa: F401 — gives input() a history, and keys to edit a line

            return input(PROMPT)
        tell(PROMPT, end="")  # stdout is for the answers alone
        return input()
    except EOFError:
        tell()
        return None
    except UnicodeDecodeError as error:
        raise InputError("What was typed is not in the terminal's encoding.") from error


def read_piped_line() -> str | None:
    """Read the next line of stdin; None at its end."""
    return read_text(sys.stdin.buffer.readline, "A line") or None


def answer(
    conversation: Conversation, message: str, settings: Sampling, arguments: argparse.Namespace
) -> None:
    """Print the answer to a message as it comes."""
    piece = None
    # Closed also if Ctrl-C comes while a piece is printed, so that the conversation keeps the answer so far.
    with closing(conversation.say(message, **settings)) as pieces:
        for piece in pieces:
            say(piece.text, end="", raw=arguments.raw)
    say()
    if piece and piece.finish_reason == "length":
        note(f"Cut off after {settings['max_new_tokens']} tokens; --max-tokens allows more.", arguments)
    elif piece and piece.finish_reason == "context":
        note("The model's context is full. /reset begins a new conversation.", arguments)
