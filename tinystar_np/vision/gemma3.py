"""Gemma 3's images: each resized to a square, and a long one looked at again in parts ("pan and scan").

    (H, W, 3) ─┬→ 896 × 896 ─────────────────────────→ 256 vectors
               └→ cut along its longer side into 2 … 4,
                  each of them 896 × 896 ────────────→ 256 vectors each

The parts are for text in wide or high pictures, which one square would squeeze. They cost 256 tokens each and
are made only if the file asks for them. Gemma Team 2025, arXiv:2503.19786, section 2.1.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.boxes import Boxes, on_the_image, tile_cells, within
from tinystar_np.vision.settings import Edges, Settings
from tinystar_np.vision.steps import BILINEAR, HALF, Steps, image_processor, repeated
from tinystar_np.vision.transforms import Image, Size

GEMMA3 = Steps(Edges(224, 224), BILINEAR, None, 1 / 255, HALF, HALF)
PROCESSOR = "Gemma3ImageProcessor"
MOST_CROPS = 100  # real files ask for 4


@dataclass(frozen=True)
class PanAndScan:
    """When an image is cut into parts, and into how many.

    least_side   in pixels, the sides of each part
    most_parts   how many there are at most
    least_ratio  of the longer side to the shorter one
    """

    least_side: int = 256
    most_parts: int = 4
    least_ratio: float = 1.2

    def parts(self, image: Image) -> list[Image]:
        """Cut an image along its longer side: (H, W, 3) → its parts in order, none if it is about square."""
        cuts = self.cuts((image.shape[0], image.shape[1]))
        if image.shape[1] >= image.shape[0]:
            return [image[:, start:end] for start, end in cuts]
        return [image[start:end] for start, end in cuts]

    def cuts(self, size: Size) -> list[tuple[int, int]]:
        """Say where the parts of an image of this height and width begin and end, along its longer side."""
        longer, shorter = max(size), min(size)
        if longer / shorter < self.least_ratio:
            return []
        count = math.floor(longer / shorter + 0.5)  # as many as make the parts about square
        count = min(max(2, min(longer // self.least_side, count)), self.most_parts)
        side = math.ceil(longer / count)
        if min(side, shorter) < self.least_side:
            return []
        return [(start, min(start + side, longer)) for start in range(0, longer, side)]


@dataclass(frozen=True)
class Gemma3Images:
    """How Gemma 3's images are prepared, and what stands in the text for one.

    steps         what is done to the image and to each of its parts
    pan_and_scan  how it is cut into parts; None for no parts
    vectors       how many vectors the encoder makes of each
    image_token   the token that vectors take the place of
    begin, end    the tokens around them; ``begin`` stands for an image in a prompt
    """

    steps: Steps = GEMMA3
    pan_and_scan: PanAndScan | None = None
    vectors: int = 256
    image_token: str = "<image_soft_token>"
    begin: str = "<start_of_image>"
    end: str = "<end_of_image>"

    @classmethod
    def read(cls, settings: JsonObject, config: JsonObject) -> Self:
        """Read a repository's settings.

        settings  the object of preprocessor_config.json, with processor_config.json's keys and the
                  tokens that the tokenizer's files name
        config    the whole config.json

        ``do_pan_and_scan`` is followed, as by transformers' Gemma3ImageProcessor. Its Gemma3Processor
        overrides it: there an image is cut if the call asks for that.

        Raises ConfigError for values of a wrong type, and those that change the pixels in an unknown way.
        """
        file, model = Settings(settings), Settings(config, "config.json")
        image_processor(file, PROCESSOR, (PROCESSOR,))
        vectors = model.whole("mm_tokens_per_image", 256)
        file.same("image_seq_length", vectors)
        # Both do nothing in transformers' processor for this model.
        plain = {key: value for key, value in settings.items() if key not in ("do_center_crop", "do_pad")}
        scan = PanAndScan(
            file.whole("pan_and_scan_min_crop_size", 256),
            file.whole("pan_and_scan_max_num_crops", 4, most=MOST_CROPS),
            file.number("pan_and_scan_min_ratio_to_activate", 1.2),
        )
        return cls(
            steps=Steps.read(Settings(plain), GEMMA3, square=True),
            pan_and_scan=scan if file.flag("do_pan_and_scan", False) else None,
            vectors=vectors,
            image_token=file.text("image_token", "<image_soft_token>"),
            begin=file.text("boi_token", "<start_of_image>"),
            end=file.text("eoi_token", "<end_of_image>"),
        )

    @property
    def mark(self) -> str:
        """What stands for one image in a prompt."""
        return self.begin

    def before(self, count: int) -> str:
        """Return what is put before a prompt that names no place for its images."""
        return self.mark * count

    def pixels(self, image: Image) -> Pixels:
        """Prepare one image: (H, W, 3) → a tile of the whole, and one of each part."""
        parts = [] if self.pan_and_scan is None else self.pan_and_scan.parts(image)
        tiles = np.stack([self.steps(part) for part in (image, *parts)])
        height, width = image.shape[:2]
        grid = (len(parts), 1) if height > width else (1, len(parts))
        return Pixels(tiles, (height, width), grid if parts else (0, 0))

    def boxes(self, pixels: Pixels) -> Boxes:
        """Say where on the image each vector lies: (N, 4), those of the whole and then of each part."""
        height, width = pixels.size
        tiles = [(0, 0, width, height)]
        for start, end in [] if self.pan_and_scan is None else self.pan_and_scan.cuts(pixels.size):
            tiles.append((start, 0, end, height) if width >= height else (0, start, width, end))
        areas = [
            within(
                (left / width, top / height, right / width, bottom / height),
                self.steps.area((bottom - top, right - left)),
            )
            for left, top, right, bottom in tiles
        ]
        return on_the_image(tile_cells(areas, self.vectors))

    def text(self, pixels: Pixels) -> str:
        """Return an image's tokens; between those of the whole and of its parts, words that say so."""
        one = f"\n\n{self.begin}{repeated(self.image_token, self.vectors)}{self.end}\n\n"
        parts = len(pixels.tiles) - 1
        if not parts:
            return one
        crops = " ".join([one] * parts)
        return f"Here is the original image {one} and here are some crops to help you see better {crops}"
