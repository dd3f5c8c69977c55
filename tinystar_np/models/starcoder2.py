"""StarCoder2 (Lozhkov et al. 2024, arXiv:2402.19173): GPT-2's layers between Mistral's attention.

    x → norm → attention to the last W tokens ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention        | position | norm      | activation          | block      | context |
|------------------|----------|-----------|---------------------|------------|---------|
| GQA, window 4096 | RoPE     | LayerNorm | GELU (tanh), plain  | sequential | 16384   |

New in it: code in over 600 languages, with issues, notebooks and documentation around it, each from where it
may be taken and with a way out for its authors. The design stands between two times: rotations, few heads of
keys and values and a window are from Llama and Mistral; LayerNorm, biases in every layer, a feed-forward
layer without a gate and a tied output layer from GPT-2, by way of the first StarCoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers import FeedForward, LayerNorm, Weights
from tinystar_np.models.facts import Facts
from tinystar_np.models.llama import ATTENTION_BIASES, WEIGHTS
from tinystar_np.models.mistral import Mistral, MistralConfig
from tinystar_np.weights.weight_table import WeightTable, with_switches, without


@dataclass(frozen=True)
class Starcoder2Config(MistralConfig):
    """Mistral's keys with StarCoder2's defaults, and one for all biases."""

    UNUSED: ClassVar[Sequence[str]] = ("rms_norm_eps", "attention_bias", "mlp_bias")

    vocab_size: int = 49152
    hidden_size: int = 3072
    intermediate_size: int = 12288
    num_hidden_layers: int = 30
    num_attention_heads: int = 24
    num_key_value_heads: int | None = 2
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 4096
    norm_epsilon: float = 1e-5
    sliding_window: int | None = None
    tie_word_embeddings: bool = True
    use_bias: bool = True


PLAIN: WeightTable = {
    "blocks.{i}.attention_norm.bias":      ("layers.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("layers.{i}.post_attention_layernorm.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.c_fc.weight", "F D -> D F"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.c_proj.weight", "D F -> F D"),
    "final_norm.bias":                     ("norm.bias", "D"),
}  # fmt: skip
BIASES: WeightTable = {
    **ATTENTION_BIASES,
    "blocks.{i}.feed_forward.up.bias":     ("layers.{i}.mlp.c_fc.bias", "F"),
    "blocks.{i}.feed_forward.down.bias":   ("layers.{i}.mlp.c_proj.bias", "D"),
}  # fmt: skip


class Starcoder2(Mistral):
    """StarCoder2 in 3B, 7B and 15B."""

    Config = Starcoder2Config

    @staticmethod
    def weight_table(config: Any) -> WeightTable:
        """Llama's with other norms and feed-forward layers, and what the config switches on."""
        return with_switches({**without(WEIGHTS, ".gate."), **PLAIN}, config, use_bias=BIASES)

    def norm(self, w: Weights) -> LayerNorm:
        """Build a norm."""
        return LayerNorm(w, eps=self.config.norm_epsilon)

    def feed_forward(self, i: int, w: Weights) -> FeedForward:
        """Build layer i's feed-forward layer."""
        return FeedForward(w, activation=ACTIVATIONS[self.config.hidden_act])


FACTS = Facts(
    grew_from="gpt2",
    kind="attention",
    changed="Rotary positions, few key heads and a window; GPT-2's norms and biases",
    why="a small cache; what else is new is the code it was trained on",
    published="3B",
    keys={"sliding_window": 4096},
)
