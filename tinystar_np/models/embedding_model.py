"""What all models share that embed texts and images into one space, as CLIP does. They do not write.

    text  → encoder → vector (P,) ─┐
                                   ├→ the cosine of their angle → how well they fit
    image → encoder → vector (P,) ─┘

Nothing of a text meets the image before the last product. So a million images are embedded once, and a query
costs one text and a product: search. With texts such as "a photo of a cat" for all the names of things that
an image may show, the same product classifies images of kinds that no label was ever given for.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import ClassVar, Generic, NoReturn, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.gather import gather
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.errors import InputError
from tinystar_np.kernels.linear import Matrix
from tinystar_np.layers.basic import Mixer
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import in_silence
from tinystar_np.models.config import AnyConfig, Config
from tinystar_np.models.fitted import fitted
from tinystar_np.models.memory import move_into_memory, side_by_side
from tinystar_np.models.text_part import vision_tensors, without_vision
from tinystar_np.models.vision.base import VisionEncoder
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.models.vision_part import EncoderConfig
from tinystar_np.tap import listening, scope, tap

TOGETHER = 8
"""How many images are encoded together at most: more are not faster, and take more memory."""


class EmbeddingModel(Generic[AnyConfig]):
    """An encoder of texts and one of images, whose vectors can be compared.

    config   a checked config of the model's own class
    encoder  the vision encoder
    weights  {our name: array, or packed matrix} of all the rest: the text encoder, and what follows both

    blocks          those of the text encoder
    vocab_size      V
    context_length  the most tokens that a text may have
    padded_length   how many tokens each text must be filled up to with padding, as the model has learned from
                    such texts; None where texts of any length are embedded
    pad_token_id    that token, where the tokenizer's files name none
    """

    Config: ClassVar[type[Config]]
    WEIGHTS: ClassVar[WeightTable]
    OTHER_FORMS: ClassVar[Sequence[WeightTable]] = ()
    PREFIX: ClassVar[str] = ""
    OTHER_NAMES: ClassVar[Mapping[str, str]] = {}
    IGNORED: ClassVar[str] = ""
    """What checkpoints may have otherwise, and besides: see ``HasWeights`` (models/fitted.py)."""

    blocks: Sequence[Mixer]
    end_ids: tuple[int, ...] = ()
    padded_length: int | None = None
    pad_token_id: int | None = None

    @in_silence
    def __init__(self, config: AnyConfig, encoder: VisionEncoder, weights: Mapping[str, Matrix]):
        self.config = config
        self.encoder = encoder
        self.weights = weights
        self.vocab_size: int = config.sizes["V"]
        self.context_length = config.context_length
        self.parameters = encoder.parameters + sum(prod(array.shape) for array in weights.values())
        self.build(Weights(weights), config)

    def build(self, w: Weights, c: AnyConfig) -> None:
        """Build the text encoder, and what follows both encoders."""
        raise NotImplementedError

    @staticmethod
    def encoder_of(config: AnyConfig) -> tuple[type[VisionEncoder], EncoderConfig]:
        """Return the class of the vision encoder, and its checked config; raises ConfigError."""
        raise NotImplementedError

    def text_vectors(self, ids: NDArray[np.integer]) -> NDArray:
        """Embed texts of one length: (B, T) → (B, P), of any length."""
        raise NotImplementedError

    def image_vectors(self, tiles: NDArray[np.float32], interpolate: bool) -> NDArray:
        """Embed images of one size: (n, C, h, w) → (n, P), of any length."""
        raise NotImplementedError

    def logits(self, cosines: NDArray) -> NDArray:
        """Turn the cosines of images and texts into how likely they are a pair: (n, B) → (n, B)."""
        raise NotImplementedError

    def probabilities(self, text: ArrayLike, image: ArrayLike) -> NDArray[np.float32]:
        """Say how probable it is that each text fits each image: (B, P) and (n, P) → (n, B)."""
        raise NotImplementedError

    @in_silence
    def embed_text(self, ids: ArrayLike, unit_length: bool = True) -> NDArray[np.float32]:
        """Embed texts.

        ids          (T,) or (B, T) ints, or a list of what ``processor.encode`` gives, of any lengths
        unit_length  whether the vectors have the length 1, as they are compared; else that of the projection

        Returns (B, P) float32; (1, P) for one text.
        Raises InputError for ids that are no tokens of this model, or a text that is too long.
        """
        rows = self._rows(ids)
        if len({len(row) for row in rows}) > 1:
            return np.concatenate([self.embed_text(row, unit_length) for row in rows])
        with scope("text"):
            x = self.text_vectors(np.stack(rows))
        return tap("text.vectors", at_unit_length(x) if unit_length else x)

    @in_silence
    def embed_image(
        self, pixels: Pixels | Sequence[Pixels], unit_length: bool = True, interpolate: bool = False
    ) -> NDArray[np.float32]:
        """Embed images.

        pixels       of one image, or of several, as ``processor.pixels`` gives them
        unit_length  as of ``embed_text``
        interpolate  whether an image may have another size than the model's own: positions are then
                     interpolated (kernels/interpolation.py), and what comes of it is less sure

        Returns (n, P) float32; (1, P) for one image.
        Raises InputError where there is none, or one of another size.
        """
        images = [pixels] if isinstance(pixels, Pixels) else list(pixels)
        if not images:
            raise InputError("embed_image was given no image.")
        tiles = [image.tiles for image in images]
        alike = len({image.shape[1:] for image in tiles}) == 1
        if alike and not listening():
            whole = np.concatenate(tiles)
            tiles = [whole[first : first + TOGETHER] for first in range(0, len(whole), TOGETHER)]
        elif alike:
            tiles = [np.concatenate(tiles)]
        with scope("image"):
            x = np.concatenate([self.image_vectors(some, interpolate) for some in tiles])
        return tap("image.vectors", at_unit_length(x) if unit_length else x)

    @in_silence
    def similarity(self, text: ArrayLike, image: ArrayLike) -> NDArray[np.float32]:
        """Compare images with texts: the cosine of each two, on the scale that was learned with them.

        text   (B, P) or (P,) what ``embed_text`` returned; the lengths of vectors make no difference
        image  (n, P) or (P,) what ``embed_image`` returned

        Returns (n, B): the higher, the better they fit. Raises InputError for vectors of other widths.
        """
        texts, images = (np.atleast_2d(np.asarray(x, dtype=np.float32)) for x in (text, image))
        P = self.config.sizes["P"]
        for what, x in (("text", texts), ("image", images)):
            if x.ndim != 2 or x.shape[1] != P:
                raise InputError(
                    f"{what} has shape {np.shape(x)}, but must be (n, {P}), as embed_{what} returns it."
                )
        return self.logits(at_unit_length(images) @ at_unit_length(texts).T)

    def _rows(self, ids: ArrayLike) -> list[NDArray[np.integer]]:
        """Return the ids of each text, checked."""
        try:
            given: Sequence[ArrayLike] = np.atleast_2d(np.asarray(ids))  # type: ignore[assignment]
        except ValueError:  # of any lengths
            given = list(ids)  # type: ignore[arg-type]
        rows = [np.asarray(row) for row in given]
        for row in rows:
            if row.ndim != 1 or row.size == 0 or row.dtype.kind not in "iu":
                raise InputError("ids must be whole numbers, (T,) or (B, T), and at least one for each text.")
            outside = row[(row < 0) | (row >= self.vocab_size)]
            if outside.size:
                raise InputError(
                    f"token id {outside[0]} is outside the vocabulary, 0 to {self.vocab_size - 1}."
                )
            if self.context_length is not None and len(row) > self.context_length:
                raise InputError(
                    f"A text has {len(row)} tokens, but {type(self).__name__} reads {self.context_length} at "
                    "most. Shorten it."
                )
        if not rows:
            raise InputError("embed_text was given no text.")
        return rows

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Raise InputError: there are no logits of a next token."""
        raise self.does_not_write()

    def new_cache(self, *_: object, **__: object) -> NoReturn:
        """Raise InputError: a text is read at once."""
        raise self.does_not_write()

    def does_not_write(self) -> InputError:
        """Return the error for a model that is asked to write."""
        return InputError(
            f"{type(self).__name__} embeds texts and images, it does not write.\n"
            "What it gives: model.embed_text(ids), model.embed_image(pixels), and model.similarity of both."
        )

    @classmethod
    @in_silence
    def from_checkpoint(cls, config: AnyConfig, checkpoint: Checkpoint, dtype: str = "auto") -> Self:
        """Build the model that a config describes, with a checkpoint's weights.

        dtype  the element type to keep matrices in, see ``load``

        Raises CheckpointError where the weights do not fit the config.
        """
        kind, its_config = cls.encoder_of(config)
        encoder = kind.from_checkpoint(its_config, vision_tensors(checkpoint), dtype)
        rest = without_vision(checkpoint)
        config, table = fitted(cls, config, rest)
        return cls(config, encoder, side_by_side(gather(rest, table, dtype)))

    def move_into_memory(self) -> None:
        """Copy float32 matrices out of their file; see ``Decoder``."""
        move_into_memory([*vars(self).values()])

    def __repr__(self) -> str:
        P = self.config.sizes["P"]
        return f"{type(self).__name__}(texts and images as {P} numbers, {self.parameters} parameters)"


def at_unit_length(x: NDArray) -> NDArray:
    """Divide vectors (..., P) by their lengths."""
    return x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True))
