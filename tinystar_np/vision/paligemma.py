"""PaliGemma's images, and its prompts: images, the start token, the text, and the end of a line.

    (H, W, 3) → 224 × 224, bicubic → x / 255 · 2 − 1          448 or 896 in larger models
    <image> … <image> <bos> What is this? ⏎

Prepared as SigLIP's (vision/siglip.py), which is its encoder. Beyer et al. 2024, arXiv:2407.07726.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.models.vision.pixels import Pixels, Prompt
from tinystar_np.text.tokenizer import Tokenizer
from tinystar_np.vision.boxes import Boxes, on_the_image, tile_cells
from tinystar_np.vision.processor import Processor
from tinystar_np.vision.settings import Settings
from tinystar_np.vision.siglip import PROCESSOR, SIGLIP
from tinystar_np.vision.steps import Steps, image_processor, repeated
from tinystar_np.vision.transforms import Image

if TYPE_CHECKING:
    from tinystar_np.vision.reading import ImageSource


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


class PaliGemmaProcessor(Processor):
    """A processor that writes the start token after the last image, where the model learned to see it.

    form  PaliGemma's, which knows what stands around a text
    """

    def __init__(self, tokenizer: Tokenizer, form: PaliGemmaImages) -> None:
        super().__init__(tokenizer, form)
        self.complete = form.complete

    def prompt(
        self, text: str, images: Sequence["ImageSource | Pixels"] = (), add_special_tokens: bool = True
    ) -> Prompt:
        """Cut a text with images into tokens.

        add_special_tokens  whether this begins the whole text: the start token is put after its last image,
                            and the end of a line after all of it

        The other arguments, the result and the errors are those of ``Processor.prompt``.
        """
        if add_special_tokens:
            marked = text if self.form.mark in text else self.form.before(len(images)) + text
            text = self.complete(marked)
        return super().prompt(text, images, add_special_tokens=False)
