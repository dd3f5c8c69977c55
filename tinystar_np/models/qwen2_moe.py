"""Qwen1.5-MoE and Qwen2-57B-A14B (Yang et al. 2024, arXiv:2407.10671): small experts, and one for all.

    x → norm → attention ──+ x → norm ─┬→ k of E experts ───────────┬──+ x      (× L)
                                       └→ shared expert · σ(gate) ──┘
    logits = norm(x) · W

| attention            | position | norm    | feed-forward             | block      | context |
|----------------------|----------|---------|--------------------------|------------|---------|
| MHA; GQA; biased qkv | RoPE     | RMSNorm | SwiGLU, 4 of 60 + shared | sequential | 32768   |

New in it: experts an eighth as wide as Mixtral's and eight times as many (60 in the first, made by cutting up
the layers of a dense Qwen; Dai et al. 2024, arXiv:2401.06066, had shown what that is good for). Beside them
stands a shared expert that every token uses, as far as a gate of its own lets it. The weights of the chosen
are the softmax over all experts and do not sum to 1. A config may keep some layers dense. Queries, keys and
values have biases, as in all Qwen before the third.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from tinystar_np.configs.config import at_least_1, require
from tinystar_np.configs.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import softmax_top_k, top_k_softmax
from tinystar_np.layers_old import GatedFeedForward, Linear, Weights
from tinystar_np.layers_old.blocks import FeedForwardLayer
from tinystar_np.layers_old.experts import Experts, RoutedAndShared, Routing
from tinystar_np.models.expert_weights import EXPERTS, with_experts
from tinystar_np.models.unported_llama import QKV_BIASES, Llama, LlamaConfig
from tinystar_np.models.unported_mixtral import Mixtral, MixtralConfig
from tinystar_np.weights.weight_table import WeightTable


@dataclass(frozen=True)
class Qwen2MoeConfig(MixtralConfig):
    """Mixtral's keys, and which layers are what; ``intermediate_size`` is the width of dense layers."""

    UNUSED: ClassVar[Sequence[str]] = (*MixtralConfig.UNUSED, "num_local_experts")
    LETTERS: ClassVar[Mapping[str, str]] = {
        **MixtralConfig.LETTERS,
        "M": "moe_intermediate_size",
        "C": "shared_expert_intermediate_size",
    }

    vocab_size: int = 151936
    hidden_size: int = 2048
    intermediate_size: int = 5632
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 16
    max_position_embeddings: int = 32768
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    layer_types: list[str] | None = None
    qkv_bias: bool = True
    decoder_sparse_step: int = 1
    mlp_only_layers: list[int] | None = None
    num_local_experts: int = 60
    num_experts_per_tok: int = 4
    norm_topk_prob: bool = False
    moe_intermediate_size: int = 1408
    shared_expert_intermediate_size: int = 5632

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Forget a window that is not used: files have one all the same."""
        return super().from_dict(raw if raw.get("use_sliding_window") else {**raw, "sliding_window": None})

    @property
    def layers_with_experts(self) -> Sequence[int]:
        """Every nth layer, but not the dense ones; none in a model without experts."""
        if self.num_local_experts == 0:
            return []
        sparse = [i for i in range(self.num_hidden_layers) if i not in (self.mlp_only_layers or ())]
        n = at_least_1("decoder_sparse_step", self.decoder_sparse_step) if sparse else 1
        return [i for i in sparse if (i + 1) % n == 0]

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer; None where it sees all. With no word of it, every second of the first."""
        L, window = self.num_hidden_layers, self.sliding_window
        first = 0 if window is None else self.max_window_layers
        usual = [SLIDING if i % 2 == 0 and i < first else FULL for i in range(L)]
        return layer_windows(self.layer_types, usual, window)

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        dense = self.mlp_only_layers
        whole = all(isinstance(i, int) and not isinstance(i, bool) for i in dense or ())
        require(whole, f"mlp_only_layers = {dense}, but it must be a list of layers' numbers.")


SHARED_EXPERT: WeightTable = {
    "blocks.{i}.feed_forward.shared_gate.weight":
        ("layers.{i}.mlp.shared_expert_gate.weight", "1 D -> D 1"),
    "blocks.{i}.feed_forward.shared.gate.weight":
        ("layers.{i}.mlp.shared_expert.gate_proj.weight", "C D -> D C"),
    "blocks.{i}.feed_forward.shared.up.weight":
        ("layers.{i}.mlp.shared_expert.up_proj.weight", "C D -> D C"),
    "blocks.{i}.feed_forward.shared.down.weight":
        ("layers.{i}.mlp.shared_expert.down_proj.weight", "D C -> C D"),
}  # fmt: skip


class Qwen2Moe(Mixtral):
    """Qwen1.5-MoE-A2.7B and Qwen2-57B-A14B."""

    Config = Qwen2MoeConfig

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Llama's, with experts, the shared one and biases."""
        biases = QKV_BIASES if getattr(config, "qkv_bias", False) else {}
        return with_experts({**Llama.weight_table(config), **biases}, {**EXPERTS, **SHARED_EXPERT}, config)

    def feed_forward(self, i: int, w: Weights) -> FeedForwardLayer:
        """Add the shared expert, behind its gate."""
        routed = super().feed_forward(i, w)
        if not isinstance(routed, Experts):
            return routed
        shared = GatedFeedForward(w.shared, activation=ACTIVATIONS[self.config.hidden_act])
        return RoutedAndShared(routed=routed, shared=shared, gate=Linear(w.shared_gate))

    @property
    def routing(self) -> Routing:
        """The softmax over all, scaled to sum to 1 or not."""
        return top_k_softmax if self.config.norm_topk_prob else softmax_top_k
