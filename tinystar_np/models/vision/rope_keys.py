"""The keys of a vision_config about rotary embedding by rows and columns: a base, and no rule to scale it."""

from collections.abc import Mapping

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.models.config import require
from tinystar_np.models.rope_keys import ABOVE_0, FRACTION, RopeKeys

PLAIN = (None, "axial", "default")
"""What ``rope_type`` says of frequencies that are not scaled; null says as little as a missing key."""


def rope_base(keys: Mapping[str, object]) -> float:
    """Return θ of kernels/rope.py; a config class calls ``rope_base(vars(self))``.

    keys  of these, what there is: rope_theta, rope_scaling, rope_parameters

    Raises ConfigError, naming key and value.
    """
    given = RopeKeys.of(keys, None)
    called = "rope_type" if given.get("rope_type") is not None else "type"
    rule = given.get(called)
    require(
        rule in PLAIN,
        f"{given.name(called)} = {shown(rule)}, but frequencies by rows and columns are never scaled here.",
    )
    fraction = given.number("partial_rotary_factor", FRACTION, 1.0)
    require(
        fraction == 1,
        f"{given.name('partial_rotary_factor')} = {fraction}, but this encoder rotates whole heads.",
    )
    return given.number("rope_theta", ABOVE_0, 10000.0)
