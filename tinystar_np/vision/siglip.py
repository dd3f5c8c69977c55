"""SigLIP's images: resized to the encoder's square, whatever their shape. PaliGemma sees through it.

    (H, W, 3) → 224 × 224, bicubic → x / 255 · 2 − 1

Nothing is cut off, and a circle in a wide picture becomes an ellipse. Zhai et al. 2023, arXiv:2303.15343;
Beyer et al. 2024, PaliGemma, arXiv:2407.07726.
"""

from dataclasses import dataclass
from typing import Self

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.boxes import Boxes, on_the_image, squares, tile_cells
from tinystar_np.vision.settings import Edges, Settings
from tinystar_np.vision.steps import BICUBIC, HALF, Steps, image_processor, repeated
from tinystar_np.vision.transforms import Image

SIGLIP = Steps(Edges(224, 224), BICUBIC, None, 1 / 255, HALF, HALF)
PROCESSOR = "SiglipImageProcessor"


@dataclass(frozen=True)
class SiglipImages:
    """How images are prepared for SigLIP by itself.

    steps       what is done to the image
    patch_size  the side of the encoder's patches, in pixels
    """

    steps: Steps = SIGLIP
    patch_size: int = 16

    @classmethod
    def read(cls, settings: JsonObject, config: JsonObject) -> Self:
        """Read a repository's settings.

        settings  the object of preprocessor_config.json
        config    the whole config.json

        Raises ConfigError for values of a wrong type, and those that change the pixels in an unknown way.
        """
        file = Settings(settings)
        image_processor(file, PROCESSOR, (PROCESSOR,))
        vision = Settings(config, "config.json").part("vision_config")
        return cls(Steps.read(file, SIGLIP), vision.whole("patch_size", 16))

    def pixels(self, image: Image) -> Pixels:
        """Prepare one image: (H, W, 3) → one tile."""
        return Pixels(self.steps(image)[None], (image.shape[0], image.shape[1]))

    def boxes(self, pixels: Pixels) -> Boxes:
        """Say where on the image each patch lies: (N, 4)."""
        area = self.steps.area(pixels.size)
        return on_the_image(squares(area, pixels.tiles.shape[-2:], self.patch_size))


@dataclass(frozen=True)
class PaliGemmaImages:
    """How PaliGemma's images are prepared, and what stands in the text for one.

    steps        what is done to the image
    vectors      how many vectors the encoder makes of it
    image_token  the token that vectors take the place of, and that stands for an image in a prompt
    start_token  what stands between the images and the text
    """

    steps: Steps = SIGLIP
    vectors: int = 256
    image_token: str = "<image>"
    start_token: str = "<bos>"

    @classmethod
    def read(cls, settings: JsonObject, config: JsonObject) -> Self:
        """Read a repository's settings.

        settings  the object of preprocessor_config.json, with the tokens that the tokenizer's files name
        config    the whole config.json

        Raises ConfigError for values of a wrong type, and those that change the pixels in an unknown way.
        """
        file, vision = Settings(settings), Settings(config, "config.json").part("vision_config")
        image_processor(file, PROCESSOR, (PROCESSOR,))
        # The default of the encoder by itself is another than of PaliGemma's.
        patch_size = vision.whole("patch_size", 16 if vision.values else 14)
        vectors = (vision.whole("image_size", 224) // patch_size) ** 2
        file.same("image_seq_length", vectors)
        return cls(
            steps=Steps.read(file, SIGLIP),
            vectors=vectors,
            image_token=file.text("image_token", "<image>"),
            start_token=file.text("bos_token", "<bos>"),
        )

    @property
    def mark(self) -> str:
        """What stands for one image in a prompt."""
        return self.image_token

    def before(self, count: int) -> str:
        """Return what is put before a prompt that names no place for its images."""
        return self.mark * count

    def complete(self, prompt: str) -> str:
        """Put what the model has learned to see around a prompt's text: the start token, and a line's end.

        prompt  with a mark for each image, not yet expanded

        The start token follows the last image, so the tokenizer must add none of its own at the beginning.
        """
        end = prompt.rfind(self.mark) + len(self.mark) if self.mark in prompt else 0
        return f"{prompt[:end]}{self.start_token}{prompt[end:]}\n"

    def pixels(self, image: Image) -> Pixels:
        """Prepare one image: (H, W, 3) → one tile."""
        return Pixels(self.steps(image)[None], (image.shape[0], image.shape[1]))

    def text(self, pixels: Pixels) -> str:
        """Return an image's tokens: one for each vector that the encoder makes."""
        return repeated(self.image_token, self.vectors)

    def boxes(self, pixels: Pixels) -> Boxes:
        """Say where on the image each vector lies: (N, 4)."""
        return on_the_image(tile_cells([self.steps.area(pixels.size)], self.vectors))
