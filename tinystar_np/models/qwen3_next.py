"""Qwen3-Next (Qwen Team 2025): three layers of gated delta rule for each layer of gated attention.

    x → norm → delta net or attention ──+ x → norm ─┬→ the 10 best of 512 experts ─┬──+ x      (× L)
                                                    └→ shared expert · σ(gate) ────┘
    logits = norm(x) · W

| mixer                | position       | norm         | feed-forward               | block      | context |
|----------------------|----------------|--------------|----------------------------|------------|---------|
| delta net; gated GQA | RoPE on 1 of 4 | RMSNorm, 1+w | SwiGLU, 10 of 512 + shared | sequential | 262144  |

New in it: what remembers. A delta net carries a matrix per head from token to token, into which a key's value
is not added but corrected (kernels/delta_rule.py; Yang et al. 2024, arXiv:2412.06464). Every fourth layer
attends as Qwen3 does, but a head's result passes a gate that the token opens or closes (Qiu et al. 2025,
arXiv:2505.06708), and a quarter of each head is turned. Norms store their gain less 1. The experts are those
of Qwen2-MoE (qwen2_moe.py), smaller: of 80 billion weights 3 billion compute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.configs.config import at_least_1, require
from tinystar_np.configs.layer_types import FULL, layer_kinds
from tinystar_np.configs.rope_parameters import RopeParameters
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers_old import Attention, RMSNorm, SequentialBlock, Weights
from tinystar_np.layers_old.delta_net import GatedDeltaNet
from tinystar_np.models.expert_weights import EXPERTS, with_experts
from tinystar_np.models.unported_llama import HEAD_NORMS, Llama
from tinystar_np.models.unported_qwen2_moe import SHARED_EXPERT, Qwen2Moe, Qwen2MoeConfig
from tinystar_np.weights.weight_table import WeightTable, for_layers, only, without

LINEAR = "linear_attention"


@dataclass(frozen=True)
class Qwen3NextConfig(Qwen2MoeConfig):
    """Qwen2-MoE's keys, those of windows without effect, and those of delta nets."""

    UNUSED: ClassVar[Sequence[str]] = (
        *("mlp_bias", "fused_experts", "qkv_bias", "num_local_experts"),
        *("use_sliding_window", "sliding_window", "max_window_layers"),
    )
    LETTERS: ClassVar[Mapping[str, str]] = {
        **Qwen2MoeConfig.LETTERS,
        # of delta nets: heads of keys and of values, their widths, and the convolution's
        "X": "linear_num_key_heads",
        "Y": "linear_num_value_heads",
        "P": "linear_key_head_dim",
        "U": "linear_value_head_dim",
        "W": "linear_conv_kernel_dim",
    }

    num_hidden_layers: int = 48
    num_key_value_heads: int | None = 2
    head_dim: int | None = 256
    partial_rotary_factor: float | None = 0.25  # null turns whole heads
    full_attention_interval: int | None = 4
    linear_conv_kernel_dim: int = 4
    linear_key_head_dim: int = 128
    linear_value_head_dim: int = 128
    linear_num_key_heads: int = 16
    linear_num_value_heads: int = 32
    num_local_experts: int = 512
    num_experts_per_tok: int = 10
    norm_topk_prob: bool = True
    moe_intermediate_size: int = 512
    shared_expert_intermediate_size: int = 512

    @property
    def windows(self) -> Sequence[int | None]:
        """None in any layer."""
        return [None] * self.num_hidden_layers

    @property
    def absent_letters(self) -> str:
        """Those of experts, of attention, and of delta nets, where there are none."""
        attention, delta_nets = len(self.layers(FULL)), len(self.layers(LINEAR))
        return super().absent_letters + ("" if attention else "HGK") + ("" if delta_nets else "XYPUW")

    @property
    def rope(self) -> RopeParameters | None:  # type: ignore[override]
        """The rule of the rotations; None where no layer attends."""
        return super().rope if self.layers(FULL) else None

    def layers(self, kind: str) -> list[int]:
        """Return the layers of a kind; with no word of it, every fourth attends."""
        named = self.layer_types is not None
        n = 1 if named else at_least_1("full_attention_interval", self.full_attention_interval)
        usual = [LINEAR if (i + 1) % n else FULL for i in range(self.num_hidden_layers)]
        kinds = layer_kinds(self.layer_types, usual, (LINEAR, FULL))
        return [i for i, name in enumerate(kinds) if name == kind]

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        X, Y = self.linear_num_key_heads, self.linear_num_value_heads
        require(
            not self.layers(LINEAR) or Y % X == 0,
            f"linear_num_value_heads = {Y} cannot be divided among linear_num_key_heads = {X} groups.",
        )


