"""Granite 4 (IBM 2025): seven to nine Mamba layers for each layer of attention, with or without experts.

    x₀ = e · embedding
    x → norm → Mamba 2 or attention → · r ──+ x → norm → feed-forward → · r ──+ x      (× L)
    logits = norm(x) · W / l                       feed-forward = shared + experts

| mixer        | position | norm    | feed-forward                          | block      | context         |
|--------------|----------|---------|---------------------------------------|------------|-----------------|
| Mamba 2, GQA | none     | RMSNorm | SwiGLU; + 6 of 64 or 10 of 72 experts | sequential | 32768 or 131072 |

New in it: what remembers. A Mamba layer carries a state of fixed size from token to token, so that a text
costs the same memory however long it is; four layers of attention, spread over the depth, are left to look
up single tokens far back. Lieber et al. 2024 (Jamba), arXiv:2403.19887; Waleffe et al. 2024,
arXiv:2406.07887. The recurrence knows the order of the tokens already: attention gets no positions, and so
there is none at which they end. The mixer is Mamba 2's, Dao & Gu 2024, arXiv:2405.21060 (layers/mamba2.py).

Every layer has a feed-forward layer for all tokens; in H-Tiny and H-Small experts stand beside it, whose
results are added. e, r, l and a given scale of the attention scores are Granite's multipliers, after Yang et
al. 2022, arXiv:2203.03466. With attention in every layer, rotary positions and no experts the same recipe is
Granite 4 without the "H".
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.configs.config import require
from tinystar_np.configs.layer_types import layer_kinds
from tinystar_np.configs.rope_parameters import RopeParameters
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers_old import Attention, GatedFeedForward, SequentialBlock, Weights
from tinystar_np.layers_old.blocks import FeedForwardLayer
from tinystar_np.layers_old.experts import RoutedAndShared
from tinystar_np.layers_old.mamba2 import Mamba2
from tinystar_np.models.granitemoe import EXPERTS, GraniteMoe, GraniteMoeConfig
from tinystar_np.models.unported_llama import ATTENTION_BIASES, WEIGHTS
from tinystar_np.models.unported_mamba2 import check_time_step_limit
from tinystar_np.weights.weight_table import WeightTable, for_layers, only, with_switches, without

MAMBA = ("mamba", "linear_attention")
ATTENTION = ("attention", "full_attention")
"""What ``layer_types`` calls the two kinds, in the hub's files and in those that transformers 5 writes."""


@dataclass(frozen=True)
class GraniteMoeHybridConfig(GraniteMoeConfig):
    """The keys of Granite 3 with experts, those of Mamba, and which layers are what.

    ``mamba_chunk_size`` is none of them: it says how the scan is divided, not what it computes.
    """

    ALIASES: ClassVar[Mapping[str, str]] = {"layers_block_type": "layer_types"}
    REFUSED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "normalization_function": ("rmsnorm", None),
    }
    LETTERS: ClassVar[Mapping[str, str]] = {**GraniteMoeConfig.LETTERS, "J": "shared_intermediate_size"}

    shared_intermediate_size: int = 1024
    layer_types: list[str] | None = None
    position_embedding_type: str | None = None
    mamba_n_heads: int = 128
    mamba_d_head: int | str = "auto"
    mamba_n_groups: int = 1
    mamba_d_state: int = 256
    mamba_d_conv: int = 4
    mamba_expand: int = 2
    mamba_conv_bias: bool | None = True
    mamba_proj_bias: bool | None = False
    time_step_limit: list[float] | tuple[float, ...] = (0.0, math.inf)

    @property
    def sizes(self) -> dict[str, int]:
        """The letters of what there is, layers with attention and such of Mamba, and experts."""
        return super().sizes | (
            mamba_sizes(self, self.mamba_expand * self.hidden_size) if self.layers(MAMBA) else {}
        )

    @property
    def absent_letters(self) -> str:
        """Those of experts, and of attention, where there are none."""
        return ("" if self.num_local_experts else "EF") + ("" if self.layers(ATTENTION) else "HGK")

    def layers(self, kind: tuple[str, ...]) -> list[int]:
        """Return the layers of a kind, ``MAMBA`` or ``ATTENTION``; all are Mamba unless the file says."""
        kinds = layer_kinds(self.layer_types, MAMBA[:1] * self.num_hidden_layers, (*MAMBA, *ATTENTION))
        return [i for i, name in enumerate(kinds) if name in kind]

    @property
    def rope(self) -> RopeParameters | None:  # type: ignore[override]
        """The rule of the rotations; None where attention has no positions."""
        if self.position_embedding_type != "rope" or not self.layers(ATTENTION):
            return None
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        kind = self.position_embedding_type
        require(
            kind in (None, "nope", "rope") or not self.layers(ATTENTION),
            f"position_embedding_type = {kind!r} is not known here. Known: nope, rope.",
        )
        if self.layers(MAMBA):
            channels = f"mamba_expand = {self.mamba_expand} times hidden_size = {self.hidden_size}."
            check_mamba(self, self.mamba_expand * self.hidden_size, channels)


