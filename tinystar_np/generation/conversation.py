"""A conversation with a chat model, kept in a cache instead of being read again at every turn.

Each turn the template writes the whole conversation, of which only what the cache does not hold is read
(read_text.py). A template may write an old answer differently from how it was generated: without its
reasoning, or cut into other tokens. Then a little more is read.

All answers are drawn from one stream of random numbers. One that began anew at each turn would let answers
to similar messages repeat themselves.
"""

import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from tinystar_np.amounts import counted
from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.generation.conversation_prompt import Prompt, Prompts
from tinystar_np.generation.full_context import (
    Shift,
    system_length,
    turn_starts,
    without_oldest,
)
from tinystar_np.generation.language_model import LanguageModel, Progress
from tinystar_np.generation.loop import generated
from tinystar_np.generation.messages import Message, check_message, text_of, user_message
from tinystar_np.generation.messages_as_html import messages_as_html
from tinystar_np.generation.options import Sampling, SamplingOptions
from tinystar_np.generation.read_text import ReadText, common_length
from tinystar_np.generation.row import Piece, Row
from tinystar_np.generation.setting_names import takes_sampling
from tinystar_np.models.embedding_model import EmbeddingModel
from tinystar_np.text import Tokenizer
from tinystar_np.text.byte_run import UNKNOWN

if TYPE_CHECKING:
    from tinystar_np.vision.reading import ImageSource

WhenFull = Literal["stop", "shift"]
Pieces = Generator[Piece, None, None]


