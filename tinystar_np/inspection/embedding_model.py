"""Describing a model that embeds texts and images, from its config alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from tinystar_np.inspection.describe import mixers_of
from tinystar_np.inspection.describe_layers import Part, describe
from tinystar_np.layers.basic import Mixer
from tinystar_np.models.embedding_model import EmbeddingModel


@dataclass(frozen=True)
class EncoderDescription:
    """One of its two encoders.

    layers        L
    width         D
    mixer         the attention of a block
    feed_forward  the feed-forward layer of a block
    parameters    all of them
    """

    layers: int
    width: int
    mixer: Part
    feed_forward: Part
    parameters: int


@dataclass(frozen=True)
class EmbeddingDescription:
    """What a model of texts and images is made of.

    text, image    its encoders
    width          P, of the vectors that are compared
    vocabulary     V
    tokens         the most tokens of a text
    padded         whether every text is filled up to so many
    image_size     height and width of an image in pixels
    patch_size     and of its patches
    compared       parameters after the encoders: projections, scale, bias
    """

    text: EncoderDescription
    image: EncoderDescription
    width: int
    vocabulary: int
    tokens: int
    padded: bool
    image_size: int
    patch_size: int
    compared: int

    @property
    def side(self) -> int:
        """How many patches a side of an image has."""
        return self.image_size // self.patch_size

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.text.parameters + self.image.parameters + self.compared

    @property
    def facts(self) -> Mapping[str, object]:
        """The same for programs."""
        encoders = {"text": self.text, "image": self.image}
        described = {
            name: {
                "layers": each.layers,
                "width": each.width,
                "mixer": each.mixer.facts,
                "feed_forward": each.feed_forward.facts,
                "parameters": each.parameters,
            }
            for name, each in encoders.items()
        }
        described["text"] |= {"vocabulary": self.vocabulary, "tokens": self.tokens, "padded": self.padded}
        described["image"] |= {"image_size": self.image_size, "patch_size": self.patch_size}
        return {"width": self.width, "parameters": self.parameters, **described}


def describe_embedding_model(model: EmbeddingModel) -> EmbeddingDescription:
    """Describe a model; a hollow one will do (inspection/hollow.py)."""
    of_text, vision = model.config.sizes, model.encoder.config
    counts = {name: prod(array.shape) for name, array in model.weights.items()}
    compared = sum(count for name, count in counts.items() if _is_after_encoders(name))
    return EmbeddingDescription(
        text=_encoder(model.blocks[0], of_text, sum(counts.values()) - compared),
        image=_encoder(model.encoder.blocks[0], vision.sizes, model.encoder.parameters),
        width=of_text["P"],
        vocabulary=of_text["V"],
        tokens=of_text["C"],
        padded=model.padded_length is not None,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        compared=compared,
    )


def _encoder(block: Mixer, sizes: Mapping[str, int], parameters: int) -> EncoderDescription:
    (mixer,) = mixers_of(block)
    feed_forward = describe(vars(block)["feed_forward"])
    return EncoderDescription(sizes["L"], sizes["D"], describe(mixer), feed_forward, parameters)


def _is_after_encoders(name: str) -> bool:
    """Say whether one of our names is of a projection, or of the scale and bias of comparisons."""
    return "projection." in name or "." not in name
