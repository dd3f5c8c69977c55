"""Prompts with images: a text and its images as tokens, and the images as the model reads them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinystar_np.cache import SeenImage
from tinystar_np.errors import InputError
from tinystar_np.generation.language_model import LanguageModel
from tinystar_np.generation.prompt import encode_prompt
from tinystar_np.models.base import Decoder
from tinystar_np.models.embedding_model import EmbeddingModel
from tinystar_np.models.vision.pixels import Pixels, Prompt
from tinystar_np.models.vision_part import Image
from tinystar_np.text import Tokenizer
from tinystar_np.vision.form import CUT

if TYPE_CHECKING:
    from tinystar_np.vision.processor import Processor
    from tinystar_np.vision.reading import ImageSource


def encode_with_images(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: str,
    images: Sequence["ImageSource | Pixels"],
    name: str = "The prompt",
    add_special_tokens: bool = True,
) -> Prompt:
    """Cut a text and its images into tokens.

    name                of the text, for messages
    add_special_tokens  see ``Tokenizer.encode``

    Raises InputError where there are more images than places for them, or fewer, or one cannot be read,
    or the model reads text alone.
    """
    processor = seeing(tokenizer)
    if processor is not None and (images or processor.form.mark in text or CUT in text):
        return processor.prompt(text, images, add_special_tokens)
    if images:
        raise no_images(model)
    return Prompt(encode_prompt(model, tokenizer, text, name, add_special_tokens))


def seeing(tokenizer: Tokenizer | None) -> "Processor | None":
    """Return a tokenizer as the processor that it is, where it also takes images; else None."""
    if tokenizer is None or type(tokenizer) is Tokenizer:
        return None
    from tinystar_np.vision.processor import Processor  # late: models of text need none of it

    return tokenizer if isinstance(tokenizer, Processor) else None


def read_images(
    model: LanguageModel, images: Sequence[Image], held: int = 0, first: int = 0
) -> tuple[SeenImage, ...]:
    """Let the model read a prompt's images.

    held   how many tokens the cache holds before the prompt
    first  the number that taps give to the first of them

    Returns them at their places in the whole text.
    """
    if not images:
        return ()
    if not isinstance(model, Decoder) or model.vision is None:
        raise no_images(model)
    return tuple(image.moved(held) for image in model.vision.see(images, first))


def no_images(model: LanguageModel) -> InputError:
    """Return the error for images that are given to a model that reads none, or does not write."""
    if isinstance(model, EmbeddingModel):
        return model.does_not_write()
    why = model.why_text_alone if isinstance(model, Decoder) else ""
    return InputError(
        f"{type(model).__name__} reads text alone: it cannot be given images.\n"
        f"{why or 'Models that see are listed by: tinystar models'}"
    )
