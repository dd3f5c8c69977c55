"""StableLM 3B and 2-1.6B as they were first published, with code of their own: ``stablelm_epoch``.

The tensors have the names that they still have (stablelm.py); some keys of the config.json were others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.models.stablelm import StableLm, StableLmConfig


@dataclass(frozen=True)
class OldStableLmConfig(StableLmConfig):
    """StableLM's keys under their first names."""

    ALIASES: ClassVar[Mapping[str, str]] = {
        "norm_eps": "layer_norm_eps",
        "num_heads": "num_attention_heads",
        "rope_pct": "partial_rotary_factor",
    }
    REFUSED: ClassVar[Mapping[str, tuple[Any, ...]]] = {"rotary_scaling_factor": (1.0, None)}
    UNUSED: ClassVar[Sequence[str]] = (
        *("rms_norm_eps", "attention_bias", "mlp_bias", "head_dim"),
        *("rope_scaling", "rope_parameters", "qk_layernorm", "use_parallel_residual"),
    )


class OldStableLm(StableLm):
    """The first files of StableLM 3B 4E1T, StableLM 2 1.6B, Zephyr and Stable Code 3B."""

    Config = OldStableLmConfig
