"""Mamba 2 (Dao & Gu 2024, arXiv:2405.21060): the state-space model as a kind of attention.

    x → norm → mixer ──+ x      (× L)
    logits = norm(x) · W

| attention | position | norm    | activation | block                  | context  |
|-----------|----------|---------|------------|------------------------|----------|
| none      | none     | RMSNorm | SiLU       | mixer, no feed-forward | no limit |

New in it: heads, each with one rate of decay instead of one per channel and state. That makes a prompt a row
of matrix products, and allows a state of 128 numbers per channel where Mamba 1 has 16. B and C are shared by
the heads of a group, as keys and values are in grouped-query attention; all inputs of the recurrence come out
of one product; a norm stands behind the gate. The mixer is also what Granite 4, Bamba, Zamba 2 and others put
between their attention layers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tinystar_np.configs.config import DecoderConfig, require
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers import RMSNorm, Weights
from tinystar_np.layers.mamba2 import Mamba2 as Mamba2Mixer
from tinystar_np.layers.mixer_block import MixerBlock
from tinystar_np.models.decoder import Decoder
from tinystar_np.models.facts import Facts
from tinystar_np.weights.weight_table import WeightTable, with_switches


@dataclass(frozen=True)
class Mamba2Config(DecoderConfig):
    """The keys of a Mamba 2 config.json that change the mathematics; defaults as in transformers.

    ``chunk_size`` says how a prompt is cut up on a graphics processor: the result is the same, and another
    size is faster here. ``residual_in_fp32`` changes nothing, the stream always is float32.
    ``norm_before_gate`` stands in some files and is not looked at by the reference: the gate comes first.
    """

    vocab_size: int = 32768
    hidden_size: int = 4096
    state_size: int = 128
    num_hidden_layers: int = 64
    num_heads: int = 128
    head_dim: int = 64
    n_groups: int = 8
    expand: int = 2
    layer_norm_epsilon: float = 1e-5
    conv_kernel: int = 4
    use_bias: bool = False
    use_conv_bias: bool = True
    hidden_act: str = "silu"
    time_step_limit: list[float] | tuple[float, ...] = (0.0, math.inf)
    tie_word_embeddings: bool = False

    # The original code's files have it; there, false means layer norms.
    REFUSED: ClassVar = {"rms_norm": (True, None)}

    LETTERS: ClassVar = {
        "V": "vocab_size",
        "D": "hidden_size",
        "L": "num_hidden_layers",
        "H": "num_heads",
        "P": "head_dim",
        "G": "n_groups",
        "N": "state_size",
        "W": "conv_kernel",
    }

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        require(
            self.num_heads * self.head_dim == self.expand * self.hidden_size,
            f"num_heads = {self.num_heads} of head_dim = {self.head_dim} make "
            f"{self.num_heads * self.head_dim} channels, but expand = {self.expand} times hidden_size = "
            f"{self.hidden_size} makes {self.expand * self.hidden_size}.",
        )
        check_time_step_limit(self.time_step_limit)


def check_time_step_limit(limit: Sequence[float]) -> None:
    """Raise ConfigError unless these are the least and the largest step."""
    require(
        len(limit) == 2
        and all(type(number) in (int, float) for number in limit)
        and 0 <= limit[0] <= limit[1],  # false for NaN
        f"time_step_limit = {list(limit)}, but it must be two numbers, the least and the largest step.",
    )


WEIGHTS: WeightTable = {
    # ours:                               (the checkpoint's, shape)
    "embedding.tokens.weight":            ("embeddings.weight", "V D"),
    "blocks.{i}.mixer_norm.gain":         ("layers.{i}.norm.weight", "D"),
    "blocks.{i}.mixer.in.weight":         ("layers.{i}.mixer.in_proj.weight", "2HP+2GN+H D -> D 2HP+2GN+H"),
    "blocks.{i}.mixer.convolution.weight": ("layers.{i}.mixer.conv1d.weight", "HP+2GN 1 W"),
    "blocks.{i}.mixer.time_step_bias":    ("layers.{i}.mixer.dt_bias", "H"),
    "blocks.{i}.mixer.A_log":             ("layers.{i}.mixer.A_log", "H"),
    "blocks.{i}.mixer.D":                 ("layers.{i}.mixer.D", "H"),
    "blocks.{i}.mixer.gated_norm.gain":   ("layers.{i}.mixer.norm.weight", "HP"),
    "blocks.{i}.mixer.out.weight":        ("layers.{i}.mixer.out_proj.weight", "D HP -> HP D"),
    "final_norm.gain":                    ("norm_f.weight", "D"),
}  # fmt: skip
BIASES: WeightTable = {
    "blocks.{i}.mixer.in.bias":           ("layers.{i}.mixer.in_proj.bias", "2HP+2GN+H"),
    "blocks.{i}.mixer.out.bias":          ("layers.{i}.mixer.out_proj.bias", "D"),
}  # fmt: skip
CONVOLUTION_BIAS: WeightTable = {
    "blocks.{i}.mixer.convolution.bias":  ("layers.{i}.mixer.conv1d.bias", "HP+2GN"),
}  # fmt: skip


class Mamba2(Decoder):
    """Mamba 2 and Codestral Mamba 7B, as converted for transformers."""

    Config = Mamba2Config
    PREFIX = "backbone."

    @staticmethod
    def weight_table(config: Mamba2Config) -> WeightTable:
        """Add what the config switches on."""
        return with_switches(WEIGHTS, config, use_bias=BIASES, use_conv_bias=CONVOLUTION_BIAS)

    def block(self, i: int, w: Weights) -> MixerBlock:
        """Norm and mixer."""
        c: Mamba2Config = self.config
        least, largest = c.time_step_limit
        return MixerBlock(
            mixer_norm=self.norm(w.mixer_norm),
            mixer=Mamba2Mixer(
                w.mixer,
                heads=c.num_heads,
                head_dim=c.head_dim,
                groups=c.n_groups,
                state_size=c.state_size,
                eps=c.layer_norm_epsilon,
                activation=ACTIVATIONS[c.hidden_act],
                time_step_limit=(least, largest),
            ),
        )

    def norm(self, w: Weights) -> RMSNorm:
        """Build a norm."""
        return RMSNorm(w, eps=self.config.layer_norm_epsilon)


FACTS = Facts(
    grew_from="mamba",
    kind="recurrence",
    changed="Heads with one rate of decay; B and C shared by groups of heads",
    why="a prompt becomes matrix products; the state is eight times as large",
    published="Codestral 7B",
)
