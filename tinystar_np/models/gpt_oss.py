"""gpt-oss 20B and 120B (OpenAI 2025, arXiv:2508.10925).

    x → norm → attention with sinks ──+ x → norm → the 4 best of E experts ──+ x      (× L)
    logits = norm(x) · W

| attention                     | position | norm    | feed-forward                   | block      | context |
|-------------------------------|----------|---------|--------------------------------|------------|---------|
| GQA, windows in every second  | yarn     | RMSNorm | clamped SwiGLU, 4 of 32 or 128 | sequential | 131072  |

New in it: a learned sink in each head, one more score that takes a share of the softmax and gives nothing for
it, so that a head with nothing to look for need not look at anything (Xiao et al. 2023, arXiv:2309.17453, had
seen heads use the first token for that). Windows of 128 tokens in every second layer, the smallest of any
large model. Nearly all weights are in experts and were trained for 4 bits each, hence the clamps in their
SwiGLU; everything has a bias, experts and router too. The yarn's ends are not rounded to whole pairs.

Files in 4 bits (mxfp4) are refused; converted to bfloat16 they load.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from tinystar_np.configs.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.configs.rope_parameters import RopeParameters
from tinystar_np.kernels.experts import top_k_softmax
from tinystar_np.layers_old import Weights
from tinystar_np.layers_old.experts import ClampedExpert, Experts
from tinystar_np.models.unported_llama import Llama, LlamaConfig
from tinystar_np.models.unported_mixtral import Mixtral, MixtralConfig
from tinystar_np.weights.weight_table import WeightTable, without

YARN = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "truncate": False}


@dataclass(frozen=True)
class GptOssConfig(MixtralConfig):
    """Mixtral's keys with other defaults, windows by layer, and the clamps."""

    UNUSED: ClassVar[Sequence[str]] = ("mlp_bias", "fused_experts")

    vocab_size: int = 201088
    hidden_size: int = 2880
    intermediate_size: int = 2880
    num_hidden_layers: int = 36
    num_attention_heads: int = 64
    head_dim: int | None = 64
    rope_theta: float = 150000.0
    attention_bias: bool = True
    sliding_window: int | None = 128
    layer_types: list[str] | None = None
    num_local_experts: int = 128
    num_experts_per_tok: int = 4
    swiglu_alpha: float = 1.702
    swiglu_limit: float = 7.0

    @property
    def rope(self) -> RopeParameters:
        """Yarn, unless something else is said."""
        said = {} if self.rope_parameters is not None else {"rope_parameters": YARN}
        return RopeParameters.read({**vars(self), **said}, head_dim=self.sizes["K"])

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer; in turns, unless something else is said."""
        usual = [(SLIDING, FULL)[i % 2] for i in range(self.num_hidden_layers)]
        return layer_windows(self.layer_types, usual, self.sliding_window)


MORE_WEIGHTS: WeightTable = {
    "blocks.{i}.attention.sinks":
        ("layers.{i}.self_attn.sinks", "H"),
    "blocks.{i}.feed_forward.router.weight":
        ("layers.{i}.mlp.router.weight", "E D -> D E"),
    "blocks.{i}.feed_forward.router.bias":
        ("layers.{i}.mlp.router.bias", "E"),
    "blocks.{i}.feed_forward.experts.{e}.gate_up.weight":
        ("layers.{i}.mlp.experts.gate_up_proj", "E D 2M -> D 2M"),
    "blocks.{i}.feed_forward.experts.{e}.gate_up.bias":
        ("layers.{i}.mlp.experts.gate_up_proj_bias", "E 2M -> 2M"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.down_proj", "E M D -> M D"),
    "blocks.{i}.feed_forward.experts.{e}.down.bias":
        ("layers.{i}.mlp.experts.down_proj_bias", "E D -> D"),
}  # fmt: skip


class GptOss(Mixtral):
    """gpt-oss-20b and gpt-oss-120b."""

    Config = GptOssConfig

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Llama's, with sinks and experts."""
        return {**without(Llama.weight_table(config), ".feed_forward."), **MORE_WEIGHTS}

    def feed_forward(self, i: int, w: Weights) -> Experts:
        """Route each token to its clamped experts."""
        c: GptOssConfig = self.config
        return Experts(
            w,
            experts=c.num_local_experts,
            per_token=c.num_experts_per_tok,
            routing=top_k_softmax,
            expert=partial(ClampedExpert, alpha=c.swiglu_alpha, limit=c.swiglu_limit),
        )
