"""Falcon-H1 (Zuo et al. 2025, arXiv:2507.22448): attention and Mamba 2 side by side in every layer.

    x₀ = e · embedding
    x → norm ─┬→ · a → attention → · a' ─┬──+ x → norm → feed-forward ──+ x      (× L)
              └→ · m → Mamba 2   → · m' ─┘
    logits = norm(x) · W · l

| mixer              | position        | norm    | activation | block                      | context        |
|--------------------|-----------------|---------|------------|----------------------------|----------------|
| GQA beside Mamba 2 | RoPE, base 10¹¹ | RMSNorm | SwiGLU     | mixers side by side, then  | 16384 – 262144 |
|                    |                 |         |            | feed-forward               |                |

New in it: how much of a model attends is a width, not a choice of layers. Of the channels of a layer, one
part is attention's, two are Mamba's and five the feed-forward layer's; more attention made it worse. Hymba
ran both side by side before (Dong et al. 2024, arXiv:2411.13676); here one norm feeds them and their results
are added. The base of the rotations is so large that more than half of the pairs turn less than once in the
longest text. Mamba 2's norm behind the gate is left out.

Fourteen multipliers, after Yang et al. 2022, arXiv:2203.03466, carry what was tuned on a small model to a
large one: of embeddings and logits, of what goes into each mixer and comes out, of keys, of z, x, B, C and Δ,
of the feed-forward layer's gate and result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.configs.config import require
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers import Attention, GatedFeedForward, Weights
from tinystar_np.layers.hybrid_block import HybridBlock
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.models.facts import Facts
from tinystar_np.models.granite import Granite
from tinystar_np.models.granitemoehybrid import (
    CONVOLUTION_BIASES,
    MAMBA_BIASES,
    MAMBA_LAYERS,
    check_mamba,
    mamba_settings,
    mamba_sizes,
)
from tinystar_np.models.llama import Llama, LlamaConfig
from tinystar_np.weights.weight_table import WeightTable


@dataclass(frozen=True)
class FalconH1Config(LlamaConfig):
    """Llama's keys, those of Mamba as in Granite 4, and the multipliers; defaults as in transformers."""

    # Keys of the hub's files that transformers does not read.
    REFUSED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "mamba_use_mlp": (True, None),
        "attn_layer_indices": (None,),
    }

    vocab_size: int = 128000
    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 8192
    rms_norm_eps: float = 1e-5
    mamba_d_ssm: int | None = 1024
    mamba_n_heads: int = 128
    mamba_d_head: int | str = "auto"
    mamba_n_groups: int = 1
    mamba_d_state: int = 256
    mamba_d_conv: int = 4
    mamba_expand: int = 2
    mamba_conv_bias: bool | None = True
    mamba_proj_bias: bool | None = False
    mamba_rms_norm: bool | None = False
    mamba_norm_before_gate: bool | None = True
    projectors_bias: bool | None = False
    time_step_limit: list[float] | tuple[float, ...] = (0.0, float("inf"))
    embedding_multiplier: float = 1.0
    attention_in_multiplier: float = 1.0
    attention_out_multiplier: float = 1.0
    key_multiplier: float = 1.0
    ssm_in_multiplier: float = 1.0
    ssm_out_multiplier: float = 1.0
    ssm_multipliers: list[float] | None = None
    mlp_multipliers: list[float] | None = None
    lm_head_multiplier: float = 1.0

    @property
    def sizes(self) -> dict[str, int]:
        """Llama's letters; of Mamba M heads, P head width, U groups, N state size, W of convolution."""
        return {**super().sizes, **mamba_sizes(self, self.mamba_width)}

    @property
    def mamba_width(self) -> int:
        """The channels of the Mamba mixer."""
        return self.mamba_expand * self.hidden_size if self.mamba_d_ssm is None else self.mamba_d_ssm

    @property
    def attention_multiplier(self) -> float:
        """What products of queries and keys are multiplied by: a factor of the keys is one of the scores."""
        return self.key_multiplier * float(self.sizes["K"] ** -0.5)

    @property
    def logits_scaling(self) -> float:
        """What the logits are divided by."""
        return 1 / self.lm_head_multiplier

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        channels = f"mamba_d_ssm = {self.mamba_d_ssm} or else mamba_expand times hidden_size."
        check_mamba(self, self.mamba_width, f"{self.mamba_width} channels, {channels}")
        for key, count in (("ssm_multipliers", 5), ("mlp_multipliers", 2)):
            given = getattr(self, key)
            right = given is None or len(given) == count
            require(right, f"{key} = {given}, but it must be {count} numbers.")


class FalconH1(Granite):
    """Falcon-H1 in 0.5B, 1.5B, 1.5B-Deep, 3B, 7B and 34B."""

    Config = FalconH1Config

    @staticmethod
    def weight_table(config: Any) -> WeightTable:
        """Llama's rows under Falcon-H1's names, and Granite 4's of Mamba."""
        c: FalconH1Config = config
        llama = {
            ours: (theirs.replace("mlp", "feed_forward").replace("post_attention", "pre_ff"), axes)
            for ours, (theirs, axes) in Llama.weight_table(c).items()
            if "attention_norm" not in ours
        }
        mamba = {**MAMBA_LAYERS, **MAMBA_BIASES, **CONVOLUTION_BIASES}
        switches = {
            "gated_norm.gain": c.mamba_rms_norm,
            "in.bias": c.mamba_proj_bias,
            "out.bias": c.projectors_bias,
            "convolution.bias": c.mamba_conv_bias,
        }
        left_out = tuple(name for name, there in switches.items() if not there)
        rows = {ours: row for ours, row in mamba.items() if not ours.endswith(left_out)}
        return {**llama, **rows, "final_norm.gain": ("final_layernorm.weight", "D")}

    def block(self, i: int, w: Weights) -> HybridBlock:  # type: ignore[override]
        """Norm, attention beside Mamba, norm, feed-forward."""
        c: FalconH1Config = self.config
        return HybridBlock(
            mixer_norm=self.norm(w.mixer_norm),
            attention=Attention(w.attention, **self.attention(i, w.attention)),
            mixer=Mamba2(
                w.mixer,
                **mamba_settings(c),
                norm_first=bool(c.mamba_norm_before_gate),
                multipliers=c.ssm_multipliers,
            ),
            feed_forward_norm=self.norm(w.feed_forward_norm),
            feed_forward=self.feed_forward(i, w.feed_forward),
            attention_multipliers=(c.attention_in_multiplier, c.attention_out_multiplier),
            mixer_multipliers=(c.ssm_in_multiplier, c.ssm_out_multiplier),
        )

    def feed_forward(self, i: int, w: Weights) -> GatedFeedForward:
        """Multiply the gate and the result."""
        c: FalconH1Config = self.config
        of_gate, of_result = c.mlp_multipliers or (1.0, 1.0)
        return GatedFeedForward(w, activation=ACTIVATIONS[c.hidden_act], multipliers=(of_gate, of_result))


FACTS = Facts(
    grew_from="mamba2",
    kind="attention",
    changed="Attention beside Mamba 2 in every layer, then feed-forward",
    why="how much of a layer attends becomes a number to tune",
    published="7B",
    keys={
        "hidden_size": 3072,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "mamba_d_ssm": 3072,
        "mamba_n_heads": 24,
        "mamba_d_state": 256,
    },
)
