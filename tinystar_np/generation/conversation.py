"""A conversation with a chat model, kept in a cache instead of being read again at every turn.

Each turn the template writes the whole conversation, of which only what the cache does not hold is read:

    held    <|user|> Hello <|assistant|> Hi!
    prompt  <|user|> Hello <|assistant|> Hi! <|end|> <|user|> How are you? <|assistant|>
    read                                     ─────────────────────────────────────────

Mostly the prompt begins with what is held. But a template may write an old answer differently from how it was
generated: without its reasoning, or cut into other tokens. Then the cache is truncated to the last common
token. A recurrent state cannot be truncated, so a copy of it is kept where a message of the user ends, since
the next prompt begins with the same: then only the answer is read again.
"""

from collections.abc import Generator, Sequence
from itertools import takewhile
from operator import eq
from typing import Unpack

from tinystar_np.amounts import counted
from tinystar_np.cache import Cache
from tinystar_np.errors import TokenizerError
from tinystar_np.generation.loop import (
    LanguageModel,
    Piece,
    Row,
    check_prompt,
    generated,
    prefill,
    reading,
    room_after,
    roomy_cache,
)
from tinystar_np.generation.messages_as_html import messages_as_html
from tinystar_np.generation.options import Sampling, SamplingOptions
from tinystar_np.generation.prompt import encode_prompt
from tinystar_np.generation.setting_names import takes_sampling
from tinystar_np.text import Tokenizer

COPIES = 2  # of a cache that cannot be cut: after the user's newest message, and after the one before it

Message = dict[str, str]


class Conversation:
    """A dialogue with a chat model.

    model      the chat model
    tokenizer  its tokenizer, with a chat template
    system     the system message; None for none

    ``messages`` is the conversation so far: [{"role": "user", "content": "…"}, …].
    Raises TokenizerError where the model has no chat template.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer | None, system: str | None = None) -> None:
        if tokenizer is None:
            raise TokenizerError("This model has no tokenizer files, so it cannot hold a conversation.")
        if tokenizer.chat_template is None:
            raise TokenizerError(
                "This model has no chat template: it was not taught to answer, only to continue a text.\n"
                'Have it do that: tinystar ask -m MODEL "The beginning of a text"'
            )
        self._model, self._tokenizer, self._template = model, tokenizer, tokenizer.chat_template
        end = () if tokenizer.end_id is None else (tokenizer.end_id,)
        self._end_ids = {*model.end_ids, *end}
        self._system: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self.reset()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._model!r}, {counted(len(self.messages), 'message')})"

    def _repr_html_(self) -> str:
        """Return the messages, for notebooks."""
        return messages_as_html(self.messages)

    def reset(self) -> None:
        """Start a new conversation, with the system message alone."""
        self.messages = list(self._system)
        self._cache: Cache | None = None
        self._held: list[int] = []  # the ids that the cache holds, and perhaps some after them
        self._copies: list[tuple[list[int], Cache]] = []

    @takes_sampling
    def say(self, text: str, **sampling: Unpack[Sampling]) -> Generator[Piece, None, None]:
        """Send the user's message and generate the answer.

        text      the user's message
        sampling  see SamplingOptions

        Returns a generator of the pieces of the answer. One may stop iterating at any time: the text until
        then is the answer. If there is none, the message counts as not sent.
        Raises, at the call, InputError for an option out of range or a message that the template refuses,
        and ContextFullError where the conversation has become too long for the model.
        """
        options = SamplingOptions(**sampling)
        messages: list[Message] = [*self.messages, {"role": "user", "content": text}]
        prompt = self._ids(messages)
        check_prompt(self._model, prompt, "The conversation")
        return self._answer(messages, prompt, options)

    def _answer(
        self, messages: list[Message], prompt: list[int], options: SamplingOptions
    ) -> Generator[Piece, None, None]:
        if options.max_new_tokens == 0:
            return
        fits = room_after(self._model, prompt)
        row = Row(0, prompt, self._tokenizer, options, self._end_ids, fits, apart=True)
        cache = self._cache = self._gone_back(prompt, options)
        answer, ended = "", False
        try:
            unread = self._read_message(cache, messages, prompt, options)
            for piece in generated(self._model, [row], [unread], [cache], options):
                answer += piece.text
                ended = piece.finish_reason is not None
                yield piece
        finally:  # also where the caller stops early or presses Ctrl-C
            self._held = row.ids
            if answer or ended:
                self.messages = [*messages, {"role": "assistant", "content": answer}]

    def _ids(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        text = self._template.render(messages, add_generation_prompt=add_generation_prompt)
        return encode_prompt(self._model, self._tokenizer, text, "The conversation", add_special_tokens=False)

    def _gone_back(self, prompt: list[int], options: SamplingOptions) -> Cache:
        """Return a cache that holds as much of the prompt's beginning as possible, and set ``_held`` to it.

        Never the whole prompt: its last token must be read for the logits after it.
        """
        if self._cache is not None:
            # The last turn may have been interrupted anywhere: the cache knows how many ids were read.
            self._held = self._held[: self._cache.lengths[0]]
            shared = common_length(self._held, prompt[:-1])
            if shared < len(self._held) and self._cache.rewindable:
                self._cache.truncate(shared)
                self._held = self._held[:shared]
            if shared == len(self._held):
                return self._cache
        for ids, cache in reversed(self._copies):
            if common_length(ids, prompt[:-1]) == len(ids):
                self._held = ids
                return cache.copy()
        self._held = []
        return roomy_cache(self._model, len(prompt), options)

    def _read_message(
        self, cache: Cache, messages: list[Message], prompt: list[int], options: SamplingOptions
    ) -> list[int]:
        """Read the prompt up to the user's message if a copy is needed; return the ids left to read."""
        start = len(self._held)
        if not cache.rewindable:
            # The next prompt may not have the same beginning of an answer after the message.
            end = common_length(self._ids(messages, add_generation_prompt=False), prompt[:-1])
            if end > start:
                prefill(reading(self._model, options), prompt[start:end], cache)
                self._copies = [*self._copies, (prompt[:end], cache.copy())][-COPIES:]
                start = end
        return prompt[start:]


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the common beginning of two sequences."""
    return sum(1 for _ in takewhile(bool, map(eq, a, b)))
