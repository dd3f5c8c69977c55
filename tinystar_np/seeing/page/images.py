"""Images for the page: the pictures, where their vectors lie on them, and what tokens take from there."""

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinystar_np.seeing.images import ImageInText
from tinystar_np.seeing.page.arrays import Arrays

if TYPE_CHECKING:
    from tinystar_np.seeing.look import Seen

Json = dict[str, object]

LONGEST_SIDE = 512  # pixels of a picture on the page
QUALITY = 82  # of JPEG
MOST_BYTES = 700_000
"""So many bytes of attention to images are stored head by head, before they are compressed; else means."""


def image_rows(seen: "Seen") -> list[Json]:
    """Return the images as the page shows them: as small JPEGs, and divided into looks."""
    return [_row(image) for image in seen.images]


def _row(image: ImageInText) -> Json:
    height, width = image.picture.shape[:2]
    sizes = [_mean_area(image, look) for look in image.looks]
    overview = sizes.index(max(sizes)) if len(sizes) > 1 else -1
    return {
        "size": [height, width],
        "jpeg": _jpeg(image.picture),
        "span": list(image.span),
        "vectors": len(image.places),
        "looks": [
            {
                "from": look.start,
                "to": look.stop,
                "kind": "all" if len(sizes) == 1 else "overview" if i == overview else "tiles",
            }
            for i, look in enumerate(image.looks)
        ],
    }


def _mean_area(image: ImageInText, look: slice) -> float:
    """Return the area that a vector of a look stands for, on the average; 0 where none stands for any."""
    boxes = image.boxes[look]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    known = areas[~np.isnan(areas)]
    return float(known.mean()) if known.size else 0.0


def _jpeg(picture: NDArray[np.uint8]) -> str:
    """Return a picture as a small JPEG, in base64."""
    from PIL import Image

    small = Image.fromarray(picture)
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY)
    return base64.b64encode(file.getvalue()).decode()


def add_images(arrays: Arrays, seen: "Seen", first: int) -> bool:
    """Store where the images' vectors lie, and how much attention they get from position ``first`` on.

    ``image.I.places`` (N,) and ``image.I.boxes`` (N, 4); ``image.I.attention.L`` (H, P, N) the weights of
    layer L as signed codes (page/arrays.py), which keep small ones apart: of a thousand each may get a
    thousandth. ``image.I.share.L`` (H, P) exactly how much all of them get.

    Returns whether it is of each head, or else H is 1 and these are the means of all heads.
    """
    found = {
        layer: path
        for layer in range(len(seen.model.blocks))
        if (path := f"blocks.{layer}.attention.probabilities") in seen.recording
    }
    vectors = sum(len(image.places) for image in seen.images)
    P = len(seen.ids) - first
    heads = sum(seen.recording[path].shape[1] for path in found.values())
    each_head = heads * P * vectors <= MOST_BYTES
    for i, image in enumerate(seen.images):
        arrays.add(f"image.{i}.places", image.places)
        arrays.add(f"image.{i}.boxes", image.boxes)
        for layer, path in found.items():
            weights = seen.recording[path][0, :, first:][..., image.places]  # (H, P, N)
            if not each_head:
                weights = weights.mean(axis=0, keepdims=True)
            arrays.add_signed(f"image.{i}.attention.{layer}", weights)
            arrays.add(f"image.{i}.share.{layer}", weights.sum(axis=-1))
    return each_head
