"""Mixtral in the old form, for those who still stand on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tinystar_np.configs.layer_types import equal_windows
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import top_k_softmax
from tinystar_np.layers_old import Weights
from tinystar_np.layers_old.blocks import FeedForwardLayer
from tinystar_np.layers_old.experts import Experts, Routing
from tinystar_np.models.expert_weights import EitherExperts, letters_of_none, with_experts
from tinystar_np.models.unported_llama import Llama, LlamaConfig
from tinystar_np.weights.weight_table import WeightTable


@dataclass(frozen=True)
class MistralConfig(LlamaConfig):
    """Llama's keys with Mistral's defaults, and the window."""

    UNUSED: ClassVar[Sequence[str]] = ("attention_bias", "mlp_bias")

    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 131072
    sliding_window: int | None = 4096

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer, the same in all."""
        return equal_windows(self.num_hidden_layers, self.sliding_window)


class Mistral(Llama):
    """Mistral 7B, Mistral Nemo, and the models that are built like them."""

    Config = MistralConfig


@dataclass(frozen=True)
class MixtralConfig(MistralConfig):
    """Mistral's keys, of which ``intermediate_size`` is now the width of one expert, and two more.

    ``fused_experts`` is no key: whether the file has all experts of a layer in one tensor.
    """

    ALIASES: ClassVar[Mapping[str, str]] = {"num_experts": "num_local_experts"}
    UNUSED: ClassVar[Sequence[str]] = ("attention_bias", "mlp_bias", "fused_experts")
    LETTERS: ClassVar[Mapping[str, str]] = {
        **MistralConfig.LETTERS,
        "E": "num_local_experts",
        "M": "intermediate_size",
    }

    rms_norm_eps: float = 1e-5
    rope_theta: float = 1_000_000.0
    sliding_window: int | None = None
    num_local_experts: int = 8
    num_experts_per_tok: int = 2
    fused_experts: bool = False

    @property
    def layers_with_experts(self) -> Sequence[int]:
        """All."""
        return range(self.num_hidden_layers)

    @property
    def absent_letters(self) -> str:
        """Those of dense layers, or of experts, where there are none of the kind."""
        return letters_of_none(len(self.layers_with_experts), self.num_hidden_layers, "EMC")


EXPERTS: WeightTable = {
    "blocks.{i}.feed_forward.router.weight":
        ("layers.{i}.block_sparse_moe.gate.weight", "E D -> D E"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.block_sparse_moe.experts.{e}.w1.weight", "M D -> D M"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.block_sparse_moe.experts.{e}.w3.weight", "M D -> D M"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.block_sparse_moe.experts.{e}.w2.weight", "D M -> M D"),
}  # fmt: skip


class Mixtral(EitherExperts, Mistral):
    """Mixtral, and the base of those that wire their experts like it."""

    Config = MixtralConfig

    @staticmethod
    def weight_table(config: LlamaConfig) -> WeightTable:
        """Llama's, with experts."""
        return with_experts(Llama.weight_table(config), EXPERTS, config)

    def feed_forward(self, i: int, w: Weights) -> FeedForwardLayer:
        """Route each token to its experts."""
        c: MixtralConfig = self.config
        if i not in c.layers_with_experts:
            return super().feed_forward(i, w)
        return Experts(
            w,
            experts=c.num_local_experts,
            per_token=c.num_experts_per_tok,
            routing=self.routing,
            activation=ACTIVATIONS[c.hidden_act],
        )

    @property
    def routing(self) -> Routing:
        """How experts are chosen and weighted."""
        return top_k_softmax
