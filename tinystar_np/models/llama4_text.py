"""Llama 4 Scout and Maverick (Meta 2025), their text models: chunks, and a layer in four without positions.

    x → norm → attention, turned and in chunks, or neither ──+ x → norm → feed-forward ──+ x      (× L)
    feed-forward(x) = shared(x) + expert_e(σ(s_e) · x)      e the best of E by its score s_e
    logits = norm(x) · W

| attention              | position             | norm    | feed-forward              | block      | context |
|------------------------|----------------------|---------|---------------------------|------------|---------|
| GQA 40:8, chunks of    | RoPE, neighbours, in | RMSNorm | SwiGLU, shared + 1 of 16  | sequential | 131072  |
| 8192 in three of four, | these; none in each  |         | or 128; in Maverick every |            |         |
| q and k normed there   | 4th, but temperature |         | second layer is dense     |            |         |

New in it: near and far told apart by layer, for texts of millions of tokens. Three layers of four know
positions and see only the chunk that a token stands in; the fourth sees everything and knows no positions
(Kazemnejad et al. 2023, arXiv:2305.19466), and its queries grow with the length of the text (Nakanishi 2025,
arXiv:2501.19399). Queries and keys that turn are brought to one length, with no gain to learn. An expert's
score is a sigmoid, and is multiplied with what the expert reads. Told in "The Llama 4 herd", April 2025.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import sigmoid_top_k
from tinystar_np.layers_old import GatedFeedForward, RMSNorm, Weights
from tinystar_np.layers_old.blocks import FeedForwardLayer
from tinystar_np.layers_old.experts import Experts, RoutedAndShared
from tinystar_np.layers_old.temperature import Temperature
from tinystar_np.models.config import at_least_1
from tinystar_np.models.expert_weights import letters_of_none, with_experts
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import CHUNKED, FULL, layer_windows
from tinystar_np.models.smollm3 import SmolLM3Config
from tinystar_np.models.unported_llama import Llama, LlamaConfig


@dataclass(frozen=True)
class Llama4TextConfig(SmolLM3Config):
    """SmolLM3's keys with Llama 4's defaults, chunks in place of windows, experts and temperature.

    ``intermediate_size`` is the width of an expert, ``intermediate_size_mlp`` that of a dense layer. Of
    ``attn_temperature_tuning``, a number in the published files, it only matters whether it is 0.
    """

    UNUSED: ClassVar[Sequence[str]] = ("mlp_bias", "sliding_window", "use_sliding_window")
    LETTERS: ClassVar[Mapping[str, str]] = {
        **SmolLM3Config.LETTERS,
        "F": "intermediate_size_mlp",
        "M": "intermediate_size",
        "E": "num_local_experts",
    }

    vocab_size: int = 202048
    hidden_size: int = 5120
    intermediate_size: int = 8192
    intermediate_size_mlp: int = 16384
    num_hidden_layers: int = 48
    num_attention_heads: int = 40
    num_key_value_heads: int | None = 8
    head_dim: int | None = 128
    max_position_embeddings: int = 131072
    rms_norm_eps: float = 1e-5
    rope_theta: float = 500000.0
    tie_word_embeddings: bool = False
    num_experts_per_tok: int = 1
    num_local_experts: int = 16
    moe_layers: list[int] | None = None
    interleave_moe_layer_step: int = 1
    use_qk_norm: bool = True
    attention_chunk_size: int | None = 8192
    attn_temperature_tuning: bool | int = True
    floor_scale: int = 8192
    attn_scale: float = 0.1
    fused_experts: ClassVar[bool] = False  # the rows below say how they lie, in every file alike

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Read an empty list of layers without positions as none at all, as the published files mean it."""
        return super().from_dict(raw if raw.get("no_rope_layers") != [] else {**raw, "no_rope_layers": None})

    @property
    def temperature(self) -> Temperature | None:
        """What scales queries by their positions; None where nothing does."""
        if not self.attn_temperature_tuning or all(self.turned):
            return None
        return Temperature(at_least_1("floor_scale", self.floor_scale), self.attn_scale)

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        _ = self.temperature

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The chunk of each layer; None where it sees all."""
        usual = [CHUNKED if turned else FULL for turned in self.turned[: self.num_hidden_layers]]
        return layer_windows(self.layer_types, usual, self.attention_chunk_size, near=CHUNKED)

    @property
    def layers_with_experts(self) -> Sequence[int]:
        """Those that are listed, or the last of every few."""
        L, listed = self.num_hidden_layers, self.moe_layers
        if listed is None:
            step = at_least_1("interleave_moe_layer_step", self.interleave_moe_layer_step)
            listed = list(range(step - 1, L, step))
        return [i for i in range(L) if i in listed]

    @property
    def absent_letters(self) -> str:
        """Those of dense layers, or of experts, where there are none of the kind."""
        return letters_of_none(len(self.layers_with_experts), self.num_hidden_layers, "EM")


EXPERTS: WeightTable = {
    "blocks.{i}.feed_forward.router.weight":
        ("layers.{i}.feed_forward.router.weight", "E D -> D E"),
    "blocks.{i}.feed_forward.experts.{e}.gate_up.weight":
        ("layers.{i}.feed_forward.experts.gate_up_proj", "E D 2M -> D 2M"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.feed_forward.experts.down_proj", "E M D -> M D"),
    "blocks.{i}.feed_forward.shared.gate.weight":
        ("layers.{i}.feed_forward.shared_expert.gate_proj.weight", "M D -> D M"),
    "blocks.{i}.feed_forward.shared.up.weight":
        ("layers.{i}.feed_forward.shared_expert.up_proj.weight", "M D -> D M"),
    "blocks.{i}.feed_forward.shared.down.weight":
        ("layers.{i}.feed_forward.shared_expert.down_proj.weight", "D M -> M D"),
}  # fmt: skip


class Llama4Text(Llama):
    """Llama 4 Scout (17B-16E) and Maverick (17B-128E), their text part."""

    Config = Llama4TextConfig

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Llama's, with experts; a feed-forward layer has another name."""
        rows = Llama.weight_table(config).items()
        dense = {ours: (theirs.replace(".mlp.", ".feed_forward."), axes) for ours, (theirs, axes) in rows}
        return with_experts(dense, EXPERTS, config)

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Norm and turn, or see everything at a temperature."""
        c: Llama4TextConfig = self.config
        settings = {**super().attention(i, w), "chunk": c.windows[i], "window": None, "rope": None}
        if not c.turned[i]:
            return {**settings, "temperature": c.temperature}
        if not c.use_qk_norm:
            return {**settings, "rope": c.rope.rotary(interleaved=True)}
        # The norm stands behind the turning, which leaves lengths as they are: before it, it does the same.
        # What yarn makes longer in turning, the norm takes back, all but the share of its epsilon.
        ones = Weights({"gain": np.ones(c.sizes["K"], dtype=np.float32)})
        norm = RMSNorm(ones, eps=c.rms_norm_eps / c.rope.attention_factor**2)
        rope = replace(c.rope, attention_factor=1.0).rotary(interleaved=True)
        return {**settings, "q_norm": norm, "k_norm": norm, "rope": rope}

    def feed_forward(self, i: int, w: Weights) -> FeedForwardLayer:
        """Add up a shared expert and the chosen ones, or build a dense layer."""
        c: Llama4TextConfig = self.config
        if i not in c.layers_with_experts:
            return super().feed_forward(i, w)
        routed = Experts(
            w,
            experts=c.num_local_experts,
            per_token=c.num_experts_per_tok,
            routing=sigmoid_top_k,
            activation=ACTIVATIONS[c.hidden_act],
            weigh_inputs=True,
        )
        shared = GatedFeedForward(w.shared, activation=ACTIVATIONS[c.hidden_act])
        return RoutedAndShared(routed=routed, shared=shared)


FACTS = Facts(
    grew_from="llama",
    kind="experts",
    changed="Experts; chunks of 8192 and rotary positions, but not in every fourth layer",
    why="near and far are left to different layers, for millions of tokens",
    published="Scout",
    keys={"num_hidden_layers": 4},
)
