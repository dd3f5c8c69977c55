"""OLMoE 1B-7B (Muennighoff et al. 2024, arXiv:2409.02060): experts with nothing kept back.

    x → norm → attention ──+ x → norm → the 8 best of 64 experts ──+ x      (× L)
    logits = norm(x) · W

| attention         | position | norm    | feed-forward    | block      | context |
|-------------------|----------|---------|-----------------|------------|---------|
| MHA, q and k norm | RoPE     | RMSNorm | SwiGLU, 8 of 64 | sequential | 4096    |

New in it: weights, data, code and logs of a model with experts, all in the open, and with them the
experiments behind each choice: many small experts, none shared, none cut out of a dense model. Queries and
keys are normed, all heads of a token as one vector, as OLMo 2 does since. Weights are the softmax over all
experts and do not sum to 1. A config may clip queries, keys and values after the norms; the model does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.kernels.experts import softmax_top_k, top_k_softmax
from tinystar_np.layers_old import Weights
from tinystar_np.layers_old.experts import Routing
from tinystar_np.models.expert_weights import EXPERTS, with_experts
from tinystar_np.models.unported_llama import JOINT_NORMS, Llama, LlamaConfig
from tinystar_np.models.unported_mixtral import Mixtral, MixtralConfig
from tinystar_np.weights.weight_table import WeightTable


@dataclass(frozen=True)
class OlmoeConfig(MixtralConfig):
    """Mixtral's keys with OLMoE's defaults, and a clip."""

    UNUSED: ClassVar[Sequence[str]] = ("mlp_bias", "sliding_window", "fused_experts")

    vocab_size: int = 50304
    hidden_size: int = 2048
    intermediate_size: int = 2048
    num_hidden_layers: int = 16
    num_attention_heads: int = 16
    num_key_value_heads: int | None = None
    max_position_embeddings: int = 4096
    rope_theta: float = 10000.0
    num_local_experts: int = 64
    num_experts_per_tok: int = 8
    norm_topk_prob: bool = False
    clip_qkv: float | None = None


class Olmoe(Mixtral):
    """OLMoE-1B-7B, 2024 and 2025."""

    Config = OlmoeConfig

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Llama's, with norms and experts."""
        return with_experts({**Llama.weight_table(config), **JOINT_NORMS}, EXPERTS, config)

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Norm all queries and all keys of a token, and clip."""
        return {**super().attention(i, w), "norm_together": True, "clip": self.config.clip_qkv}

    @property
    def routing(self) -> Routing:
        """The softmax over all, scaled to sum to 1 or not."""
        return top_k_softmax if self.config.norm_topk_prob else softmax_top_k
