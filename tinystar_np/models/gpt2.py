"""GPT-2 (Radford, Wu, Child, Luan, Amodei & Sutskever 2019): the decoder that others are measured against.

    x = embedding[token] + positions[position]
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position             | norm      | activation  | block      | context |
|-----------|----------------------|-----------|-------------|------------|---------|
| MHA       | learned, one per place | LayerNorm | GELU (tanh) | sequential | 1024    |

New in it: the norms stand before attention and feed-forward instead of after the addition, and one more
behind the last block; a byte-level vocabulary that can spell any text; no task but the next token.
The output layer is the embedding table once more. Weights are stored (in, out), the other way round than
nearly everywhere since, because the code began in TensorFlow.
"""

from dataclasses import dataclass
from typing import ClassVar

from tinystar_np.configs.config import DecoderConfig
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers import Attention, FeedForward, LayerNorm, SequentialBlock, Weights
from tinystar_np.models.decoder import Decoder
from tinystar_np.models.facts import Facts
from tinystar_np.weights.weight_table import WeightTable, with_switches


@dataclass(frozen=True)
class GPT2Config(DecoderConfig):
    """The keys of a GPT-2 config.json that change the mathematics; defaults as in transformers.

    ``reorder_and_upcast_attn`` asks for scores and softmax in float32 under half-precision training. Here
    they always are float32, so both of its values mean the same.
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    tie_word_embeddings: bool = True

    ALIASES: ClassVar = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    REFUSED: ClassVar = {"add_cross_attention": (False,)}

    LETTERS: ClassVar = {
        **DecoderConfig.LETTERS,
        "C": "n_positions",
        "D": "n_embd",
        "L": "n_layer",
        "H": "n_head",
        "F": "n_inner",
    }

    @property
    def context_length(self) -> int:
        """Learned positions end where their table ends."""
        return self.n_positions


WEIGHTS: WeightTable = {
    # ours:                               (the checkpoint's, shape)
    "embedding.tokens.weight":            ("wte.weight", "V D"),
    "embedding.positions.weight":         ("wpe.weight", "C D"),
    "blocks.{i}.attention_norm.gain":     ("h.{i}.ln_1.weight", "D"),
    "blocks.{i}.attention_norm.bias":     ("h.{i}.ln_1.bias", "D"),
    "blocks.{i}.attention.qkv.weight":    ("h.{i}.attn.c_attn.weight", "D 3D"),
    "blocks.{i}.attention.qkv.bias":      ("h.{i}.attn.c_attn.bias", "3D"),
    "blocks.{i}.attention.out.weight":    ("h.{i}.attn.c_proj.weight", "D D"),
    "blocks.{i}.attention.out.bias":      ("h.{i}.attn.c_proj.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":  ("h.{i}.ln_2.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":  ("h.{i}.ln_2.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":  ("h.{i}.mlp.c_fc.weight", "D F"),
    "blocks.{i}.feed_forward.up.bias":    ("h.{i}.mlp.c_fc.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.mlp.c_proj.weight", "F D"),
    "blocks.{i}.feed_forward.down.bias":  ("h.{i}.mlp.c_proj.bias", "D"),
    "final_norm.gain":                    ("ln_f.weight", "D"),
    "final_norm.bias":                    ("ln_f.bias", "D"),
}  # fmt: skip


class GPT2(Decoder):
    """GPT-2 in its four sizes (gpt2, medium, large, xl), DistilGPT-2, and everything built like them."""

    Config = GPT2Config
    PREFIX = "transformer."
    IGNORED = r"h\.\d+\.attn\.(bias|masked_bias)"  # the causal mask was saved as a buffer by old versions

    @staticmethod
    def weight_table(config: GPT2Config) -> WeightTable:
        """Add the output layer where it is not the embedding table."""
        return with_switches(WEIGHTS, config)

    def block(self, i: int, w: Weights) -> SequentialBlock:
        """Norm, attention, norm, feed-forward."""
        c: GPT2Config = self.config
        head_dim = c.n_embd // c.n_head
        scale = head_dim**-0.5 if c.scale_attn_weights else 1.0
        if c.scale_attn_by_inverse_layer_idx:
            scale /= i + 1
        return SequentialBlock(
            attention_norm=self.norm(w.attention_norm),
            attention=Attention(w.attention, heads=c.n_head, head_dim=head_dim, scale=scale),
            feed_forward_norm=self.norm(w.feed_forward_norm),
            feed_forward=FeedForward(w.feed_forward, activation=ACTIVATIONS[c.activation_function]),
        )

    def norm(self, w: Weights) -> LayerNorm:
        """Build a norm."""
        return LayerNorm(w, eps=self.config.layer_norm_epsilon)


FACTS = Facts(
    grew_from=None,
    kind="block",
    changed="Norms before attention and feed-forward, and one at the end",
    why="deep stacks train; one task, the next token, serves any text",
    published="124M",
)
