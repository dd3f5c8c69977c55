"""A conversation at a terminal or from a pipe: its settings, its answers as they come, and their figures."""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tinystar_np.cache import PREFILL
from tinystar_np.cli.streams import say, tell
from tinystar_np.cli.terminal import note, progress_line, warnings_noted
from tinystar_np.cli.wording import count_of, speed_of
from tinystar_np.generation.conversation import Conversation, Pieces
from tinystar_np.generation.full_context import Shift
from tinystar_np.generation.language_model import Progress
from tinystar_np.generation.options import Sampling
from tinystar_np.models import Decoder

NEARLY_FULL = 0.9  # of the context: the user is told once


@dataclass
class Answered:
    """The times of one answer, in seconds since it was asked for.

    read          how many tokens of the prompt were read, and until when
    tokens        of the answer, and when the last came
    """

    read: int = 0
    first: float = 0.0
    tokens: int = 0
    last: float = 0.0


class Session:
    """A conversation and what the commands change of it.

    arguments     of the command
    model         the model
    conversation  with it
    settings      of sampling
    typed         whether a person types at a terminal

    file  where the conversation was last saved or loaded; None for nowhere
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        model: Decoder,
        conversation: Conversation,
        settings: Sampling,
        typed: bool,
    ) -> None:
        self.arguments, self.model = arguments, model
        self.conversation, self.settings, self.typed = conversation, settings, typed
        self.file: Path | None = None
        self.answered: Answered | None = None
        self._told = False

    def answer(self, how: str, message: str = "", images: Sequence[Path] = ()) -> None:
        """Print an answer as it comes; at a terminal Ctrl-C stops it and nothing else.

        how      "say" a message, "answer_again", or "continue_answer"
        message  the message
        images   that stand before it
        """
        self.answered = None
        with progress_line(self.arguments) as show:

            def reading(read: int, tokens: int) -> None:
                if tokens > 2 * PREFILL:
                    show(f"reading {read}/{tokens} tokens" if read < tokens else "")

            try:
                # The template may be busy for long, too, and the reading of images.
                with warnings_noted(self.arguments):
                    pieces = self._pieces(how, message, images, reading)
                self._print(pieces)
            except KeyboardInterrupt:
                if not self.typed:
                    raise
                say()
                if self.answered is None and how == "say":
                    note("Nothing was answered yet: the message is forgotten.", self.arguments)
        if self.answered is not None:
            self._say_how_full()
            if self.arguments.stats:
                tell(self.figures())

    def _pieces(self, how: str, message: str, images: Sequence[Path], progress: Progress) -> Pieces:
        conversation, settings = self.conversation, self.settings
        if how == "say":
            return conversation.say(message, images=images, progress=progress, **settings)
        again = conversation.answer_again if how == "answer_again" else conversation.continue_answer
        return again(progress=progress, **settings)

    def _print(self, pieces: Pieces) -> None:
        begun, times, piece = time.perf_counter(), Answered(), None
        # Closed also if Ctrl-C comes while a piece is printed, so that the conversation keeps the answer.
        with closing(pieces):
            for piece in pieces:
                times.last = time.perf_counter() - begun
                times.first = times.first or times.last
                times.tokens += 1
                times.read = self.conversation.tokens_read
                self.answered = times
                say(piece.text, end="", raw=self.arguments.raw)
        say()
        if piece and piece.finish_reason == "length":
            more = "; /continue goes on" if self.typed else ""
            most = self.settings["max_new_tokens"]
            note(f"Cut off after {most} tokens (--max-tokens){more}.", self.arguments)
        elif piece and piece.finish_reason == "context":
            note(f"The context is full. {self.what_to_do()}", self.arguments)

    def _say_how_full(self) -> None:
        """Say once that the context is nearly full, before an answer is cut off by it."""
        used, context = self.conversation.tokens, self.conversation.context
        nearly = context is not None and NEARLY_FULL * context <= used <= context
        if nearly and not self._told and self.conversation.when_full == "stop":
            note(f"The context is nearly full: {self.fullness()}. {self.what_to_do()}", self.arguments)
        self._told = nearly

    def say_shift(self, shift: Shift) -> None:
        """Say what is left out of a full context, on a line of its own."""
        if self.typed and sys.stdout.isatty() and self.answered is not None:
            say()
        note(str(shift), self.arguments)

    def what_to_do(self) -> str:
        """Say what helps where the context is full."""
        if not self.typed:
            return "--when-full shift goes on without the oldest messages."
        if self.conversation.when_full == "shift":
            return "This one turn fills it: /undo, or /reset begins a new conversation."
        return "/reset begins a new conversation, /set when_full shift goes on without the oldest messages."

    def fullness(self) -> str:
        """Say how much of the context is used."""
        used, context = self.conversation.tokens, self.conversation.context
        return f"{used} tokens" if context is None else f"{used} of {context} tokens ({used / context:.0%})"

    def figures(self) -> str:
        """Describe the last answer: tokens, seconds, speeds, and the context."""
        lines = []
        done = self.answered
        if done:
            lines.append(_line("prompt", done.read, done.first))
            if done.tokens > 1:
                lines.append(_line("answer", done.tokens - 1, done.last - done.first))
        return "\n".join([*lines, f"context {self.fullness()}"])

    def about(self) -> str:
        """Say what the model is: its name, the type of its weights, its size and its context."""
        from tinystar_np.inspection.speed import weight_type  # late: a single question does not need it

        context = self.conversation.context
        held = "any length of context" if context is None else f"context of {context} tokens"
        vision = self.model.vision
        size = count_of(self.model.parameters + (0 if vision is None else vision.parameters))
        return f"{self.arguments.model}: {weight_type(self.model)}, {size} parameters, {held}"


def _line(what: str, tokens: int, seconds: float) -> str:
    return f"{what:7} {tokens:5d} tokens {seconds:7.2f} s {speed_of(tokens / seconds):>6}/s"
