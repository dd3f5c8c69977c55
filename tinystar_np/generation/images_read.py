"""The images of a conversation, each prepared and read once.

Every prompt of a conversation has all of its images again, at their places in a longer text. What the model
made of one does not depend on its place: only the vectors are kept, and put there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tinystar_np.cache import SeenImage
from tinystar_np.generation.image_prompt import no_images
from tinystar_np.generation.loop import LanguageModel
from tinystar_np.generation.messages import source_of
from tinystar_np.models.base import Decoder
from tinystar_np.models.vision.pixels import ImageInput, Pixels
from tinystar_np.vision.processor import Processor


class ImagesRead:
    """What has been made of the images of one conversation.

    model      the model
    processor  prepares the images
    """

    def __init__(self, model: LanguageModel, processor: Processor) -> None:
        self._model, self._processor = model, processor
        # By identity; the objects are kept, so that no other gets the same.
        self._prepared: dict[int, tuple[Mapping[str, Any], Pixels]] = {}
        self._seen: dict[int, tuple[Pixels, SeenImage]] = {}

    def pixels(self, part: Mapping[str, Any]) -> Pixels:
        """Prepare the image of a message's part; raises InputError where it cannot be read."""
        if id(part) not in self._prepared:
            self._prepared[id(part)] = part, self._processor.pixels(source_of(part))
        return self._prepared[id(part)][1]

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
            self._seen[id(image.pixels)] = image.pixels, seen
        return found
