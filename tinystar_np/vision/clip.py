"""CLIP's images: the shorter side resized to the encoder's, and the middle cut out.

    (H, W, 3) → shorter side 224, bicubic → the middle 224 × 224 → (x / 255 − mean) / std

What lies left and right of the middle is not seen. Radford et al. 2021, arXiv:2103.00020.
"""

from dataclasses import dataclass, replace
from typing import Self

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.boxes import Boxes, on_the_image, squares
from tinystar_np.vision.settings import OPENAI_MEAN, OPENAI_STD, Edges, Settings
from tinystar_np.vision.steps import BICUBIC, Steps, image_processor
from tinystar_np.vision.transforms import Image

CLIP_SIZE = Edges(shortest_edge=224)
CLIP = Steps(CLIP_SIZE, BICUBIC, (224, 224), 1 / 255, OPENAI_MEAN, OPENAI_STD)


@dataclass(frozen=True)
class ClipImages:
    """How images are prepared for CLIP by itself.

    steps       what is done to the image
    patch_size  the side of the encoder's patches, in pixels
    """

    steps: Steps = CLIP
    patch_size: int = 32

    @classmethod
    def read(cls, settings: JsonObject, config: JsonObject) -> Self:
        """Read a repository's settings.

        settings  the object of preprocessor_config.json
        config    the whole config.json

        Raises ConfigError for values of a wrong type, and those that change the pixels in an unknown way.
        """
        file = Settings(settings)
        image_processor(file, "CLIPImageProcessor", ("CLIPImageProcessor",))
        vision = Settings(config, "config.json").part("vision_config")
        return cls(clip_steps(file), vision.whole("patch_size", 32))

    def pixels(self, image: Image) -> Pixels:
        """Prepare one image: (H, W, 3) → one tile."""
        return Pixels(self.steps(image)[None], (image.shape[0], image.shape[1]))

    def boxes(self, pixels: Pixels) -> Boxes:
        """Say where on the image each patch lies: (N, 4)."""
        area = self.steps.area(pixels.size)
        return on_the_image(squares(area, pixels.tiles.shape[-2:], self.patch_size))


def clip_steps(file: Settings) -> Steps:
    """Read what transformers' CLIPImageProcessor does."""
    steps = Steps.read(file, CLIP)
    if file.flag("use_square_size", False) and steps.resize is not None:  # KOSMOS-2's: whatever the size
        return replace(steps, resize=Edges(224, 224))
    return steps
