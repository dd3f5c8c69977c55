"""What GPT-J, GPT-NeoX, Phi, MPT and GPT-Neo have in common, the decoders between GPT-3 and Llama.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

LayerNorm, and a feed-forward layer without a gate, as in GPT-2. They differ in how a token learns where it
stands, in what stands beside what, and in the names of weights: a recipe says these, and nothing else.
"""

from dataclasses import dataclass
from typing import ClassVar

from tinystar_np.configs.config import DecoderConfig
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers_old import FeedForward, LayerNorm, Weights
from tinystar_np.models.attention_decoder import AttentionDecoder


@dataclass(frozen=True)
class LayerNormConfig(DecoderConfig):
    """The keys that all of them have; a recipe names its own spellings in ``ALIASES``, and its defaults.

    ``intermediate_size: null`` stands for four times the width.
    """

    vocab_size: int = 50257
    hidden_size: int = 2048
    intermediate_size: int | None = None
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    hidden_act: str = "gelu_new"
    layer_norm_eps: float = 1e-5
    max_position_embeddings: int = 2048
    tie_word_embeddings: bool = False

    LETTERS: ClassVar = {**DecoderConfig.LETTERS, "C": "max_position_embeddings"}


class LayerNormDecoder(AttentionDecoder):
    """A decoder of the kind; a recipe replaces one part or the other."""

    PREFIX = "transformer."
    # The causal mask was saved as a buffer by old versions.
    IGNORED = r"h\.\d+\.attn\.(attention\.)?(bias|masked_bias)"

    def norm(self, w: Weights) -> LayerNorm:
        """Build a norm."""
        return LayerNorm(w, eps=self.config.layer_norm_eps)

    def feed_forward(self, i: int, w: Weights) -> FeedForward:
        """Build layer i's feed-forward layer."""
        return FeedForward(w, activation=ACTIVATIONS[self.config.hidden_act])
