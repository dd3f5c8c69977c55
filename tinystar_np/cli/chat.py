"""Talk with a chat model, which remembers the conversation; or ask it one question."""

import argparse
import shutil
import sys
from pathlib import Path

from tinystar_np.checkpoints.hub import find_model
from tinystar_np.cli.chat_commands import Commands
from tinystar_np.cli.chat_history import History, history_file
from tinystar_np.cli.chat_input import PipedLines, TypedLines, read_entry
from tinystar_np.cli.chat_session import Session
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
from tinystar_np.cli.streams import OK, OutputError, say
from tinystar_np.cli.terminal import (
    MODEL_HELP,
    UsageError,
    add_common_arguments,
    add_text_arguments,
    note,
    say_error,
)
from tinystar_np.cli.wording import wrapped
from tinystar_np.errors import ContextFullError, InputError, TinyStarError
from tinystar_np.generation.conversation import Conversation
from tinystar_np.generation.options import Sampling
from tinystar_np.generation.saved_conversation import check_free, read_conversation

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"

EPILOG = """With a question, it is answered once; a text on stdin goes after it. Without, each line is a
message. At a terminal a paste is one, too; lines between \"\"\" and \"\"\" are one; a line that ends in \\
goes on with the next. A line that begins with a slash is a command. /help lists them; two are:
  /reset   forget the conversation and begin anew
  /exit    end; so does Ctrl-D, and Ctrl-C where nothing is typed
Ctrl-C during an answer stops the answer: what was said of it stays part of the conversation.

examples:
  {command} -m smollm2 "What is the capital of France?"
  cat notes.txt | {command} "Sum this up:"
  {command} --model ./llama-3.2-1b-instruct --system "Answer in one sentence."
  {command} --resume talk.json --save talk.json "And in winter?"
  printf 'Hello\\nAnd in French?\\n' | {command} --temperature 0

The answers go to stdout, everything else to stderr. A model without a chat template only continues texts:
that is what `tinystar ask` is for. What is typed is kept for the arrow keys of later conversations, in a
file that only you can read (/show names it); TINYSTAR_NP_HISTORY=off keeps nothing.
Exit codes: 0 ok, 1 failure, 2 usage, 130 after Ctrl-C."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("question", nargs="*", help="answer this and end; - is the whole text on stdin")
    add_model_option(parser, DEFAULT_MODEL, f"a model with a chat template: {MODEL_HELP}")
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before the first message")
    add_image_option(parser, "an image that the question is about")
    conversation = parser.add_argument_group("conversation")
    conversation.add_argument("--whole", action="store_true", help="all of stdin is one message")
    conversation.add_argument(
        "--resume", type=Path, metavar="FILE", help="go on with a conversation that /save has written"
    )
    conversation.add_argument("--save", type=Path, metavar="FILE", help="save the conversation at its end")
    conversation.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="the most tokens of the conversation (default: those the model has or was trained on)",
    )
    conversation.add_argument(
        "--when-full",
        choices=("stop", "shift"),
        default="stop",
        help="at the end of the context: stop, or leave out the oldest messages and read the others again "
        "(default: stop)",
    )
    conversation.add_argument("--no-history", action="store_true", help="do not keep what is typed")
    add_sampling_arguments(parser, max_new_tokens=512)
    add_model_arguments(parser)
    add_parallel_argument(parser)
    add_common_arguments(parser)
    add_text_arguments(parser)
    parser.add_argument("--stats", action="store_true", help="print the figures of each answer to stderr")
    parser.set_defaults(command=chat, parser=parser)


def chat(arguments: argparse.Namespace) -> int:
    """Run the command."""
    given = sampling_settings(arguments)
    settle_seeing_model(arguments, read_conversation(arguments.resume).model if arguments.resume else None)
    question = None
    if arguments.question or arguments.whole:
        question = read_prompt(arguments.question, arguments)
        if not question.strip():
            raise InputError("The question is empty.")
        if arguments.model == DEFAULT_MODEL and len(arguments.question) == 1 and _is_model(question):
            note(
                f"{question} is taken as the question. For that model: tinystar chat -m {question}", arguments
            )
    if arguments.image and question is None:
        raise UsageError("--image needs a question; in a conversation /image FILE shows a picture.")
    typed = question is None and sys.stdin.isatty()
    if arguments.save:
        check_free(arguments.save)
    session, commands = begin(arguments, given, typed)
    try:
        if question is not None:
            session.answer("say", question, arguments.image)
        else:
            if typed:
                width = shutil.get_terminal_size().columns - 1
                note(f"{wrapped(session.about(), width)}\n/help lists the commands, Ctrl-D ends.", arguments)
            converse(session, commands)
    finally:  # after Ctrl-C and errors, too
        if arguments.save and session.conversation.messages:
            commands.save_to(arguments.save)
    return OK


def _is_model(word: str) -> bool:
    """Say whether a model on this disk has this name."""
    try:
        return find_model(word, offline=True, config_only=True).exists()
    except TinyStarError:
        return False


def begin(arguments: argparse.Namespace, given: Sampling, typed: bool) -> tuple[Session, Commands]:
    """Load the model, and the saved conversation if one is resumed."""
    model, tokenizer = open_model(arguments)
    context = arguments.context
    try:
        conversation = Conversation(
            *(model, tokenizer, arguments.system),
            context=model.context_length or model.trained_length if context is None else context,
            when_full=arguments.when_full,
            on_shift=lambda shift: session.say_shift(shift),
        )
    except InputError as error:
        raise UsageError(str(error)) from error
    session = Session(arguments, model, conversation, chosen_settings(arguments, given, tokenizer), typed)
    commands = Commands(session, tokenizer)
    if arguments.resume:
        commands.resume(arguments.resume)
        if arguments.system is not None:
            conversation.system = arguments.system
    return session, commands


def run_command(session: Session, commands: Commands, text: str) -> bool:
    """Run a command; at a terminal Ctrl-C stops it, as the reading of a large picture, and nothing else.

    Returns whether the conversation goes on.
    """
    try:
        return commands.run(text)
    except KeyboardInterrupt:
        if not session.typed:
            raise
        say()
        note(f"{text.split()[0]} was stopped.", session.arguments)
        return True


def converse(session: Session, commands: Commands) -> None:
    """Answer message after message, and run the commands among them."""
    arguments = session.arguments
    history = History(history_file() if session.typed and not arguments.no_history else None)
    lines = TypedLines(history, commands.completions) if session.typed else PipedLines()
    while True:
        try:
            if history.problem:
                note(f"What is typed is not kept: {history.path}: {history.problem}.", arguments)
                history.problem = history.path = None
            entry = read_entry(lines)
            if entry is None:
                return
            if not entry.text:
                continue
            if isinstance(lines, TypedLines):
                history.add(entry.text)
                lines.remember(entry.text)
            if not entry.is_command:
                commands.send(entry.text)
            elif not run_command(session, commands, entry.text):
                return
        except OutputError:
            raise
        except TinyStarError as error:
            words = f"{error}\n{session.what_to_do()}" if isinstance(error, ContextFullError) else str(error)
            if session.typed:
                say_error(words, arguments)
            elif isinstance(error, ContextFullError):
                raise ContextFullError(words) from error
            else:
                raise
