"""Falcon Mamba (Zuo et al. 2024, arXiv:2410.05355): Mamba at 7B, with norms of δ, B and C.

    x → norm → mixer ──+ x      (× L)
    logits = norm(x) · W                           in the mixer: δ, B, C = norm(δ), norm(B), norm(C)

| attention | position | norm    | activation | block                  | context                          |
|-----------|----------|---------|------------|------------------------|----------------------------------|
| none      | none     | RMSNorm | SiLU       | mixer, no feed-forward | no limit; trained on 8192 tokens |

New in it, beside Mamba (mamba.py): δ, B and C are each scaled to unit mean square before they reach the
recurrence; without that, training at this size was unstable. Jamba (jamba.py) has the same norms with gains
(Lieber et al. 2024, arXiv:2403.19887); here they have no weights. The output layer has a matrix of its own.
It was the first model without attention that matched Transformers of its size.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import RecurrentState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.basic import Embedding, Linear, RMSNorm
from tinystar_np.layers.mamba1 import Mamba1
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.tap import tap


@dataclass(frozen=True)
class FalconMambaConfig(Config):
    """The keys of a Falcon Mamba config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is in files, though not among transformers' arguments, and goes before ``expand``.
    ``residual_in_fp32`` changes nothing, since the stream always is float32. ``use_mambapy`` and
    ``use_associative_scan`` choose between ways to compute the same.
    """

    vocab_size: int = key(50280, letter="V")
    hidden_size: int = key(768, letter="D")
    state_size: int = key(16, letter="N")
    num_hidden_layers: int = key(32, letter="L")
    layer_norm_epsilon: float = key(1e-5, above=0)
    expand: int = 2
    intermediate_size: int | None = None
    conv_kernel: int = key(4, letter="W")
    use_bias: bool = False
    use_conv_bias: bool = True
    hidden_act: str = activation_key("silu")
    time_step_rank: int | str = "auto"
    tie_word_embeddings: bool = True
    mixer_rms_eps: float = key(1e-6, above=0)

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, with F channels and the rank R of the step."""
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
    # ours:                               the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":            ("embeddings.weight", "V D"),
    "blocks.{i}.mixer_norm.gain":         ("layers.{i}.norm.weight", "D"),
    "blocks.{i}.mixer.in.weight":         ("layers.{i}.mixer.in_proj.weight", "(2F D)ᵀ"),
    "blocks.{i}.mixer.in.bias":           ("layers.{i}.mixer.in_proj.bias", "2F", "use_bias"),
    "blocks.{i}.mixer.convolution.weight": ("layers.{i}.mixer.conv1d.weight", "F 1 W"),
    "blocks.{i}.mixer.convolution.bias":  ("layers.{i}.mixer.conv1d.bias", "F", "use_conv_bias"),
    "blocks.{i}.mixer.selection.weight":  ("layers.{i}.mixer.x_proj.weight", "(R+2N F)ᵀ"),
    "blocks.{i}.mixer.time_step.weight":  ("layers.{i}.mixer.dt_proj.weight", "(F R)ᵀ"),
    "blocks.{i}.mixer.time_step.bias":    ("layers.{i}.mixer.dt_proj.bias", "F"),
    "blocks.{i}.mixer.A_log":             ("layers.{i}.mixer.A_log", "F N"),
    "blocks.{i}.mixer.D":                 ("layers.{i}.mixer.D", "F"),
    "blocks.{i}.mixer.out.weight":        ("layers.{i}.mixer.out_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.mixer.out.bias":          ("layers.{i}.mixer.out_proj.bias", "D", "use_bias"),
    "final_norm.gain":                    ("norm_f.weight", "D"),
    "head.weight":                        ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """The mixer reads a normed copy of the stream and adds its result; there is no feed-forward layer."""

    def __init__(self, w: Weights, c: FalconMambaConfig, i: int):
        self.mixer_norm = RMSNorm(w / "mixer_norm", eps=c.layer_norm_epsilon)
        R, N = c.sizes["R"], c.sizes["N"]
        of_step, of_state = UnitNorm(R, eps=c.mixer_rms_eps), UnitNorm(N, eps=c.mixer_rms_eps)
        self.mixer = Mamba1(
            w / "mixer", activation=ACTIVATIONS[c.hidden_act], norms=(of_step, of_state, of_state)
        )
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("mixer_norm", self.mixer_norm(x))
        return tap("residual", step.wanted(x) + self.mixer(normed, step, state))


class UnitNorm(Module):
    """RMSNorm whose gains are all 1.

    size  of the vectors
    eps   added to the mean square
    """

    def __init__(self, size: int, *, eps: float):
        self.ones: NDArray = np.ones(size, dtype=np.float32)
        self.eps = eps

    def __call__(self, x: NDArray) -> NDArray:
        """Normalise (..., size): a new array."""
        return fast.rms_norm(x, self.ones, self.eps)


class FalconMamba(Decoder[FalconMambaConfig]):
    """Falcon Mamba 7B."""

    Config = FalconMambaConfig
    WEIGHTS = WEIGHTS
    PREFIX = "backbone."

    def build(self, w: Weights, c: FalconMambaConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.layer_norm_epsilon)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="mamba",
    kind="recurrence",
    changed="Norms of δ, B and C",
    why="training stays stable at 7B",
    published="7B",
    keys={"hidden_size": 4096},
)
