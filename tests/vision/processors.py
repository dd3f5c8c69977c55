"""transformers' side of the comparison: image processors of PIL and NumPy, and how a mark is expanded."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers.image_processing_backends import PilBackend

Processor = TypeVar("Processor")


def expected_tiles(
    processor: type[PilBackend], settings: dict[str, Any], image: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """The tiles that transformers makes of one image, (n, C, h, w)."""
    # An array of 3 × 4000 × 3 would be taken for one whose channels come first.
    pixels = processor(**settings)(Image.fromarray(image), return_tensors="np")["pixel_values"]
    return pixels[0] if pixels.ndim == 5 else pixels


def bare(processor: type[Processor], **attributes: object) -> Processor:
    """A processor with these attributes and nothing else: its tokenizer and all that it imports stay away."""
    made = object.__new__(processor)
    vars(made).update(attributes)
    return made
