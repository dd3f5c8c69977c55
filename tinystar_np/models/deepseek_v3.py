"""DeepSeek-V3 and R1 (DeepSeek-AI 2024, arXiv:2412.19437; 2025, arXiv:2501.12948), 671B.

    x → norm → latent attention ──+ x → norm → experts ──+ x      (× L; the first 3 layers are dense)
    logits = norm(x) · W             experts = shared + the 8 best of 256

| attention       | position                | norm    | feed-forward          | block      | context       |
|-----------------|-------------------------|---------|-----------------------|------------|---------------|
| latent, R = 512 | RoPE on 64 of 192, yarn | RMSNorm | SwiGLU; 1 + 8 experts | sequential | 163840 (yarn) |

New in it: experts that are kept busy without a penalty in the loss. Each is scored for itself, by a sigmoid,
chosen by score and correction, and weighted by the score alone (``sigmoid_grouped_top_k`` in
kernels/experts.py). One more layer learned to predict the token after the next; it is in the file, and the
next token does not need it. All else is DeepSeek-V2's (deepseek_v2.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from tinystar_np.checkpoints.weight_table import WeightTable, for_layers
from tinystar_np.kernels.experts import sigmoid_grouped_top_k
from tinystar_np.layers_old import Weights
from tinystar_np.layers_old.experts import Routing
from tinystar_np.models.config import require
from tinystar_np.models.deepseek_v2 import DeepseekV2, DeepseekV2Config
from tinystar_np.models.facts import Facts


@dataclass(frozen=True)
class DeepseekV3Config(DeepseekV2Config):
    """DeepSeek-V2's keys with other defaults, and two more; ``topk_method`` has one value only."""

    ALIASES: ClassVar[Mapping[str, str]] = {"num_local_experts": "n_routed_experts"}
    REFUSED: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "scoring_func": ("sigmoid", None),
    }
    UNUSED: ClassVar[Sequence[str]] = ("mlp_bias", "fused_experts")

    vocab_size: int = 129280
    hidden_size: int = 7168
    intermediate_size: int = 18432
    num_hidden_layers: int = 61
    num_attention_heads: int = 128
    num_key_value_heads: int | None = 128
    max_position_embeddings: int = 4096
    first_k_dense_replace: int | None = 3
    n_routed_experts: int = 256
    n_shared_experts: int = 1
    num_experts_per_tok: int | None = 8
    moe_intermediate_size: int = 2048
    routed_scaling_factor: float = 2.5
    topk_method: str | None = "noaux_tc"
    n_group: int | None = 8
    topk_group: int | None = 4
    norm_topk_prob: bool | None = True
    rope_interleave: bool | None = True

    def check(self) -> None:
        """Refuse contradictions: rotations are as wide as what they turn."""
        K, J = self.head_dim, self.qk_rope_head_dim
        require(K in (None, J), f"head_dim = {K} is not qk_rope_head_dim = {J}, which alone is turned.")
        super().check()

    def check_routing(self) -> None:
        """Refuse choices that cannot be made."""
        E, groups = self.n_routed_experts, self.n_group or 0
        method = self.topk_method
        require(method in ("noaux_tc", None), f"topk_method = {method!r} is not noaux_tc.")
        self.check_groups()
        require(
            2 * groups <= E,
            f"n_group = {groups} groups of n_routed_experts = {E} have no two best experts each.",
        )


CORRECTION: WeightTable = {
    "blocks.{i}.feed_forward.router.correction": ("layers.{i}.mlp.gate.e_score_correction_bias", "E"),
}


class DeepseekV3(DeepseekV2):
    """DeepSeek-V3, V3.1 and R1, and the models that are built like them (Moonlight, Kimi K2)."""

    Config = DeepseekV3Config
    # The layer that predicts a token more.
    IGNORED = r"layers\.61\..*"

    @staticmethod
    def weight_table(config: Any) -> WeightTable:
        """DeepSeek-V2's, with the corrections."""
        return {**DeepseekV2.weight_table(config), **for_layers(CORRECTION, config.layers_with_experts)}

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Turn neighbours, or halves."""
        c: DeepseekV3Config = self.config
        return {**super().attention(i, w), "rope": c.rope.rotary(interleaved=bool(c.rope_interleave))}

    def routing(self, w: Weights) -> Routing:
        """How experts are chosen and weighted."""
        c: DeepseekV3Config = self.config
        return partial(
            sigmoid_grouped_top_k,
            correction=w["correction"],
            groups=c.n_group or 1,
            kept=c.topk_group or 1,
            normed=bool(c.norm_topk_prob),
            factor=c.routed_scaling_factor,
        )


FACTS = Facts(
    grew_from="deepseek_v2",
    kind="experts",
    changed="Sigmoid router scores, and a correction that only chooses experts",
    why="256 experts kept busy without a penalty in the loss",
    published="V3",
    keys={"num_hidden_layers": 1},
)