class Conversation:
    """A dialogue with a chat model.

    model      the chat model
    tokenizer  its tokenizer, with a chat template
    system     the system message; None for none
    context    the most tokens of the conversation; None for as many as the model has positions
    when_full  what happens at the end of the context: "stop" ends the answer, and refuses the next message;
               "shift" leaves out the oldest turns, see full_context.py
    on_shift   called with what was left out; without it there is a warning

    ``messages`` is the conversation so far: [{"role": "user", "content": "…"}, …]; the content of one with
    images is a list of parts (messages.py). ``left_out`` of them, after the system message, the model has no
    longer before it.
    Raises TokenizerError where the model has no chat template, InputError for a context it does not have.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer | None,
        system: str | None = None,
        *,
        context: int | None = None,
        when_full: WhenFull = "stop",
        on_shift: Callable[[Shift], None] | None = None,
    ) -> None:
        if isinstance(model, EmbeddingModel):
            raise model.does_not_write()
        if tokenizer is None:
            raise TokenizerError("This model has no tokenizer files, so it cannot hold a conversation.")
        if tokenizer.chat_template is None:
            raise TokenizerError(
                "This model has no chat template: it was not taught to answer, only to continue a text.\n"
                'Have it do that: tinystar ask -m MODEL "The beginning of a text"'
            )
        self._model, self._tokenizer = model, tokenizer
        self._prompts = Prompts(model, tokenizer, tokenizer.chat_template)
        end = () if tokenizer.end_id is None else (tokenizer.end_id,)
        self._end_ids = {*model.end_ids, *end}
        self.context, self.when_full = context, when_full
        self._on_shift = on_shift or (lambda shift: warnings.warn(str(shift), stacklevel=3))
        self.messages: list[Message] = []
        self._tokens: int | None = None
        self.system = system
        self.reset()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._model!r}, {counted(len(self.messages), 'message')})"

    def _repr_html_(self) -> str:
        """Return the messages, for notebooks."""
        return messages_as_html(self.messages)

    @property
    def context(self) -> int | None:
        """The most tokens of the conversation; None for any number."""
        return self._context

    @context.setter
    def context(self, tokens: int | None) -> None:
        most = self._model.context_length
        if tokens is not None and (tokens < 1 or (most is not None and tokens > most)):
            there = "any number" if most is None else f"{most} at most"
            raise InputError(f"context is {tokens}; it must be 1 or more, and the model holds {there}.")
        self._context = most if tokens is None else tokens

    @property
    def when_full(self) -> WhenFull:
        """What happens at the end of the context."""
        return self._when_full

    @when_full.setter
    def when_full(self, chosen: WhenFull) -> None:
        if chosen not in ("stop", "shift"):
            raise InputError(f"when_full is {chosen!r}; it must be 'stop' or 'shift'.")
        self._when_full = chosen

    @property
    def system(self) -> str | None:
        """The system message; None for none. Another one counts from the next answer on."""
        first = self.messages[0] if self.messages else {"role": ""}
        return text_of(first) if first["role"] == "system" else None

    @system.setter
    def system(self, text: str | None) -> None:
        rest = self.messages[1:] if self.system is not None else self.messages
        self.messages = [*([] if text is None else [{"role": "system", "content": text}]), *rest]
        self._tokens = None

    @property
    def tokens(self) -> int:
        """How many tokens of the context the conversation takes."""
        if self._tokens is None:
            shown = without_oldest(self.messages, self.left_out)
            self._tokens = len(self._prompts.ids(shown, add_generation_prompt=False)) if shown else 0
        return self._tokens

    def reset(self, keep: bool = False) -> None:
        """Start a new conversation, with the system message alone; or with all messages, which are kept."""
        if not keep:
            self.messages = self.messages[: 0 if self.system is None else 1]
            self._prompts.forget_other_images(())
        self.left_out = 0
        self.read = ReadText(self._model)
        self.rng: np.random.Generator | None = None
        """The random generator of all answers; None before the first that draws."""
        self.seed: int | None = None
        self._tokens = None
        self.tokens_read = 0
        """How many tokens of its prompt the last answer made the model read."""

    @takes_sampling
    def say(
        self,
        text: str,
        *,
        images: Sequence["ImageSource"] = (),
        progress: Progress | None = None,
        **sampling: Unpack[Sampling],
    ) -> Pieces:
        """Send the user's message and generate the answer.

        text      the user's message
        images    files' names, bytes, PIL images, or arrays (H, W, 3), which stand before it, or at the marks
                  that it has (``processor.form.mark``)
        progress  see ``Progress``
        sampling  see SamplingOptions. A seed begins the conversation's stream of random numbers, which goes
                  on from answer to answer until another seed is given.

        Returns a generator of the pieces of the answer. One may stop iterating at any time: the text until
        then is the answer. If there is none, the message counts as not sent.
        Raises, at the call, InputError for an option out of range or a message that the template refuses,
        and ContextFullError where the conversation has become too long for the model.
        """
        message = user_message(text, images, self._prompts.mark)
        return self._answers([*self.messages, message], progress, sampling)

    @takes_sampling
    def answer_again(self, *, progress: Progress | None = None, **sampling: Unpack[Sampling]) -> Pieces:
        """Generate another answer to the last message, in place of the one there is.

        The stream of random numbers goes on, so that it is another where tokens are drawn. The arguments,
        the result and the errors are those of ``say``; InputError also where there is no message.
        """
        return self._answers(self.messages[: self._last_turn() + 1], progress, sampling)

    @takes_sampling
    def continue_answer(self, *, progress: Progress | None = None, **sampling: Unpack[Sampling]) -> Pieces:
        """Go on with the last answer, which was cut off.

        The result is the rest; the arguments and the errors are those of ``answer_again``.
        """
        turn = self._last_turn()
        begun = "".join(map(text_of, self.messages[turn + 1 :]))
        return self._answers(self.messages[: turn + 1], progress, sampling, begun)

    def undo(self) -> str:
        """Forget the last message and its answer; returns the message. InputError where there is none."""
        turn = self._last_turn()
        message = text_of(self.messages[turn])
        self.messages = self.messages[:turn]
        self.left_out = _left_out(self.messages, self.left_out)
        self._tokens = None
        return message

    def _last_turn(self) -> int:
        starts = turn_starts(self.messages)
        if not starts:
            raise InputError("The conversation has no message yet.")
        return starts[-1]

    def _answers(
        self, messages: list[Message], progress: Progress | None, sampling: Sampling, begun: str = ""
    ) -> Pieces:
        """Check an answer's settings and its prompt, and return the generator of its pieces.

        messages  the conversation, up to the message that is answered
        begun     the beginning of the answer
        """
        options = SamplingOptions(**sampling)
        for message in messages:
            check_message(message)
        self._prompts.forget_other_images(messages)
        self.left_out = _left_out(messages, self.left_out)
        known = self._tokens_of(messages, begun)
        begun = begun.rstrip(UNKNOWN) if known is None else begun
        prompt = self._prompt(messages, begun, known)
        return self._generated(messages, prompt, begun, options, progress)

    def _generated(
        self,
        messages: list[Message],
        prompt: Prompt,
        begun: str,
        options: SamplingOptions,
        progress: Progress | None,
    ) -> Pieces:
        if options.max_new_tokens == 0:
            return
        self.left_out = prompt.left_out
        answer = prompt.answer
        fits, pauses = self._room(messages, prompt)
        row = Row(
            *(0, prompt.ids, self._tokenizer, options, self._end_ids, fits),
            begun=answer,
            rng=self._stream(options),
            pauses=pauses,
        )
        said = ended = False
        self.tokens_read = 0
        text = begun if answer is None else row.begun
        try:
            while not ended:
                cache = self.read.go_back(row.ids, options, prompt.images)
                held = int(cache.lengths[0])
                self.read.hold(row.ids, cache)
                self.tokens_read += len(row.ids) - held
                if prompt.shift:
                    self._on_shift(replace(prompt.shift, again=len(row.ids) - held))
                if not cache.rewindable:
                    # The next prompt may not have the same beginning of an answer after the message.
                    asked = self._prompts.ids(
                        without_oldest(messages, self.left_out), add_generation_prompt=False
                    )
                    end = common_length(asked, row.ids[:-1])
                    self.read.read_and_copy(row.ids, end, cache, options, progress, prompt.images)
                    held = int(cache.lengths[0])
                unread, images = row.ids[held:], prompt.images
                for piece in generated(self._model, row, unread, cache, options, progress, images):
                    pauses = row.pauses and piece.finish_reason == "context"
                    ended = piece.finish_reason is not None and not pauses
                    text, said = text + piece.text, said or bool(piece.text)
                    yield replace(piece, finish_reason=None) if pauses else piece
                if not ended:
                    new = None if answer is None else row.ids[len(prompt.ids) - len(answer) :]
                    prompt, answer = self._prompt(messages, text, new), new
                    self.left_out = prompt.left_out
                    row.go_on(prompt.ids, *self._room(messages, prompt))
        finally:  # also where the caller stops early or presses Ctrl-C
            if said or ended:
                self.messages = [*messages, {"role": "assistant", "content": text}]
                self._tokens = len(row.ids)

    def _prompt(self, messages: list[Message], text: str, answer: list[int] | None) -> Prompt:
        """Return the prompt of a turn, without the oldest ones if they have no room and may be left out."""
        given = messages, text, answer, self.left_out, self.context
        return self._prompts.fitted(*given, may_leave_out=self.when_full == "shift")

    def _tokens_of(self, messages: list[Message], begun: str) -> list[int] | None:
        """Return the tokens of the beginning of an answer, as they were generated; None if unknown."""
        if not begun:
            return []
        prompt = self._prompts.ids(without_oldest(messages, self.left_out))
        answer = self.read.ids[len(prompt) :]
        while answer and answer[-1] in self._end_ids:
            answer.pop()
        same = self.read.ids[: len(prompt)] == prompt and self._tokenizer.decode(answer) == begun
        return answer if same else None

    def _room(self, messages: list[Message], prompt: Prompt) -> tuple[int | None, bool]:
        """Say how many tokens fit after a prompt, and whether there are turns to leave out then.

        The last token is never read by the model, so it needs no position.
        """
        if self.context is None:
            return None, False
        more = turn_starts(messages)[-1] - system_length(messages) > prompt.left_out
        return self.context - len(prompt.ids) + 1, more and self.when_full == "shift"

    def _stream(self, options: SamplingOptions) -> "np.random.Generator | None":
        """Return the random generator of all answers; another seed begins another."""
        if options.temperature == 0:
            return None
        if self.rng is None or options.seed != self.seed:
            self.rng, self.seed = np.random.default_rng(options.seed), options.seed
        return self.rng


def _left_out(messages: list[Message], left_out: int) -> int:
    """Return how many of the oldest messages to leave out so that the last turn at least is there."""
    starts = turn_starts(messages)
    return min(left_out, starts[-1] - starts[0]) if starts else 0
