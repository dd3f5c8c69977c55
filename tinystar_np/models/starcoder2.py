"""StarCoder2 (Lozhkov et al. 2024, arXiv:2402.19173): Mistral's attention with GPT-2's norms and layers.

    x → norm → attention to the last W tokens ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention        | position | norm      | activation          | block      | context |
|------------------|----------|-----------|---------------------|------------|---------|
| GQA, window 4096 | RoPE     | LayerNorm | GELU (tanh), plain  | sequential | 16384   |

New in it: code in over 600 languages, with issues, notebooks and documentation, all under permissive licences
and with an opt-out for its authors. Rotary embedding, few key/value heads and a window are from Llama and
Mistral; LayerNorm, biases in every layer, a feed-forward layer without a gate and a tied output layer from
GPT-2, by way of the first StarCoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import equal_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Starcoder2Config(Config):
    """The keys of a StarCoder2 config.json that change the mathematics; defaults as in transformers.

    ``activation_function``, ``mlp_type`` and ``norm_type``, which files may have, are ignored.
    """

    vocab_size: int = key(49152, letter="V")
    hidden_size: int = key(3072, letter="D")
    intermediate_size: int = key(12288, letter="F")
    num_hidden_layers: int = key(30, letter="L")
    num_attention_heads: int = key(24, letter="H")
    num_key_value_heads: int | None = key(2, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("gelu_pytorch_tanh")
    max_position_embeddings: int = key(4096, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    norm_epsilon: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    sliding_window: int | None = None
    use_bias: bool = True
    tie_word_embeddings: bool = True

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer, the same in all."""
        return equal_windows(self.num_hidden_layers, self.sliding_window)


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("layers.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK", "use_bias"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK", "use_bias"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK", "use_bias"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D", "use_bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("layers.{i}.post_attention_layernorm.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.c_fc.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("layers.{i}.mlp.c_fc.bias", "F", "use_bias"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.c_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("layers.{i}.mlp.c_proj.bias", "D", "use_bias"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "final_norm.bias":                     ("norm.bias", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: Starcoder2Config, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.norm_epsilon)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), window=c.windows[i]
        )
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=c.norm_epsilon)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Starcoder2(Decoder[Starcoder2Config]):
    """StarCoder2 in 3B, 7B and 15B."""

    Config = Starcoder2Config
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: Starcoder2Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.norm_epsilon)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="gpt2",
    kind="attention",
    changed="Rotary positions, few key/value heads and a window; GPT-2's norms and biases",
    why="a small cache",
    published="3B",
    keys={"sliding_window": 4096},
)