DELTA_NETS: WeightTable = {
    # ours:                               (the checkpoint's, shape)
    "blocks.{i}.mixer_norm.gain":         ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.mixer.in.weight":
        ("layers.{i}.linear_attn.in_proj_qkvz.weight", "2XP+2YU D -> D 2XP+2YU"),
    "blocks.{i}.mixer.in_gates.weight":   ("layers.{i}.linear_attn.in_proj_ba.weight", "2Y D -> D 2Y"),
    "blocks.{i}.mixer.convolution.weight": ("layers.{i}.linear_attn.conv1d.weight", "2XP+YU 1 W"),
    "blocks.{i}.mixer.time_step_bias":    ("layers.{i}.linear_attn.dt_bias", "Y"),
    "blocks.{i}.mixer.A_log":             ("layers.{i}.linear_attn.A_log", "Y"),
    "blocks.{i}.mixer.norm.gain":         ("layers.{i}.linear_attn.norm.weight", "U"),
    "blocks.{i}.mixer.out.weight":        ("layers.{i}.linear_attn.out_proj.weight", "D YU -> YU D"),
}  # fmt: skip
GATED_QUERIES: WeightTable = {
    "blocks.{i}.attention.q.weight":      ("layers.{i}.self_attn.q_proj.weight", "2HK D -> D 2HK"),
}  # fmt: skip
GATED_QUERY_BIASES: WeightTable = {
    "blocks.{i}.attention.q.bias":        ("layers.{i}.self_attn.q_proj.bias", "2HK"),
}  # fmt: skip


class Qwen3Next(Qwen2Moe):
    """Qwen3-Next-80B-A3B and Qwen3-Coder-Next."""

    Config = Qwen3NextConfig
    # Layers that predict further tokens.
    IGNORED = r"mtp\..*"

    @staticmethod
    def weight_table(config: Any) -> WeightTable:
        """Llama's without its attention, the rows of each kind of layer, and experts."""
        c: Qwen3NextConfig = config
        llama = Llama.weight_table(c)
        attention = {
            **only(llama, ".attention"),
            **GATED_QUERIES,
            **HEAD_NORMS,
            **(GATED_QUERY_BIASES if c.attention_bias else {}),
        }
        rows = {
            **without(llama, ".attention"),
            **for_layers(attention, c.layers(FULL)),
            **for_layers(DELTA_NETS, c.layers(LINEAR)),
        }
        return with_experts(rows, {**EXPERTS, **SHARED_EXPERT}, c)

    def norm(self, w: Weights) -> RMSNorm:
        """Build a norm whose gain is stored less 1."""
        return RMSNorm(w, eps=self.config.rms_norm_eps, offset=1.0)

    def block(self, i: int, w: Weights) -> SequentialBlock:
        """Norm, delta net or attention, norm, feed-forward."""
        is_linear = i in self.config.layers(LINEAR)
        return SequentialBlock(
            attention_norm=self.norm(w.mixer_norm if is_linear else w.attention_norm),
            attention=self._delta_net(w.mixer)
            if is_linear
            else Attention(w.attention, **self.attention(i, w.attention)),
            feed_forward_norm=self.norm(w.feed_forward_norm),
            feed_forward=self.feed_forward(i, w.feed_forward),
        )

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Gate what comes out."""
        return {**super().attention(i, w), "gated": True}

    def _delta_net(self, w: Weights) -> GatedDeltaNet:
        c: Qwen3NextConfig = self.config
        return GatedDeltaNet(
            w,
            heads=c.linear_num_value_heads,
            groups=c.linear_num_key_heads,
            head_dim=c.linear_key_head_dim,
            value_dim=c.linear_value_head_dim,
            eps=c.rms_norm_eps,
            activation=ACTIVATIONS[c.hidden_act],
        )
