"""LLaVA 1.5's images: as its encoder's are prepared, or padded to a square with the mean colour before that.

    (H, W, 3) ─┬→ as of CLIP or SigLIP by themselves (vision/clip.py, vision/siglip.py)
               └→ border of the mean colour → H = W → resized, (x / 255 − mean) / std

It learned from squares, so that nothing was cut off. transformers makes them where the file says ``do_pad``;
where it does not, what lies left and right of the middle is not seen. ViP-LLaVA's images are the same. Liu et
al. 2023, arXiv:2310.03744.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.boxes import NOWHERE, WHOLE, Boxes, in_shares_of, on_the_image, squares, within
from tinystar_np.vision.clip import CLIP, clip_steps
from tinystar_np.vision.settings import OPENAI_MEAN, Settings
from tinystar_np.vision.siglip import SIGLIP
from tinystar_np.vision.steps import Steps, image_processor, repeated
from tinystar_np.vision.transforms import Image, Size, padded


@dataclass(frozen=True)
class LlavaImages:
    """How LLaVA 1.5's images are prepared, and what stands in the text for one.

    steps          what is done to the image, or to its square
    border         the colour of what is put around the image to make it square; None leaves its shape
    patch_size     the side of the encoder's patches, in pixels
    extra_vectors  how many vectors more than patches the encoder makes: 1 with a kept CLS token
    image_token    the token that vectors take the place of, and that stands for an image in a prompt
    """

    steps: Steps = CLIP
    border: tuple[int, int, int] | None = None
    patch_size: int = 14
    extra_vectors: int = 0
    image_token: str = "<image>"

    @classmethod
    def read(cls, settings: JsonObject, config: JsonObject) -> Self:
        """Read a repository's settings.

        settings  the object of preprocessor_config.json, with the keys of processor_config.json
        config    the whole config.json, which says what processor_config.json leaves out

        Raises ConfigError for values of a wrong type, and those that change the pixels in an unknown way.
        """
        file, model = Settings(settings), Settings(config, "config.json")
        kinds = ("LlavaImageProcessor", "CLIPImageProcessor", "SiglipImageProcessor")
        kind = image_processor(file, kinds[0], kinds)
        border = None
        if kind == "LlavaImageProcessor":
            # Its do_pad is another than that of the two others, and comes before all steps.
            steps = replace(Steps.read(file, CLIP), pad=None)
            border = _border(file) if file.flag("do_pad", False) else None
        elif kind == "CLIPImageProcessor":
            steps = clip_steps(file)
        else:
            steps = Steps.read(file, SIGLIP)
        patch_size = model.part("vision_config").whole("patch_size", file.whole("patch_size", 14))
        file.same("patch_size", patch_size)
        return cls(
            steps=steps,
            border=border,
            patch_size=patch_size,
            extra_vectors=_extra_vectors(file, model),
            image_token=file.text("image_token", "<image>"),
        )

    @property
    def mark(self) -> str:
        """What stands for one image in a prompt."""
        return self.image_token

    def before(self, count: int) -> str:
        """Return what is put before a prompt that names no place for its images, a mark and line each."""
        return f"{self.mark}\n" * count

    def pixels(self, image: Image) -> Pixels:
        """Prepare one image: (H, W, 3) → one tile."""
        height, width = image.shape[:2]
        if self.border is not None:
            rows, columns = _beside((height, width))
            image = padded(image, rows, columns, self.border)
        return Pixels(self.steps(image)[None], (height, width))

    def boxes(self, pixels: Pixels) -> Boxes:
        """Say where on the image each vector lies: (N, 4); NaN for CLIP's CLS token and in the border."""
        height, width = pixels.size
        area = self.steps.area((height, width))
        if self.border is not None:
            side = max(height, width)
            (above, _), (left, _) = _beside((height, width))
            image = left / side, above / side, (left + width) / side, (above + height) / side
            whole = in_shares_of(image, np.array([WHOLE]))[0]  # the square, in shares of the image
            area = within((whole[0], whole[1], whole[2], whole[3]), self.steps.area((side, side)))
        found = on_the_image(squares(area, pixels.tiles.shape[-2:], self.patch_size))
        return np.concatenate([NOWHERE, found]) if self.extra_vectors > 0 else found[-self.extra_vectors :]

    def text(self, pixels: Pixels) -> str:
        """Return an image's tokens: one for each vector that the encoder makes."""
        height, width = pixels.tiles.shape[-2:]
        patches = (height // self.patch_size) * (width // self.patch_size)
        return repeated(self.image_token, patches + self.extra_vectors)


def _beside(size: Size) -> tuple[Size, Size]:
    """Return how many rows come above and below, and columns left and right, to make an image square."""
    rows, columns = (max(size) - edge for edge in size)
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)


def _border(file: Settings) -> tuple[int, int, int]:
    """Read the colour around a square: the mean, in bytes and rounded down; of null, black."""
    if file.values.get("image_mean", OPENAI_MEAN) is None:
        return 0, 0, 0
    red, green, blue = (int(part * 255) for part in file.colours("image_mean", OPENAI_MEAN))
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        raise file.wrong("image_mean", "is no colour, and do_pad puts one around images")
    return red, green, blue


def _extra_vectors(file: Settings, model: Settings) -> int:
    """Say how many vectors more than patches the language model gets: CLIP's CLS token, if it is not dropped.

    Raises ConfigError where the two files are of different models: the places would be too few or too many.
    """
    key, strategies = "vision_feature_select_strategy", ("default", "full")
    strategy = model.one_of(key, "default", strategies)
    if file.one_of(key, strategy, strategies) != strategy:
        raise file.wrong(key, f"is {strategy} in config.json")
    encoder = model.part("vision_config").values.get("model_type", "clip_vision_model")
    classes = int(encoder == "clip_vision_model")
    file.same("num_additional_image_tokens", classes)
    return classes - (strategy == "default")  # "default" drops the first vector, of whatever it is
