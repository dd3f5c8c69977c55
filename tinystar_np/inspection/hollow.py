"""A model without weights: built from config.json alone, to be looked at and measured, not to be run.

A layer knows its heads, widths and activation when it is built, and it wants arrays only for their shapes.
So every array is one zero that is seen from all places at once: a model of any size takes no memory.
"""

import numpy as np

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import expand
from tinystar_np.errors import ConfigError
from tinystar_np.models.base import Decoder
from tinystar_np.models.registry import model_class
from tinystar_np.models.text_part import text_config


def hollow_model(raw: JsonObject) -> Decoder:
    """Build the model that a parsed config.json describes, with zeros for weights.

    Raises ConfigError as ``load`` does.
    """
    raw = text_config(dict(raw))
    architecture = model_class(raw["model_type"])
    config = architecture.Config.from_dict(raw)
    shapes = {name: row.shape for name, row in expand(architecture.WEIGHTS, config).items()}
    zero = np.float32(0)
    try:
        weights = {name: np.broadcast_to(zero, shape) for name, shape in shapes.items()}
    except ValueError as error:
        sizes = ", ".join(f"{letter} = {size}" for letter, size in config.sizes.items())
        raise ConfigError(
            f"config.json: its sizes make an array too large for any machine: {sizes}."
        ) from error
    return architecture(config, weights)
