"""The prompts of a conversation: its messages as tokens, without the oldest turns where they have no room."""

from collections.abc import Sequence
from typing import NamedTuple

from tinystar_np.errors import ContextFullError
from tinystar_np.generation.full_context import Message, Shift, to_leave_out, without_oldest
from tinystar_np.generation.loop import LanguageModel
from tinystar_np.generation.prompt import encode_prompt
from tinystar_np.text import Tokenizer
from tinystar_np.text.chat_template import ChatTemplate


class Prompt(NamedTuple):
    """What the model reads before an answer, or before the rest of one.

    ids       the tokens
    answer    those at their end that are the beginning of the answer; None where nobody knows
    left_out  how many messages are left out
    shift     what was left out for this prompt; None for nothing
    """

    ids: list[int]
    answer: list[int] | None
    left_out: int
    shift: Shift | None


class Prompts:
    """Writes the prompts of one conversation; the arguments are the model and what belongs to it."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self._model, self._tokenizer, self._template = model, tokenizer, template

    def ids(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> list[int]:
        """Write messages as tokens; the arguments are those of ``ChatTemplate.render``."""
        text = self._template.render(
            messages,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
        )
        return encode_prompt(self._model, self._tokenizer, text, "The conversation", add_special_tokens=False)

    def written(
        self, messages: Sequence[Message], left_out: int, text: str, answer: list[int] | None
    ) -> list[int]:
        """Write a conversation and the beginning of an answer as tokens; the arguments are those below."""
        asked = without_oldest(messages, left_out)
        if answer is not None:
            return self.ids(asked) + answer
        return self.ids([*asked, {"role": "assistant", "content": text}], continue_final_message=True)

    def fitted(
        self,
        messages: Sequence[Message],
        text: str,
        answer: list[int] | None,
        left_out: int,
        context: int | None,
        may_leave_out: bool,
    ) -> Prompt:
        """Write a conversation; turns that have no room are left out, if they may be.

        messages       up to the one that is answered
        text           the answer so far
        answer         its tokens; None where they are not known
        left_out       how many of the oldest messages are left out already
        context        the most tokens; None for any number
        may_leave_out  whether more may be

        Raises ContextFullError where it is too long.
        """
        ids, shift = self.written(messages, left_out, text, answer), None
        if context is None or len(ids) <= context:
            return Prompt(ids, answer, left_out, shift)

        def count(left_out: int) -> int:
            return len(self.written(messages, left_out, text, answer))

        more = to_leave_out(messages, left_out, context, count) if may_leave_out else None
        if more is not None:
            shorter = self.written(messages, more, text, answer)
            shift = Shift(more - left_out, len(ids) - len(shorter), 0, context)
            left_out, ids = more, shorter
        if len(ids) > context:
            raise ContextFullError(
                f"The conversation has {len(ids)} tokens, but its context holds {context}. Shorten it."
            )
        return Prompt(ids, answer, left_out, shift)
