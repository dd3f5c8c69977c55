"""Mamba (Gu & Dao 2023, arXiv:2312.00752): a language model without attention.

    x → norm → mixer ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position | norm    | activation | block                  | context                        |
|-----------|----------|---------|------------|------------------------|--------------------------------|
| none      | none     | RMSNorm | SiLU       | mixer, no feed-forward | no limit; trained on 2048 tokens |

New in it: a recurrence whose decay, input and output depend on the token, so that it can choose what to keep;
what tokens wrote before stands in a state of fixed size instead of a cache that grows. One kind of layer does
the work of two: the mixer widens, convolves, remembers, gates and narrows. Order comes from the recurrence
itself, so positions are never told. A token costs the same time and no memory at any length.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from tinystar_np.configs.config import DecoderConfig, require
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers import RMSNorm, Weights
from tinystar_np.layers.mamba1 import Mamba1
from tinystar_np.layers.mixer_block import MixerBlock
from tinystar_np.models.decoder import Decoder
from tinystar_np.models.facts import Facts
from tinystar_np.weights.weight_table import WeightTable, with_switches


@dataclass(frozen=True)
class MambaConfig(DecoderConfig):
    """The keys of a Mamba config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` stands in files but not among transformers' arguments; where it does, it goes before
    ``expand``. ``residual_in_fp32`` changes nothing, the stream always is float32. ``use_mambapy`` and
    ``use_associative_scan`` choose between ways to compute the same.
    """

    vocab_size: int = 50280
    hidden_size: int = 768
    state_size: int = 16
    num_hidden_layers: int = 32
    layer_norm_epsilon: float = 1e-5
    expand: int = 2
    intermediate_size: int | None = None
    conv_kernel: int = 4
    use_bias: bool = False
    use_conv_bias: bool = True
    hidden_act: str = "silu"
    time_step_rank: int | str = "auto"
    tie_word_embeddings: bool = True

    # The original code's files have it; there, false means layer norms.
    REFUSED: ClassVar = {"rms_norm": (True, None)}

    LETTERS: ClassVar = {
        "V": "vocab_size",
        "D": "hidden_size",
        "L": "num_hidden_layers",
        "N": "state_size",
        "W": "conv_kernel",
    }

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, F channels and the rank R of the step."""
        rank = math.ceil(self.hidden_size / 16) if self.time_step_rank == "auto" else self.time_step_rank
        inner = self.expand * self.hidden_size if self.intermediate_size is None else self.intermediate_size
        return {**super().sizes, "F": inner, "R": int(rank)}

    def check(self) -> None:
        """Refuse contradictions."""
        require(
            self.time_step_rank == "auto" or isinstance(self.time_step_rank, int),
            f'time_step_rank = {self.time_step_rank!r}, but it must be a number or "auto".',
        )
        super().check()


WEIGHTS: WeightTable = {
    # ours:                              (the checkpoint's, shape)
    "embedding.tokens.weight":           ("embeddings.weight", "V D"),
    "blocks.{i}.mixer_norm.gain":        ("layers.{i}.norm.weight", "D"),
    "blocks.{i}.mixer.in.weight":        ("layers.{i}.mixer.in_proj.weight", "2F D -> D 2F"),
    "blocks.{i}.mixer.convolution.weight": ("layers.{i}.mixer.conv1d.weight", "F 1 W"),
    "blocks.{i}.mixer.selection.weight": ("layers.{i}.mixer.x_proj.weight", "R+2N F -> F R+2N"),
    "blocks.{i}.mixer.time_step.weight": ("layers.{i}.mixer.dt_proj.weight", "F R -> R F"),
    "blocks.{i}.mixer.time_step.bias":   ("layers.{i}.mixer.dt_proj.bias", "F"),
    "blocks.{i}.mixer.A_log":            ("layers.{i}.mixer.A_log", "F N"),
    "blocks.{i}.mixer.D":                ("layers.{i}.mixer.D", "F"),
    "blocks.{i}.mixer.out.weight":       ("layers.{i}.mixer.out_proj.weight", "D F -> F D"),
    "final_norm.gain":                   ("norm_f.weight", "D"),
}  # fmt: skip
BIASES: WeightTable = {
    "blocks.{i}.mixer.in.bias":          ("layers.{i}.mixer.in_proj.bias", "2F"),
    "blocks.{i}.mixer.out.bias":         ("layers.{i}.mixer.out_proj.bias", "D"),
}  # fmt: skip
CONVOLUTION_BIAS: WeightTable = {
    "blocks.{i}.mixer.convolution.bias": ("layers.{i}.mixer.conv1d.bias", "F"),
}  # fmt: skip


class Mamba(Decoder):
    """Mamba in its sizes from 130M to 2.8B, as converted for transformers (``-hf``)."""

    Config = MambaConfig
    PREFIX = "backbone."

    @staticmethod
    def weight_table(config: MambaConfig) -> WeightTable:
        """Add what the config switches on."""
        return with_switches(WEIGHTS, config, use_bias=BIASES, use_conv_bias=CONVOLUTION_BIAS)

    def block(self, i: int, w: Weights) -> MixerBlock:
        """Norm and mixer."""
        c: MambaConfig = self.config
        return MixerBlock(
            mixer_norm=self.norm(w.mixer_norm),
            mixer=Mamba1(w.mixer, activation=ACTIVATIONS[c.hidden_act]),
        )

    def norm(self, w: Weights) -> RMSNorm:
        """Build a norm."""
        return RMSNorm(w, eps=self.config.layer_norm_epsilon)


FACTS = Facts(
    grew_from=None,
    kind="recurrence",
    changed="No attention: a recurrence whose decay, input and output depend on the token",
    why="each token costs the same time and no memory, at any length",
    published="2.8B",
    keys={"hidden_size": 2560},
)
