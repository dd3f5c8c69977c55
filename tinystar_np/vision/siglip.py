"""SigLIP's images: resized to the encoder's square, whatever their shape.

    (H, W, 3) → 224 × 224, bicubic → x / 255 · 2 − 1

Nothing is cut off, and a circle in a wide picture becomes an ellipse. Zhai et al. 2023, arXiv:2303.15343.
"""

from dataclasses import dataclass
from typing import Self

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.boxes import Boxes, on_the_image, squares
from tinystar_np.vision.settings import Edges, Settings
from tinystar_np.vision.steps import BICUBIC, HALF, Steps, image_processor
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
