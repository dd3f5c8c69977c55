"""The vision part of models of text and images: an encoder, and what turns its vectors into those of tokens.

    image → encoder → projector → vectors, each in the place of a token's embedding

The decoder reads these vectors as it reads those of tokens; it is an ordinary one (models/text_part.py
finds its config and its tensors). Where an image stands in a text its prompt has a token for each of its
vectors.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, ClassVar, Generic, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tinystar_np.amounts import count_of
from tinystar_np.cache import SeenImage, Step
from tinystar_np.cache.images import grouped
from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.gather import gather
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.errors import ConfigError, InputError
from tinystar_np.kernels.linear import Matrix
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import AnyConfig, Config, require
from tinystar_np.models.fitted import fitted
from tinystar_np.models.text_part import projector_tensors, vision_tensors
from tinystar_np.models.vision.base import VisionEncoder
from tinystar_np.models.vision.pixels import ImageInput, Pixels
from tinystar_np.models.vision.progress import reading
from tinystar_np.tap import listening, scope, tap

EncoderConfig: TypeAlias = Config
"""An encoder's, or any. In a class with a ``Config`` of its own, that name means another."""
Image = ImageInput | SeenImage
"""An image in a prompt, read by the model or not yet."""


def encoder_config(
    kind: type[AnyConfig], raw: JsonObject | None, names: Sequence[str], within: str = "vision_config"
) -> AnyConfig:
    """Build the config of a vision encoder.

    kind    its class
    raw     the vision_config of a config.json; None for transformers' defaults
    names   what its model_type may be
    within  the key under which it stands, where it is another: that of a text encoder

    Raises ConfigError, naming key and value.
    """
    given = raw or {}
    found = given.get("model_type", names[0])
    known = " or ".join(map(repr, names))
    require(found in names, f"{within}.model_type = {shown(found)}, but it must be {known} here.")
    try:
        return kind.from_dict(given)
    except ConfigError as error:
        raise ConfigError(str(error).replace("config.json: ", f"config.json, {within}: ", 1)) from None


def tower_config(
    towers: Mapping[str, type[VisionEncoder]], raw: JsonObject
) -> tuple[type[VisionEncoder], EncoderConfig]:
    """Choose the encoder of a model that was published with several, and build its config.

    towers  {model_type: the encoder's class}; the first is the usual one
    raw     the vision_config of a config.json

    Raises ConfigError, naming key and value.
    """
    names = tuple(towers)
    found = raw.get("model_type", names[0])
    kind = towers[found if found in names else names[0]]
    return kind, encoder_config(kind.Config, {**raw, "model_type": found}, names)


class VisionPart(Generic[AnyConfig]):
    """The part of a model that reads images.

    config   a checked config: what the whole model's says of images, and ``text_width``, the decoder's D
    encoder  the vision encoder
    weights  {our name: array, or packed matrix} of what stands between encoder and decoder
    """

    Config: ClassVar[type[Config]]
    WEIGHTS: ClassVar[WeightTable]
    OTHER_FORMS: ClassVar[Sequence[WeightTable]] = ()
    PREFIX: ClassVar[str] = ""
    OTHER_NAMES: ClassVar[Mapping[str, str]] = {}
    IGNORED: ClassVar[str] = ""
    """What checkpoints may have otherwise, and besides: see ``HasWeights`` (models/fitted.py)."""

    bidirectional: ClassVar[Literal["image", "prompt"] | None] = None
    """Whose tokens see one another, the later ones too: those of each image, or all of a prompt with images,
    which must then be read in one call; None where every token sees earlier ones alone."""

    image_token_id: int
    """The token that stands in a prompt for each vector of an image."""

    def __init__(self, config: AnyConfig, encoder: VisionEncoder, weights: Mapping[str, Matrix]):
        self.config = config
        self.encoder = encoder
        self.weights = weights
        self.parameters = encoder.parameters + sum(prod(array.shape) for array in weights.values())
        self.build(Weights(weights), config)

    def build(self, w: Weights, c: AnyConfig) -> None:
        """Build what stands between encoder and decoder, and say what ``image_token_id`` is."""
        raise NotImplementedError

    @classmethod
    def config_of(cls, raw: JsonObject, text: EncoderConfig) -> EncoderConfig:
        """Build the config from a whole model's parsed config.json and its decoder's config.

        Raises ConfigError, naming key and value.
        """
        return cls.Config.from_dict({**raw, "text_width": text.sizes["D"]})

    @staticmethod
    def encoder_of(config: AnyConfig) -> tuple[type[VisionEncoder], EncoderConfig]:
        """Return the class of the encoder, and its checked config; raises ConfigError."""
        raise NotImplementedError

    def vectors(self, pixels: Pixels) -> NDArray[np.float32]:
        """Encode one image: the vectors (N, D) that stand for it in a text, in the order of their places."""
        raise NotImplementedError

    def seen(self, image: ImageInput) -> SeenImage:
        """Read one image.

        Raises InputError where it has more places than vectors, or fewer.
        """
        return self.placed(image, tap("vectors", self.vectors(image.pixels)))

    def placed(self, image: ImageInput, vectors: NDArray[np.float32]) -> SeenImage:
        """Put an image's vectors at its places; raises InputError where these are more, or fewer."""
        if len(vectors) != len(image.places):
            raise InputError(
                f"An image has {len(image.places)} places in the prompt, but {len(vectors)} vectors."
            )
        return SeenImage(image.places, vectors, prefix=self.bidirectional == "prompt")

    def see(self, images: Sequence[Image], first: int = 0) -> tuple[SeenImage, ...]:
        """Read the images of a prompt; those that have been read stay as they are.

        first  the number that taps give to the first of them

        A prompt that is read in pieces, or continued more than once, needs its images read once:
        ``model(piece, cache=cache, images=seen)``. Raises InputError for what is no image in a prompt.
        """
        check_images(images)
        found = []
        unread = [image for image in images if isinstance(image, ImageInput)]
        with reading(unread, len(self.encoder.blocks)):
            for number, image in enumerate(images, first):
                if isinstance(image, SeenImage):
                    found.append(image)
                else:
                    with scope(f"images.{number}"):
                        found.append(self.seen(image))
        return grouped(found) if self.bidirectional == "image" else tuple(found)

    @classmethod
    def from_checkpoint(cls, config: AnyConfig, checkpoint: Checkpoint, dtype: str = "auto") -> Self:
        """Build the vision part that a config describes, with the whole checkpoint's weights.

        dtype  the element type to keep matrices in, see ``load``

        Raises CheckpointError where the weights do not fit the config.
        """
        kind, its_config = cls.encoder_of(config)
        encoder = kind.from_checkpoint(its_config, vision_tensors(checkpoint), dtype)
        config, table = fitted(cls, config, projector_tensors(checkpoint))
        return cls(config, encoder, gather(projector_tensors(checkpoint), table, dtype))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.encoder).__name__}, {count_of(self.parameters)} parameters)"


