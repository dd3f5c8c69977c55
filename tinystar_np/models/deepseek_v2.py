"""DeepSeek-V2 (DeepSeek-AI 2024, arXiv:2405.04434), 236B and Lite.

    x → norm → latent attention ──+ x → norm → experts ──+ x      (× L; the first layers are dense)
    logits = norm(x) · W             experts = shared + the 6 best of 64 or 160

| attention      | position               | norm    | feed-forward         | block      | context       |
|----------------|------------------------|---------|----------------------|------------|---------------|
| latent, R = 512 | RoPE on 64 of 192, yarn | RMSNorm | SwiGLU; 2 + 6 experts | sequential | 163840 (yarn) |

New in it: latent attention, which remembers 576 numbers of a token in a layer where 128 heads of keys and
values would be 32768 (kernels/latent_attention.py). In the full model queries go through a latent of their
own, which saves weights, not memory; Lite has plain ones. The experts are many and small, and two of them are
for every token (DeepSeekMoE, Dai et al. 2024, arXiv:2401.06066); the full model lets each token use the
experts of 3 groups out of 8, of which each stands on a machine of its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from tinystar_np.checkpoints.weight_table import WeightTable, with_switches, without
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import group_limited_top_k
from tinystar_np.layers_old import GatedFeedForward, SequentialBlock, Weights
from tinystar_np.layers_old.blocks import FeedForwardLayer
from tinystar_np.layers_old.experts import Experts, RoutedAndShared, Routing
from tinystar_np.layers_old.latent_attention import LatentAttention
from tinystar_np.models.config import at_least_1, known, require
from tinystar_np.models.expert_weights import EXPERTS, EitherExperts, letters_of_none, with_experts
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_keys import AT_LEAST_0, RopeKeys
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.models.unported_llama import FEED_FORWARD_BIASES, WEIGHTS, Llama, LlamaConfig

TOPK_METHODS = ("greedy", "group_limited_greedy")


@dataclass(frozen=True)
class DeepseekV2Config(LlamaConfig):
    """Llama's keys, and those of latents and experts; defaults as in transformers.

    Under ``head_dim`` transformers writes the width of the turned part.
    ``fused_experts`` is no key: whether the file has all experts of a layer in one tensor.
    """

    ALIASES: ClassVar[Mapping[str, str]] = {"num_experts": "n_routed_experts"}
    REFUSED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "norm_topk_prob": (False, None),
        "scoring_func": ("softmax", None),
    }
    UNUSED: ClassVar[Sequence[str]] = ("head_dim", "fused_experts")
    LETTERS: ClassVar[Mapping[str, str]] = {
        "V": "vocab_size",
        "D": "hidden_size",
        "L": "num_hidden_layers",
        "H": "num_attention_heads",
        "R": "kv_lora_rank",
        "Q": "q_lora_rank",
        "K": "qk_nope_head_dim",
        "P": "qk_rope_head_dim",
        "U": "v_head_dim",
        "F": "intermediate_size",
        "M": "moe_intermediate_size",
        "E": "n_routed_experts",
        "S": "n_shared_experts",
    }

    vocab_size: int = 102400
    num_key_value_heads: int | None = None
    first_k_dense_replace: int | None = 0
    moe_layer_freq: int | None = 1
    kv_lora_rank: int = 512
    q_lora_rank: int | None = 1536
    qk_nope_head_dim: int = 128
    qk_rope_head_dim: int = 64
    v_head_dim: int = 128
    n_routed_experts: int = 64
    n_shared_experts: int = 2
    num_experts_per_tok: int | None = 6  # as published; transformers cannot do without the key
    moe_intermediate_size: int = 1407
    routed_scaling_factor: float = 1.0
    topk_method: str | None = "greedy"
    n_group: int | None = None
    topk_group: int | None = None
    fused_experts: bool = False

    @property
    def layers_with_experts(self) -> list[int]:
        """From a layer on, and of these not necessarily every one."""
        start = self.first_k_dense_replace or 0
        step = 1 if self.moe_layer_freq is None else at_least_1("moe_layer_freq", self.moe_layer_freq)
        return [i for i in range(start, self.num_hidden_layers) if i % step == 0]

    @property
    def absent_letters(self) -> str:
        """Those of dense layers, or of experts, where there are none of the kind."""
        return letters_of_none(len(self.layers_with_experts), self.num_hidden_layers, "EMS")

    @property
    def rope(self) -> RopeParameters:
        """The rule of the rotations of the turned part."""
        return RopeParameters.read(vars(self), head_dim=self.qk_rope_head_dim)

    @property
    def scale(self) -> float:
        """What scores are multiplied by: 1/√(K + P), and under yarn a sharpening for many keys.

        Of yarn's factor on queries and keys, ``rope`` has the part for the turned numbers alone.
        """
        weight = RopeKeys.of(vars(self), None).number("mscale_all_dim", AT_LEAST_0, 0.0)
        sharper = 1 + 0.1 * weight * math.log(max(self.rope.factor, 1))
        return sharper**2 * (self.qk_nope_head_dim + self.qk_rope_head_dim) ** -0.5

    def check(self) -> None:
        """Refuse contradictions."""
        require(self.qk_rope_head_dim % 2 == 0, f"qk_rope_head_dim = {self.qk_rope_head_dim} makes no pairs.")
        super().check()
        H, G = self.num_attention_heads, self.num_key_value_heads
        require(
            G in (None, H),
            f"num_key_value_heads = {G} is not num_attention_heads = {H}, but latents have no groups.",
        )
        _ = self.scale
        if self.layers_with_experts:
            self.check_routing()

    def check_routing(self) -> None:
        """Refuse choices that cannot be made."""
        known(dict.fromkeys(TOPK_METHODS), "topk_method", str(self.topk_method))
        if self.topk_method != "greedy":
            self.check_groups()

    def check_groups(self) -> None:
        """Refuse groups that cannot be made or chosen from."""
        E, k = self.n_routed_experts, self.num_experts_per_tok or 0
        groups, kept = self.n_group or 0, self.topk_group or 0
        require(
            groups >= 1 and E % groups == 0,
            f"n_routed_experts = {E} cannot be divided among n_group = {self.n_group} groups.",
        )
        require(
            1 <= kept <= groups, f"topk_group = {self.topk_group} of n_group = {groups} cannot be chosen."
        )
        require(
            k <= kept * (E // groups),
            f"num_experts_per_tok = {k} experts are not in topk_group = {kept} groups of {E // groups}.",
        )


ATTENTION: WeightTable = {
    # ours:                                (the checkpoint's, shape)
    "blocks.{i}.attention.kv_down.weight":
        ("layers.{i}.self_attn.kv_a_proj_with_mqa.weight", "R+P D -> D R+P"),
    "blocks.{i}.attention.kv_norm.gain":   ("layers.{i}.self_attn.kv_a_layernorm.weight", "R"),
    "blocks.{i}.attention.kv_up.weight":   ("layers.{i}.self_attn.kv_b_proj.weight", "HK+HU R -> R HK+HU"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "D HU -> HU D"),
}  # fmt: skip
PLAIN_QUERIES: WeightTable = {
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "HK+HP D -> D HK+HP"),
}  # fmt: skip
LATENT_QUERIES: WeightTable = {
    "blocks.{i}.attention.q_down.weight":  ("layers.{i}.self_attn.q_a_proj.weight", "Q D -> D Q"),
    "blocks.{i}.attention.q_norm.gain":    ("layers.{i}.self_attn.q_a_layernorm.weight", "Q"),
    "blocks.{i}.attention.q_up.weight":    ("layers.{i}.self_attn.q_b_proj.weight", "HK+HP Q -> Q HK+HP"),
}  # fmt: skip
ATTENTION_BIASES: WeightTable = {
    "blocks.{i}.attention.kv_down.bias":   ("layers.{i}.self_attn.kv_a_proj_with_mqa.bias", "R+P"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D"),
}  # fmt: skip
LATENT_QUERY_BIASES: WeightTable = {
    "blocks.{i}.attention.q_down.bias": ("layers.{i}.self_attn.q_a_proj.bias", "Q"),
}
SHARED_EXPERTS: WeightTable = {
    "blocks.{i}.feed_forward.shared.gate.weight":
        ("layers.{i}.mlp.shared_experts.gate_proj.weight", "MS D -> D MS"),
    "blocks.{i}.feed_forward.shared.up.weight":
        ("layers.{i}.mlp.shared_experts.up_proj.weight", "MS D -> D MS"),
    "blocks.{i}.feed_forward.shared.down.weight":
        ("layers.{i}.mlp.shared_experts.down_proj.weight", "D MS -> MS D"),
}  # fmt: skip
SHARED_BIASES: WeightTable = {
    "blocks.{i}.feed_forward.shared.gate.bias": ("layers.{i}.mlp.shared_experts.gate_proj.bias", "MS"),
    "blocks.{i}.feed_forward.shared.up.bias":   ("layers.{i}.mlp.shared_experts.up_proj.bias", "MS"),
    "blocks.{i}.feed_forward.shared.down.bias": ("layers.{i}.mlp.shared_experts.down_proj.bias", "D"),
}  # fmt: skip


class DeepseekV2(EitherExperts, Llama):
    """DeepSeek-V2 and V2.5, DeepSeek-V2-Lite, and DeepSeek-Coder-V2 in both sizes."""

    Config = DeepseekV2Config

    @staticmethod
    def weight_table(config: Any) -> WeightTable:
        """Llama's, with latent attention, and experts in their layers."""
        c: DeepseekV2Config = config
        latent = c.q_lora_rank is not None
        rows = {
            **without(WEIGHTS, ".attention."),
            **ATTENTION,
            **(LATENT_QUERIES if latent else PLAIN_QUERIES),
        }
        biases = {**ATTENTION_BIASES, **(LATENT_QUERY_BIASES if latent else {})}
        dense = with_switches(rows, c, attention_bias=biases, mlp_bias=FEED_FORWARD_BIASES)
        experts = {**EXPERTS, **SHARED_EXPERTS, **(SHARED_BIASES if c.mlp_bias else {})}
        return with_experts(dense, experts, c)

    def block(self, i: int, w: Weights) -> SequentialBlock:
        """Llama's, with latent attention."""
        return SequentialBlock(
            attention_norm=self.norm(w.attention_norm),
            attention=LatentAttention(w.attention, **self.attention(i, w.attention)),
            feed_forward_norm=self.norm(w.feed_forward_norm),
            feed_forward=self.feed_forward(i, w.feed_forward),
        )

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Give the settings of layer i's attention; its norms keep their epsilon whatever the others have."""
        c: DeepseekV2Config = self.config
        return {
            "heads": c.num_attention_heads,
            "rank": c.kv_lora_rank,
            "head_dim": c.qk_nope_head_dim,
            "rope_dim": c.qk_rope_head_dim,
            "value_dim": c.v_head_dim,
            "scale": c.scale,
            "eps": 1e-6,
            "rope": c.rope.rotary(interleaved=True),
        }

    def feed_forward(self, i: int, w: Weights) -> FeedForwardLayer:
        """Dense in the first layers, experts in the others."""
        c: DeepseekV2Config = self.config
        if i not in c.layers_with_experts:
            return super().feed_forward(i, w)
        activation = ACTIVATIONS[c.hidden_act]
        routed = Experts(
            w,
            experts=c.n_routed_experts,
            per_token=c.num_experts_per_tok or 0,
            routing=self.routing(w.router),
            activation=activation,
        )
        return RoutedAndShared(routed=routed, shared=GatedFeedForward(w.shared, activation=activation))

    def routing(self, w: Weights) -> Routing:
        """How experts are chosen and weighted."""
        c: DeepseekV2Config = self.config
        limited = c.topk_method != "greedy"
        groups, kept = (c.n_group or 1, c.topk_group or 1) if limited else (1, 1)
        return partial(group_limited_top_k, groups=groups, kept=kept, factor=c.routed_scaling_factor)


FACTS = Facts(
    grew_from="llama",
    kind="attention",
    changed="One latent per token for all heads; narrow and shared experts",
    why="576 numbers per token and layer instead of 32768",
    published="V2",
    keys={"num_hidden_layers": 1},
)
