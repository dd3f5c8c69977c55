"""What reads a model's images, described from its config, and what an image of a given size costs.

The sizes are not computed by formulas of each family: an image of that size, all black, is prepared as any
other is, and counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod

import numpy as np

from tinystar_np.errors import InputError
from tinystar_np.inspection.describe import mixers_of
from tinystar_np.inspection.describe_layers import Part, describe, first_sentence
from tinystar_np.inspection.memory import StateSize
from tinystar_np.layers.basic import LayerNorm, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.patches import PatchEmbedding
from tinystar_np.models.vision.base import VisionEncoder
from tinystar_np.models.vision_part import VisionPart
from tinystar_np.vision.form import Form, ImageForm
from tinystar_np.vision.transforms import Size

USUAL_SIZES: Sequence[Size] = ((224, 224), (480, 640), (1080, 1920), (4032, 3024))
"""Height and width: a square, a small photograph, a screen, a photograph of a phone held upright."""
NO_PROJECTORS = (LayerNorm, RMSNorm, PatchEmbedding, Linear)
"""What an encoder has before and after its blocks, beside a projector of its own."""


@dataclass(frozen=True)
class VisionDescription:
    """The description of what reads images.

    kind           of the encoder, in words
    layers, width  L and D of the encoder
    mixers         of its blocks, by their words: how many blocks have it
    feed_forward   of its first block
    patch_size     the side of a patch, in pixels
    projector      what makes vectors of the decoder's width of those of the encoder: {name: its part}
    encoder_parameters, projector_parameters
    """

    kind: str
    layers: int
    width: int
    mixers: Mapping[str, int]
    heads: int
    feed_forward: Part
    patch_size: int
    projector: Mapping[str, Part]
    encoder_parameters: int
    projector_parameters: int

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.encoder_parameters + self.projector_parameters

    @property
    def facts(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "encoder": {
                "kind": self.kind,
                "layers": self.layers,
                "width": self.width,
                "heads": self.heads,
                "feed_forward": self.feed_forward.facts,
                "patch_size": self.patch_size,
                "parameters": self.encoder_parameters,
            },
            "projector": {
                "layers": {name: part.words for name, part in self.projector.items()},
                "parameters": self.projector_parameters,
            },
            "parameters": self.parameters,
        }


@dataclass(frozen=True)
class ImageCost:
    """What an image of one size becomes.

    height, width  in pixels
    tiles          how many pictures the encoder reads
    tile           their height and width in pixels
    patches        of all of them together
    vectors        how many tokens they are in the text, without those around them
    cache          bytes that these take in the cache, in float32
    refused        why an image of this size is not read; the numbers are then 0
    """

    height: int
    width: int
    tiles: int = 0
    tile: Size = (0, 0)
    patches: int = 0
    vectors: int = 0
    cache: int = 0
    refused: str = ""

    @property
    def facts(self) -> dict[str, object]:
        """The same for programs."""
        return asdict(self)


def describe_vision(part: VisionPart) -> VisionDescription:
    """Describe what reads images; a hollow one will do (inspection/hollow.py)."""
    encoder = part.encoder
    sizes = encoder.config.sizes
    mixers: dict[str, int] = {}
    for block in encoder.blocks:
        (mixer,) = mixers_of(block)
        words = describe(mixer).words
        mixers[words] = mixers.get(words, 0) + 1
    return VisionDescription(
        kind=first_sentence(encoder),
        layers=len(encoder.blocks),
        width=sizes["D"],
        mixers=mixers,
        heads=sizes["H"],
        feed_forward=describe(vars(encoder.blocks[0])["feed_forward"]),
        patch_size=sizes["P"],
        projector=_projectors(encoder) | _layers_of(part),
        encoder_parameters=encoder.parameters,
        projector_parameters=sum(prod(array.shape) for array in part.weights.values()),
    )


def _projectors(encoder: VisionEncoder) -> dict[str, Part]:
    """Describe what an encoder has beside its blocks that makes vectors of another width."""
    found = {}
    for name, layer in vars(encoder).items():
        first = layer[0] if isinstance(layer, list) and layer and name != "blocks" else layer
        if isinstance(first, Module) and not isinstance(first, NO_PROJECTORS):
            found[name] = _in_words(first)
    return found


def _layers_of(part: VisionPart) -> dict[str, Part]:
    """Describe the layers between encoder and decoder, in the order in which they were built."""
    layers = {name: layer for name, layer in vars(part).items() if isinstance(layer, Module)}
    return {name: _in_words(layer) for name, layer in layers.items()}


def _in_words(layer: Module) -> Part:
    """Describe one of them."""
    if isinstance(layer, Linear):
        D, F = layer.weight.shape
        return Part(f"linear, {D} → {F}", {"kind": "linear", "in": D, "out": F})
    if type(layer) in describe.registry:
        return describe(layer)
    return Part(first_sentence(layer), {"kind": type(layer).__name__})


def image_costs(
    form: Form, patch_size: int, states: Sequence[StateSize], sizes: Sequence[Size]
) -> list[ImageCost]:
    """Say what images of some sizes become.

    form        how the model's images are prepared
    patch_size  the side of a patch, in pixels
    states      of ``state_sizes``, of which the first is the model's own
    sizes       heights and widths

    Raises TinyStarError where Pillow is absent, which is needed to prepare an image.
    """
    return [_cost(form, patch_size, states, size) for size in sizes]


def _cost(form: Form, patch_size: int, states: Sequence[StateSize], size: Size) -> ImageCost:
    try:
        pixels = form.pixels(np.zeros((*size, 3), dtype=np.uint8))
        vectors = form.text(pixels).count(form.image_token)
    except InputError as error:
        return ImageCost(*size, refused=_reason(error))
    tiles, _, height, width = pixels.tiles.shape
    return ImageCost(
        *size,
        tiles=tiles,
        tile=(height, width),
        patches=tiles * (height // patch_size) * (width // patch_size),
        vectors=vectors,
        cache=states[0].at(vectors) - states[0].fixed if states else 0,
    )


@dataclass(frozen=True)
class SeenPart:
    """What an encoder by itself sees of an image of one size.

    height, width  in pixels
    patches        how many the encoder reads
    share          how much of the image they cover together; CLIP cuts out the middle
    patch          height and width of what one patch shows, in pixels of the image
    refused        why an image of this size is not read; the numbers are then 0
    """

    height: int
    width: int
    patches: int = 0
    share: float = 0.0
    patch: tuple[float, float] = (0.0, 0.0)
    refused: str = ""

    @property
    def facts(self) -> dict[str, object]:
        """The same for programs."""
        return asdict(self)


def seen_parts(form: ImageForm, sizes: Sequence[Size]) -> list[SeenPart]:
    """Say what of images of some sizes an encoder by itself sees; arguments and errors of ``image_costs``."""
    return [_seen_part(form, size) for size in sizes]


def _seen_part(form: ImageForm, size: Size) -> SeenPart:
    try:
        boxes = form.boxes(form.pixels(np.zeros((*size, 3), dtype=np.uint8)))
    except InputError as error:
        return SeenPart(*size, refused=_reason(error))
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    share = float(np.nansum(widths * heights))
    patch = float(np.nanmax(heights)) * size[0], float(np.nanmax(widths)) * size[1]
    return SeenPart(*size, len(boxes), share, patch)


def _reason(error: InputError) -> str:
    return str(error).replace("images: ", "", 1)
