"""The images of a conversation, each prepared and read once.

Every prompt of a conversation has all of its images again, at their places in a longer text. What the model
made of one does not depend on its place: only the vectors are kept, and put there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinystar_np.cache import SeenImage
from tinystar_np.generation.image_prompt import no_images
from tinystar_np.generation.language_model import LanguageModel
from tinystar_np.generation.messages import given_in, image_parts, source_of
from tinystar_np.models.base import Decoder
from tinystar_np.models.vision.pixels import ImageInput, Pixels

if TYPE_CHECKING:
    from tinystar_np.vision.processor import Processor


class _Prepared(NamedTuple):
    """An image that was prepared: its message's part, what stood there as the image, and its pixels."""

    part: Mapping[str, Any]
    given: Any
    pixels: Pixels


class ImagesRead:
    """What has been made of the images of one conversation.

    model      the model
    processor  prepares the images
    """

    def __init__(self, model: LanguageModel, processor: "Processor") -> None:
        self._model, self._processor = model, processor
        # By identity; the objects are kept, so that no other gets the same.
        self._prepared: dict[int, _Prepared] = {}
        self._seen: dict[int, tuple[Pixels, SeenImage]] = {}

    def pixels(self, part: Mapping[str, Any]) -> Pixels:
        """Prepare the image of a message's part; raises InputError where it cannot be read.

        Of an image that the model has seen, only the shape of its pixels is left.
        """
        known = self._prepared.get(id(part))
        if known is None or known.given is not given_in(part):  # somebody put another image there
            known = _Prepared(part, given_in(part), self._processor.pixels(source_of(part)))
            self._prepared[id(part)] = known
        return known.pixels

    def seen(self, images: Sequence[ImageInput]) -> tuple[SeenImage, ...]:
        """Read the images of a prompt; those that were read before are only put to their places."""
        if not images:
            return ()
        if not isinstance(self._model, Decoder) or self._model.vision is None:
            raise no_images(self._model)
        known = [
            replace(self._seen[id(image.pixels)][1], places=image.places)
            if id(image.pixels) in self._seen
            else image
            for image in images
        ]
        found = self._model.vision.see(known)
        for image, seen in zip(images, found, strict=True):
            self._keep(image.pixels, seen)
        return found

    def _keep(self, pixels: Pixels, seen: SeenImage) -> None:
        """Keep what the model has seen of an image, and of its pixels, which are far larger, the shape."""
        if id(pixels) in self._seen:
            return
        shape = pixels._replace(tiles=np.broadcast_to(np.float32(0), pixels.tiles.shape))
        self._seen[id(shape)] = shape, seen
        for key, prepared in self._prepared.items():
            if prepared.pixels is pixels:
                self._prepared[key] = prepared._replace(pixels=shape)

    def forget_others(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Forget the images that are in none of these messages."""
        parts = {id(part) for part in image_parts(messages)}
        self._prepared = {key: value for key, value in self._prepared.items() if key in parts}
        left = {id(prepared.pixels) for prepared in self._prepared.values()}
        self._seen = {key: value for key, value in self._seen.items() if key in left}
