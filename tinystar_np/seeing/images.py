"""Images in a text that is looked at: where on them their vectors lie, and what is taken from there."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import SeenImage
from tinystar_np.cache.images import with_prefixes
from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.generation.conversation_prompt import Prompts
from tinystar_np.generation.image_prompt import encode_with_images, no_images
from tinystar_np.generation.messages import check_is_list, user_message
from tinystar_np.models import Decoder
from tinystar_np.models.vision.pixels import Prompt
from tinystar_np.text import Tokenizer
from tinystar_np.vision.boxes import Boxes, looks
from tinystar_np.vision.processor import Processor
from tinystar_np.vision.reading import read_image

if TYPE_CHECKING:
    from tinystar_np.vision.reading import ImageSource

THIRDS = (
    ("upper left", "top", "upper right"),
    ("left", "middle", "right"),
    ("lower left", "bottom", "lower right"),
)
"""What the parts of an image are called, of three rows and three columns."""


@dataclass(frozen=True, eq=False)
class ImageInText:
    """An image in a text, and where on it the vectors lie that stand for it.

    picture  (H, W, 3) as it was given
    places   (N,) the positions of its vectors in the text
    boxes    (N, 4) left, top, right, bottom of each, as shares of the picture; NaN for no part of it
    """

    picture: NDArray[np.uint8]
    places: NDArray[np.int64]
    boxes: Boxes

    @cached_property
    def looks(self) -> list[slice]:
        """Its vectors, divided into looks at all of it: those of the tiles, and those of the overview."""
        return looks(self.boxes)

    @property
    def span(self) -> tuple[int, int]:
        """The first position that it takes in the text, and the one after the last."""
        return int(self.places[0]), int(self.places[-1]) + 1

    def by_thirds(self, weights: NDArray) -> NDArray[np.float64]:
        """Divide what is taken from each vector among nine parts of the picture: (T,) → (3, 3).

        weights  of all positions of the text

        A vector's weight is spread evenly over its box.
        """
        on_it = ~np.isnan(self.boxes[:, 0])
        left, top, right, bottom = self.boxes[on_it].T
        begins = np.arange(3) / 3
        columns = np.minimum(right[:, None], begins + 1 / 3) - np.maximum(left[:, None], begins)
        rows = np.minimum(bottom[:, None], begins + 1 / 3) - np.maximum(top[:, None], begins)
        density = weights[self.places[on_it]] / ((right - left) * (bottom - top))
        shares: NDArray[np.float64] = np.einsum(
            "n,ny,nx->yx", density.astype(np.float64), rows.clip(0), columns.clip(0)
        )
        return shares

    def most_at(self, weights: NDArray) -> str:
        """Say in words from which part of the picture most is taken; weights as of ``by_thirds``."""
        row, column = divmod(int(self.by_thirds(weights).argmax()), 3)
        return THIRDS[row][column]


@dataclass(frozen=True, eq=False)
class LookedAt:
    """A prompt with images, encoded and read.

    ids     its tokens
    images  those in it
    read    the same, as the model reads them
    """

    ids: list[int]
    images: tuple[ImageInText, ...] = ()
    read: tuple[SeenImage, ...] = ()


def read_prompt_with_images(
    model: Decoder,
    tokenizer: Tokenizer | None,
    prompt: str,
    images: Sequence["ImageSource"],
    chat: bool,
) -> LookedAt:
    """Encode a prompt with images, and let the model read these.

    images  files' names, bytes, PIL images or arrays
    chat    whether the prompt is a message, to be written by the chat template

    Raises InputError as ``generate`` does, TokenizerError where there is no tokenizer, or no template.
    """
    check_is_list(images)
    if tokenizer is None:
        raise TokenizerError("This model has no tokenizer files. Give look token ids instead of a text.")
    if images and (model.vision is None or not isinstance(tokenizer, Processor)):
        raise no_images(model)
    pictures = [read_image(image) for image in images]
    encoded = _encoded(model, tokenizer, prompt, pictures, chat)
    if not encoded.images:
        return LookedAt(encoded.ids)
    assert isinstance(tokenizer, Processor)
    assert model.vision is not None
    if len(pictures) != len(encoded.images):
        raise InputError("The prompt has other images than those that were given.")
    shown = tuple(
        ImageInText(picture, image.places, tokenizer.form.boxes(image.pixels))
        for picture, image in zip(pictures, encoded.images, strict=True)
    )
    # Those of a prompt whose tokens see one another: its end is known here, and not in a pass over more.
    read = with_prefixes([model.vision.see(encoded.images)], np.zeros(1, dtype=np.int64), len(encoded.ids))[0]
    return LookedAt(encoded.ids, shown, read)


def _encoded(
    model: Decoder, tokenizer: Tokenizer, prompt: str, pictures: Sequence[NDArray[np.uint8]], chat: bool
) -> Prompt:
    """Write a prompt as tokens."""
    if not chat:
        return encode_with_images(model, tokenizer, prompt, list(pictures))
    template = tokenizer.chat_template
    if template is None:
        raise TokenizerError("This model has no chat template, so it was not taught to answer: chat=False.")
    prompts = Prompts(model, tokenizer, template)
    return prompts.encoded([user_message(prompt, list(pictures), prompts.mark)])
