"""How images are prepared for one family of models, and what stands for them in a prompt."""

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.models.vision.pixels import Pixels

CUT = "\ufdd0"
"""Where no token goes across, in the text of a prompt: a character that Unicode reserves, so that no text has
it."""


class ImageForm(Protocol):
    """The settings of preprocessor_config.json: how an image is prepared for an encoder."""

    @classmethod
    def read(cls, settings: JsonObject, config: JsonObject) -> Self:
        """Read the settings.

        settings  of preprocessor_config.json, or of processor_config.json in newer repositories
        config    the whole config.json

        Raises ConfigError, naming key and value.
        """

    def pixels(self, image: NDArray[np.uint8]) -> Pixels:
        """Prepare an image (H, W, 3) for the encoder."""

    def boxes(self, pixels: Pixels) -> NDArray[np.float64]:
        """Say where on the image each of its vectors lies, in the order of their places in a text.

        Returns (N, 4): left, top, right and bottom as shares of the image that was given, from 0 to 1; NaN
        for a vector that stands for no part of it.
        """


class Form(ImageForm, Protocol):
    """The same, and what a processor of a family of models puts into prompts."""

    @property
    def mark(self) -> str:
        """The text that stands for one image in a prompt before it is expanded."""

    @property
    def image_token(self) -> str:
        """The token whose places take the vectors of an image."""

    def text(self, pixels: Pixels) -> str:
        """Write what stands for an image in a prompt: a token for each of its vectors, and what is around."""

    def before(self, count: int) -> str:
        """Write marks for so many images, to stand before a prompt that names no place for them."""
