"""Mamba 2 (Dao & Gu 2024, arXiv:2405.21060): the state-space model as a kind of attention.

    x → norm → mixer ──+ x      (× L)
    logits = norm(x) · W

| attention | position | norm    | activation | block                  | context  |
|-----------|----------|---------|------------|------------------------|----------|
| none      | none     | RMSNorm | SiLU       | mixer, no feed-forward | no limit |

New in it: heads, each with one rate of decay instead of one per channel and state. That makes a prompt a row
of matrix products, and allows a state of 128 numbers per channel where Mamba 1 has 16. B and C are shared by
the heads of a group, as keys and values are in grouped-query attention; all inputs of the recurrence come out
of one product; a norm follows the gate. The mixer is also what Granite 4, Bamba, Zamba 2 and others put
between their attention layers.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import RecurrentState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.basic import Embedding, Linear, RMSNorm
from tinystar_np.layers.mamba2 import Mamba2 as Mamba2Mixer
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, check_time_step_limit, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Mamba2Config(Config):
    """The keys of a Mamba 2 config.json that change the mathematics; defaults as in transformers.

    ``chunk_size`` says how a prompt is cut up on a graphics processor: the result is the same, and another
    size is faster here. ``residual_in_fp32`` changes nothing, the stream always is float32.
    ``norm_before_gate`` stands in some files and is not looked at by the reference: the gate comes first.
    """

    vocab_size: int = key(32768, letter="V")
    hidden_size: int = key(4096, letter="D")
    state_size: int = key(128, letter="N")
    num_hidden_layers: int = key(64, letter="L")
    num_heads: int = key(128, letter="H")
    head_dim: int = key(64, letter="P")
    n_groups: int = key(8, letter="G")
    expand: int = 2
    layer_norm_epsilon: float = key(1e-5, above=0)
    conv_kernel: int = key(4, letter="W")
    use_bias: bool = False
    use_conv_bias: bool = True
    hidden_act: str = activation_key("silu")
    time_step_limit: list[float] | tuple[float, ...] = (0.0, math.inf)
    tie_word_embeddings: bool = False

    # The original code's files have it; there, false means layer norms.
    REFUSED: ClassVar = {"rms_norm": (True, None)}

    @property
    def absent_letters(self) -> str:
        """Those of attention and feed-forward layers."""
        return "KF"

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


WEIGHTS: WeightTable = {
    # ours:                               the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":            ("embeddings.weight", "V D"),
    "blocks.{i}.mixer_norm.gain":         ("layers.{i}.norm.weight", "D"),
    "blocks.{i}.mixer.in.weight":         ("layers.{i}.mixer.in_proj.weight", "(2HP+2GN+H D)ᵀ"),
    "blocks.{i}.mixer.in.bias":           ("layers.{i}.mixer.in_proj.bias", "2HP+2GN+H", "use_bias"),
    "blocks.{i}.mixer.convolution.weight": ("layers.{i}.mixer.conv1d.weight", "HP+2GN 1 W"),
    "blocks.{i}.mixer.convolution.bias":  ("layers.{i}.mixer.conv1d.bias", "HP+2GN", "use_conv_bias"),
    "blocks.{i}.mixer.time_step_bias":    ("layers.{i}.mixer.dt_bias", "H"),
    "blocks.{i}.mixer.A_log":             ("layers.{i}.mixer.A_log", "H"),
    "blocks.{i}.mixer.D":                 ("layers.{i}.mixer.D", "H"),
    "blocks.{i}.mixer.gated_norm.gain":   ("layers.{i}.mixer.norm.weight", "HP"),
    "blocks.{i}.mixer.out.weight":        ("layers.{i}.mixer.out_proj.weight", "(D HP)ᵀ"),
    "blocks.{i}.mixer.out.bias":          ("layers.{i}.mixer.out_proj.bias", "D", "use_bias"),
    "final_norm.gain":                    ("norm_f.weight", "D"),
    "head.weight":                        ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """The mixer reads a normed copy of the residual stream and adds its result. There is no feed-forward."""

    def __init__(self, w: Weights, c: Mamba2Config, i: int):
        least, largest = c.time_step_limit
        self.mixer_norm = RMSNorm(w / "mixer_norm", eps=c.layer_norm_epsilon)
        self.mixer = Mamba2Mixer(
            w / "mixer",
            heads=c.num_heads,
            head_dim=c.head_dim,
            groups=c.n_groups,
            state_size=c.state_size,
            eps=c.layer_norm_epsilon,
            activation=ACTIVATIONS[c.hidden_act],
            time_step_limit=(least, largest),
        )
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("mixer_norm", self.mixer_norm(x))
        return tap("residual", step.wanted(x) + self.mixer(normed, step, state))


class Mamba2(Decoder[Mamba2Config]):
    """Mamba 2 and Codestral Mamba 7B, as converted for transformers."""

    Config = Mamba2Config
    WEIGHTS = WEIGHTS
    PREFIX = "backbone."

    def build(self, w: Weights, c: Mamba2Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.layer_norm_epsilon)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="mamba",
    kind="recurrence",
    changed="Heads with one rate of decay; B and C shared by groups of heads",
    why="a prompt becomes matrix products; the state is eight times as large",
    published="Codestral 7B",
)
