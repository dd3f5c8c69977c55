"""Granite 3 with experts (IBM 2024), and PowerMoE before it (Shen et al. 2024, arXiv:2408.13359).

    x₀ = e · embedding
    x → norm → attention → · r ──+ x → norm → experts → · r ──+ x      (× L)
    logits = norm(x) · W / l

| attention | position | norm    | feed-forward          | block      | context                         |
|-----------|----------|---------|-----------------------|------------|---------------------------------|
| GQA       | RoPE     | RMSNorm | SwiGLU, 8 of 32 or 40 | sequential | 4096 in 3.0, 131072 from 3.1 on |

New in it, beside Granite's four multipliers (granite.py), which it has too: many small experts, 512 wide, of
which each token uses eight. A token's weights are the softmax over the scores of its eight alone. Training
drops no token for want of room in an expert, so that what it learned is what is computed here. Tan et al.
2024 (ScatterMoE), arXiv:2403.08245.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tinystar_np.checkpoints.weight_table import WeightTable, without
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import top_k_softmax
from tinystar_np.layers_old import Weights
from tinystar_np.layers_old.blocks import FeedForwardLayer
from tinystar_np.layers_old.experts import Experts
from tinystar_np.models.facts import Facts
from tinystar_np.models.unported_granite import Granite, GraniteConfig
from tinystar_np.models.unported_llama import Llama, LlamaConfig


@dataclass(frozen=True)
class GraniteMoeConfig(GraniteConfig):
    """Granite's keys, of which ``intermediate_size`` is now the width of one expert, and two more."""

    UNUSED: ClassVar[Sequence[str]] = ("mlp_bias",)
    LETTERS: ClassVar[Mapping[str, str]] = {**GraniteConfig.LETTERS, "E": "num_local_experts"}

    num_local_experts: int = 8
    num_experts_per_tok: int | None = 2


EXPERTS: WeightTable = {
    "blocks.{i}.feed_forward.router.weight":
        ("layers.{i}.block_sparse_moe.router.layer.weight", "E D -> D E"),
    "blocks.{i}.feed_forward.experts.{e}.gate_up.weight":
        ("layers.{i}.block_sparse_moe.input_linear.weight", "E 2F D -> D 2F"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.block_sparse_moe.output_linear.weight", "E D F -> F D"),
}  # fmt: skip


class GraniteMoe(Granite):
    """PowerMoE-3B and Granite 3.0 and 3.1 with experts, 1B and 3B, of which 400M and 800M compute."""

    Config = GraniteMoeConfig
    OTHER_NAMES: ClassVar = {  # of the modules in transformers 5, which save_pretrained turns back
        r"(.*\.block_sparse_moe)\.router\.weight": r"\1.router.layer.weight",
        r"(.*\.block_sparse_moe)\.experts\.gate_up_proj": r"\1.input_linear.weight",
        r"(.*\.block_sparse_moe)\.experts\.down_proj": r"\1.output_linear.weight",
    }

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Llama's, with experts."""
        return {**without(Llama.weight_table(config), ".feed_forward."), **EXPERTS}

    def feed_forward(self, i: int, w: Weights) -> FeedForwardLayer:
        """Route each token to its experts."""
        c: GraniteMoeConfig = self.config
        return Experts(
            w,
            experts=c.num_local_experts,
            per_token=c.num_experts_per_tok or 0,
            routing=top_k_softmax,
            activation=ACTIVATIONS[c.hidden_act],
        )


FACTS = Facts(
    grew_from="granite",
    kind="experts",
    changed="32 or 40 small experts, 8 for a token",
    why="1 to 3 billion weights for the work of a few hundred million",
    published="3.1 3B-A800M",
    keys={"hidden_size": 1536, "num_attention_heads": 24, "num_key_value_heads": 8},
)
