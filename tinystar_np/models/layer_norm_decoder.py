"""What GPT-J, GPT-NeoX, Phi, MPT and GPT-Neo have in common, the decoders between GPT-3 and Llama.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

LayerNorm, and a feed-forward layer without a gate, as in GPT-2. They differ in how a token learns where it
stands, in what stands beside what, and in the names of weights: a recipe says these, and nothing else.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.configs.config import DecoderConfig
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers import (
    Attention,
    Block,
    Embedding,
    FeedForward,
    LayerNorm,
    Linear,
    ParallelBlock,
    SequentialBlock,
    Weights,
)
from tinystar_np.models.decoder import Decoder
from tinystar_np.weights.weight_table import WeightTable

UNTIED_HEAD: WeightTable = {"head.weight": ("lm_head.weight", "V D -> D V")}


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

    @property
    def is_parallel(self) -> bool:
        """Whether attention and feed-forward stand side by side."""
        return False


class LayerNormDecoder(Decoder):
    """A decoder of the kind; a recipe replaces one part or the other."""

    PREFIX = "transformer."
    # The causal mask was saved as a buffer by old versions; an output layer beside tied embeddings is a copy.
    IGNORED = r"h\.\d+\.attn\.(attention\.)?(bias|masked_bias)|lm_head\.weight"

    def block(self, i: int, w: Weights) -> Block:
        """Attention and feed-forward, in a row or side by side, with one norm for both or two."""
        second = w.feed_forward_norm  # nothing where one norm feeds both
        wired: Any = ParallelBlock if self.config.is_parallel else SequentialBlock
        block: Block = wired(
            attention_norm=self.norm(w.attention_norm),
            attention=Attention(w.attention, **self.attention(i, w.attention)),
            feed_forward_norm=self.norm(second) if second else None,
            feed_forward=FeedForward(w.feed_forward, activation=ACTIVATIONS[self.config.hidden_act]),
        )
        return block

    def norm(self, w: Weights) -> LayerNorm:
        """Build a norm."""
        return LayerNorm(w, eps=self.config.layer_norm_eps)

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Give the settings of layer i's attention."""
        H, G, K = (self.config.sizes[letter] for letter in "HGK")
        return {"heads": H, "groups": G, "head_dim": K, "scale": K**-0.5}

    def build_ends(self, w: Weights) -> None:
        """The embedding before the blocks; a norm and the output layer, in some with a bias, behind them."""
        self.tokens = Embedding(w.embedding.tokens)
        self.final_norm = self.norm(w.final_norm)
        self.head = Linear(self.tokens.tied_head() if self.config.tie_word_embeddings else w.head)
        self.head.bias = w.head.get("bias")