def tile_by_tile(encode: Callable[[NDArray[np.float32]], NDArray], tiles: NDArray[np.float32]) -> NDArray:
    """Encode the tiles of an image one at a time, so that memory does not grow with the image.

    encode  from tiles (n, C, h, w) to vectors (n·N, D), or what else has n on its first axis
    tiles   (n, C, h, w)

    Where somebody listens all of them go together: taps then have them in one array.
    """
    if listening():
        return encode(tiles)
    return np.concatenate([encode(tile) for tile in np.split(tiles, len(tiles))])


def images_of_rows(
    vision: VisionPart | None, images: Sequence[Image] | Sequence[Sequence[Image]], ids: NDArray[np.integer]
) -> Sequence[tuple[SeenImage, ...]] | None:
    """Read the images of each row.

    vision  what reads them; None in a model of text alone
    images  of ids (T,), or for each row of ids (B, T) a list of its own

    Returns them; None where no row has any. Raises InputError where they cannot be read.
    """
    rows: Any = [images] if ids.ndim == 1 else images
    if not _is_list(rows) or len(rows) != np.atleast_2d(ids).shape[0] or not all(map(_is_list, rows)):
        raise InputError("images must be a list, or for several rows of ids a list for each of them.")
    if not any(rows):
        return None
    if vision is None:
        raise InputError("This model reads text alone: it cannot be given images.")
    firsts = np.cumsum([0, *map(len, rows)]).tolist()
    return [vision.see(row, first) for row, first in zip(rows, firsts, strict=False)]


def check_images(images: Sequence[object]) -> None:
    """Raise InputError unless these are images in a prompt."""
    for image in images:
        if not isinstance(image, ImageInput | SeenImage):
            raise InputError(
                f"images has a {type(image).__name__}; a model takes what processor.prompt returned."
            )


def places_of(images: Sequence[Image]) -> int:
    """Return how many tokens of a prompt stand for the vectors of its images."""
    return sum(len(image.places) for image in images)


def _is_list(images: object) -> bool:
    return isinstance(images, Sequence) and not isinstance(images, str | bytes)


def with_images(x: NDArray, step: Step) -> NDArray:
    """Put the vectors of images in the places of tokens.

    x     (B, T, D) the embeddings of a call's tokens; changed in place
    step  where they stand, and the images of each row

    Returns x.
    """
    for b, images in enumerate(step.images or ()):
        start = int(step.start[b])
        for image in images:
            new = image.within(start, start + step.length)
            x[b, image.places[new] - start] = image.vectors[new]
    return tap("embedding.images", x)


def plus_deep(x: NDArray, step: Step, layer: int) -> NDArray:
    """Add the further vectors that images have for a layer, at their places (DeepStack).

    x      (B, T, D) the residual stream after the block, or (B, 1, D) of the last tokens
    step   where the tokens stand, and whether only the last one's result is wanted
    layer  the block's number

    Returns x, changed in place.
    """
    queries = step.queries
    for b, images in enumerate(queries.images or ()):
        start = int(queries.start[b])
        for image in images:
            if image.deep is not None and layer < len(image.deep):
                new = image.within(start, start + queries.length)
                x[b, image.places[new] - start] += image.deep[layer, new]
    return x


def check_places(tokens: NDArray[np.integer], step: Step, image_token_id: int) -> None:
    """Raise InputError where an image has a place at which there is no image token.

    tokens  (B, T) of a call
    """
    for b, images in enumerate(step.images or ()):
        start = int(step.start[b])
        for image in images:
            places = image.places[image.within(start, start + step.length)]
            wrong = places[tokens[b, places - start] != image_token_id]
            if wrong.size:
                what = f"at token {wrong[0]}, which is {tokens[b, wrong[0] - start]} and not the image token"
                if image.first < start:
                    raise InputError(
                        f"The cache holds a part of an image. Its next place is {what} {image_token_id}. "
                        f"Read the rest of the image, or truncate the cache to {image.first} tokens."
                    )
                raise InputError(
                    f"An image has its place {what} {image_token_id}. Prompt and images are of one another: "
                    "give those that processor.prompt returned together."
                )