SHARED: WeightTable = {
    # ours:                                  (the checkpoint's, shape)
    "blocks.{i}.feed_forward.gate_up.weight": ("layers.{i}.shared_mlp.input_linear.weight", "2J D -> D 2J"),
    "blocks.{i}.feed_forward.down.weight":   ("layers.{i}.shared_mlp.output_linear.weight", "D J -> J D"),
}  # fmt: skip
ATTENTION_LAYERS = only(WEIGHTS, ".attention")
MAMBA_LAYERS: WeightTable = {
    "blocks.{i}.mixer_norm.gain":            ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.mixer.in.weight":
        ("layers.{i}.mamba.in_proj.weight", "2MP+2UN+M D -> D 2MP+2UN+M"),
    "blocks.{i}.mixer.convolution.weight":   ("layers.{i}.mamba.conv1d.weight", "MP+2UN 1 W"),
    "blocks.{i}.mixer.time_step_bias":       ("layers.{i}.mamba.dt_bias", "M"),
    "blocks.{i}.mixer.A_log":                ("layers.{i}.mamba.A_log", "M"),
    "blocks.{i}.mixer.D":                    ("layers.{i}.mamba.D", "M"),
    "blocks.{i}.mixer.gated_norm.gain":      ("layers.{i}.mamba.norm.weight", "MP"),
    "blocks.{i}.mixer.out.weight":           ("layers.{i}.mamba.out_proj.weight", "D MP -> MP D"),
}  # fmt: skip
CONVOLUTION_BIASES: WeightTable = {
    "blocks.{i}.mixer.convolution.bias":     ("layers.{i}.mamba.conv1d.bias", "MP+2UN"),
}  # fmt: skip
MAMBA_BIASES: WeightTable = {
    "blocks.{i}.mixer.in.bias":              ("layers.{i}.mamba.in_proj.bias", "2MP+2UN+M"),
    "blocks.{i}.mixer.out.bias":             ("layers.{i}.mamba.out_proj.bias", "D"),
}  # fmt: skip


def mamba_sizes(config: Any, channels: int) -> dict[str, int]:
    """Give a Mamba layer's letters M heads, P head width, U groups, N state size, W width of the convolution.

    config    one with these keys
    channels  of the layer, divided among the heads where the config does not say their width
    """
    M, P = config.mamba_n_heads, config.mamba_d_head
    return {
        "M": M,
        "P": P if isinstance(P, int) else channels // max(M, 1),
        "U": config.mamba_n_groups,
        "N": config.mamba_d_state,
        "W": config.mamba_d_conv,
    }


def check_mamba(config: Any, channels: int, channels_in_words: str) -> None:
    """Refuse contradictions between the keys of a Mamba layer."""
    M, P, U, d_head = *(config.sizes[letter] for letter in "MPU"), config.mamba_d_head
    require(
        isinstance(d_head, int) or d_head == "auto",
        f"mamba_d_head = {d_head!r}, but it must be a whole number or 'auto'.",
    )
    require(
        channels == M * P,
        f"mamba_n_heads = {M} heads of mamba_d_head = {d_head} do not make {channels_in_words}",
    )
    require(M % U == 0, f"mamba_n_heads = {M} cannot be divided among mamba_n_groups = {U} groups.")
    check_time_step_limit(config.time_step_limit)


def mamba_settings(config: Any) -> dict[str, Any]:
    """Give the settings of a Mamba layer, of a config with these keys."""
    M, P, U, N = (config.sizes[letter] for letter in "MPUN")
    least, largest = config.time_step_limit
    return {
        "heads": M,
        "head_dim": P,
        "groups": U,
        "state_size": N,
        "eps": config.rms_norm_eps,
        "activation": ACTIVATIONS[config.hidden_act],
        "time_step_limit": (least, largest),
    }


class GraniteMoeHybrid(GraniteMoe):
    """Granite 4.0: H-350M, H-1B, H-Micro, H-Tiny, H-Small; and 350M, 1B, Micro, which are attention alone."""

    Config = GraniteMoeHybridConfig

    @staticmethod
    def weight_table(config: Any) -> WeightTable:
        """Write out the rows of each kind of layer, and add what the config switches on."""
        attention, mamba = config.layers(ATTENTION), config.layers(MAMBA)
        every_layer = {**without(WEIGHTS, ".attention", ".feed_forward."), **SHARED}
        return with_switches(
            {
                **every_layer,
                **for_layers(ATTENTION_LAYERS, attention),
                **for_layers(MAMBA_LAYERS, mamba),
            },
            config,
            attention_bias=for_layers(ATTENTION_BIASES, attention),
            mamba_conv_bias=for_layers(CONVOLUTION_BIASES, mamba),
            mamba_proj_bias=for_layers(MAMBA_BIASES, mamba),
            num_local_experts=EXPERTS,
        )

    def block(self, i: int, w: Weights) -> SequentialBlock:
        """Norm, Mamba or attention, norm, feed-forward."""
        c: GraniteMoeHybridConfig = self.config
        is_mamba = i in c.layers(MAMBA)
        return SequentialBlock(
            attention_norm=self.norm(w.mixer_norm if is_mamba else w.attention_norm),
            attention=Mamba2(w.mixer, **mamba_settings(c))
            if is_mamba
            else Attention(w.attention, **self.attention(i, w.attention)),
            feed_forward_norm=self.norm(w.feed_forward_norm),
            feed_forward=self.feed_forward(i, w.feed_forward),
            residual_multiplier=c.residual_multiplier,
        )

    def feed_forward(self, i: int, w: Weights) -> FeedForwardLayer:
        """Build the shared feed-forward layer, and experts beside it where there are such."""
        c: GraniteMoeHybridConfig = self.config
        shared = GatedFeedForward(w, activation=ACTIVATIONS[c.hidden_act])
        if not c.num_local_experts:
            return shared
        return RoutedAndShared(routed=super().feed_forward(i, w), shared=shared)
