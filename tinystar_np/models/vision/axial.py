"""The base of rotations by rows and columns, as the vision configs of Pixtral, Llama 4 and Qwen have it."""

from collections.abc import Mapping

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.models.config import require
from tinystar_np.models.rope_keys import ABOVE_0, RopeKeys

RULES = (None, "axial", "default")
"""What ``rope_type`` may be: rows and columns in any case."""


def axial_theta(keys: Mapping[str, object]) -> float:
    """Return the base θ of the frequencies; a config class calls ``axial_theta(vars(self))``.

    keys  of these, what there is: rope_theta, rope_scaling, rope_parameters

    Raises ConfigError, naming key and value.
    """
    given = RopeKeys.of(keys, None)
    for name in ("rope_type", "type"):
        rule = given.inside.get(name)
        require(rule in RULES, f"{given.name(name)} = {shown(rule)}, but this encoder knows 'axial' only.")
    return given.number("rope_theta", ABOVE_0, 10000.0)
