"""Gemma 3, its text models (Gemma Team 2025, arXiv:2503.19786): five layers look near, the sixth far.

    x₀ = √D · embedding
    x → norm → attention → norm ──+ x → norm → feed-forward → norm ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention                | position        | norm              | activation   | block    | context    |
|--------------------------|-----------------|-------------------|--------------|----------|------------|
| GQA, norms of q and k;   | RoPE, base 10⁴  | RMSNorm, gain 1+w | GeGLU (tanh) | sandwich | 32768 (1B) |
| window 512 in 5 of 6     | near, 10⁶ far   |                   |              |          |            |

New in it, beside Gemma 2 (gemma2.py): what long texts cost. One layer in six sees all, and the windows of the
others are short, so that the cache is a sixth of what it was. Both kinds turn at their own base: fast where
positions are near; slowly, and in the larger models eight times as slowly once more, where they are far. In
place of the caps, queries and keys are normed head by head (Henry et al. 2020, arXiv:2010.04245; Dehghani et
al. 2023, arXiv:2302.05442): that bounds the scores as well, and leaves the softmax alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.configs.config import at_least_1, require
from tinystar_np.configs.layer_types import FULL, SLIDING
from tinystar_np.configs.rope_parameters import RopeParameters
from tinystar_np.layers import Weights
from tinystar_np.models.facts import Facts
from tinystar_np.models.gemma2 import Gemma2, Gemma2Config
from tinystar_np.models.llama import HEAD_NORMS, LlamaConfig
from tinystar_np.weights.weight_table import WeightTable


@dataclass(frozen=True)
class Gemma3TextConfig(Gemma2Config):
    """Gemma 2's keys with Gemma 3's defaults, and a base of rotations for each kind of layer.

    Files say it in ``rope_parameters``, once per kind, or in old ones in ``rope_theta`` and ``rope_scaling``
    for the layers that see all and ``rope_local_base_freq`` for the others. transformers does not apply a cap
    to the scores, though its config class has the key.
    """

    REFUSED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **Gemma2Config.REFUSED,
        "attn_logit_softcapping": (None,),
    }

    vocab_size: int = 262208
    max_position_embeddings: int = 131072
    rope_theta: float = 1e6
    rope_local_base_freq: float = 1e4
    sliding_window_pattern: int | None = 6
    final_logit_softcapping: float | None = None
    attn_logit_softcapping: float | None = None

    @property
    def full_every(self) -> int:
        """Which layers see all, where the file does not name them."""
        return at_least_1("sliding_window_pattern", self.sliding_window_pattern)

    @property
    def ropes(self) -> dict[str, RopeParameters]:
        """The rule of the rotations in each kind of layer."""
        far = vars(self)
        near = {**far, "rope_scaling": None, "rope_theta": self.rope_local_base_freq}
        kinds = {FULL: far, SLIDING: near}
        return {
            kind: RopeParameters.read(keys, head_dim=self.sizes["K"], kind=kind)
            for kind, keys in kinds.items()
        }

    @property
    def rope(self) -> RopeParameters:
        """The rule in the layers that see all."""
        return self.ropes[FULL]

    def check(self) -> None:
        """Refuse contradictions."""
        given = self.rope_parameters or {}
        flat = {key: value for key, value in given.items() if not isinstance(value, Mapping | None)}
        require(not flat, f"rope_parameters has {flat} outside of the two kinds of layers.")
        require(
            not (given and self.rope_scaling),
            "rope_scaling and rope_parameters are both there; the one is the other's old name.",
        )
        super().check()


class Gemma3Text(Gemma2):
    """Gemma 3 270M and 1B, and the text part of the larger ones, which also see."""

    Config = Gemma3TextConfig

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Add the norms of queries and keys."""
        return {**Gemma2.weight_table(config), **HEAD_NORMS}

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Turn queries and keys as the layer's kind does."""
        rope = self.config.ropes[SLIDING if self.config.windows[i] else FULL].rotary()
        return {**super().attention(i, w), "rope": rope}


FACTS = Facts(
    grew_from="gemma2",
    kind="attention",
    changed="Five layers with a window for each one that sees all; two RoPE bases",
    why="a sixth of the cache; norms of q and k replace the caps",
    published="4B",
    keys={"num_hidden_layers": 6, "sliding_window": 1024},
)
