"""The prompts of a conversation: its messages as tokens, without the oldest turns where they have no room."""

from collections.abc import Sequence
from typing import NamedTuple

from tinystar_np.cache import SeenImage
from tinystar_np.errors import ContextFullError
from tinystar_np.generation.content_form import ContentForms
from tinystar_np.generation.full_context import Shift, to_leave_out, without_oldest
from tinystar_np.generation.image_prompt import encode_with_images, no_images, seeing
from tinystar_np.generation.images_read import ImagesRead
from tinystar_np.generation.language_model import LanguageModel, number_of_tokens
from tinystar_np.generation.messages import Message, image_parts
from tinystar_np.models.vision.pixels import Prompt as Encoded
from tinystar_np.models.vision_part import places_of
from tinystar_np.text import Tokenizer
from tinystar_np.text.chat_template import ChatTemplate


class Prompt(NamedTuple):
    """What the model reads before an answer, or before the rest of one.

    ids       the tokens
    answer    those at their end that are the beginning of the answer; None where nobody knows
    left_out  how many messages are left out
    shift     what was left out for this prompt; None for nothing
    images    those of the messages, as the model reads them
    """

    ids: list[int]
    answer: list[int] | None
    left_out: int
    shift: Shift | None
    images: tuple[SeenImage, ...] = ()


class Prompts:
    """Writes the prompts of one conversation; the arguments are the model and what belongs to it."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self._model, self._tokenizer, self._template = model, tokenizer, template
        processor = seeing(tokenizer)
        self._images = None if processor is None else ImagesRead(model, processor)
        self.mark = None if processor is None else processor.form.mark
        """The text that stands for an image; None where there are none."""
        marks = () if processor is None else {processor.form.mark, processor.form.image_token}
        self._forms = ContentForms(template, marks)

    def encoded(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> Encoded:
        """Write messages as tokens, with their images; the arguments are those of ``ChatTemplate.render``."""
        # A model of text alone has no images, and its template takes texts.
        given = messages if self._images is None else self._forms.given(messages)
        text = self._template.render(
            given,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
        )
        parts = image_parts(messages)
        if parts and self._images is None:
            raise no_images(self._model)
        pixels = [self._images.pixels(part) for part in parts] if self._images is not None else []
        return encode_with_images(
            self._model, self._tokenizer, text, pixels, "The conversation", add_special_tokens=False
        )

    def ids(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """Write messages as tokens."""
        return self.encoded(messages, add_generation_prompt).ids

    def written(
        self, messages: Sequence[Message], left_out: int, text: str, answer: list[int] | None
    ) -> Encoded:
        """Write a conversation and the beginning of an answer as tokens; the arguments are those below."""
        asked = without_oldest(messages, left_out)
        if answer is not None:
            prompt = self.encoded(asked)
            return Encoded(prompt.ids + answer, prompt.images)
        return self.encoded([*asked, {"role": "assistant", "content": text}], continue_final_message=True)

    def read(self, prompt: Encoded) -> tuple[SeenImage, ...]:
        """Let the model read a prompt's images, each of them once in the conversation."""
        return () if self._images is None else self._images.seen(prompt.images)

    def forget_other_images(self, messages: Sequence[Message]) -> None:
        """Forget what was made of images that are in none of these messages."""
        if self._images is not None:
            self._images.forget_others(messages)

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
        prompt, shift = self.written(messages, left_out, text, answer), None
        if context is None or len(prompt.ids) <= context:
            return Prompt(prompt.ids, answer, left_out, shift, self.read(prompt))

        def count(left_out: int) -> int:
            return len(self.written(messages, left_out, text, answer).ids)

        more = to_leave_out(messages, left_out, context, count) if may_leave_out else None
        if more is not None:
            shorter = self.written(messages, more, text, answer)
            shift = Shift(more - left_out, len(prompt.ids) - len(shorter.ids), 0, context)
            left_out, prompt = more, shorter
        if len(prompt.ids) > context:
            tokens = number_of_tokens(len(prompt.ids), places_of(prompt.images))
            raise ContextFullError(
                f"The conversation has {tokens}, but its context holds {context}. Shorten it."
            )
        return Prompt(prompt.ids, answer, left_out, shift, self.read(prompt))
