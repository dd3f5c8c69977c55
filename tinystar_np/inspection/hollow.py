"""A hollow model: built from config.json alone, without weights, to be described and counted, not to be run.

Building a layer needs only the shapes of its arrays. So every array is a single zero, broadcast to its shape:
a model of any size takes no memory.
"""

import numpy as np

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable, expand
from tinystar_np.errors import ConfigError
from tinystar_np.kernels.linear import Matrix
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config
from tinystar_np.models.embedding_model import EmbeddingModel
from tinystar_np.models.registry import embedding_class, model_class, vision_class
from tinystar_np.models.text_part import text_config
from tinystar_np.models.vision_part import VisionPart


def hollow_model(raw: JsonObject) -> Decoder:
    """Build the model of a parsed config.json, with zeros for weights.

    Raises ConfigError as ``load`` does.
    """
    raw = text_config(dict(raw))
    architecture = model_class(raw["model_type"])
    config = architecture.Config.from_dict(raw)
    return architecture(config, _zeros(architecture.WEIGHTS, config))


def hollow_vision(raw: JsonObject, text: Decoder) -> VisionPart | None:
    """Build what reads a model's images, in the same way; None for a model of text alone.

    raw   the whole parsed config.json
    text  its text part

    Raises ConfigError as ``load`` does.
    """
    kind = vision_class(raw["model_type"])
    if kind is None:
        return None
    config = kind.config_of(raw, text.config)
    encoder, its_config = kind.encoder_of(config)
    return kind(
        config, encoder(its_config, _zeros(encoder.WEIGHTS, its_config)), _zeros(kind.WEIGHTS, config)
    )


def hollow_embedding_model(raw: JsonObject) -> EmbeddingModel:
    """Build a model that embeds texts and images in the same way.

    raw  a parsed config.json with the ``model_type`` of such a model
    """
    architecture = embedding_class(raw["model_type"])
    assert architecture is not None
    config = architecture.Config.from_dict(raw)
    encoder, vision = architecture.encoder_of(config)
    zeros = _zeros(architecture.WEIGHTS, config)
    return architecture(config, encoder(vision, _zeros(encoder.WEIGHTS, vision)), zeros)


def _zeros(table: WeightTable, config: Config) -> dict[str, Matrix]:
    """Return a zero of its shape for each array of a weight table."""
    shapes = {name: row.shape for name, row in expand(table, config).items()}
    zero = np.float32(0)
    try:
        return {name: np.broadcast_to(zero, shape) for name, shape in shapes.items()}
    except ValueError as error:
        sizes = ", ".join(f"{letter} = {size}" for letter, size in config.sizes.items())
        raise ConfigError(
            f"config.json: its sizes make an array too large for any machine: {sizes}."
        ) from error
