"""GPT-NeoX 20B (Black et al. 2022, arXiv:2204.06745) and Pythia (Biderman et al. 2023, arXiv:2304.01373).

    x ─┬→ norm → attention ─────┬→ + x      (× L)
       └→ norm' → feed-forward ─┘
    logits = norm(x) · W

| attention | position                         | norm      | activation   | block    | context |
|-----------|----------------------------------|-----------|--------------|----------|---------|
| MHA       | RoPE, first quarter of each head | LayerNorm | GELU (exact) | parallel | 2048    |

New in it: everything open, data, code and weights; in Pythia the weights of every stage of the training too,
in sixteen models that read the same texts in the same order. Blocks are parallel as in GPT-J, but with a norm
for each branch, and rotary pairs are half-split. The fused projection holds [query, key, value] for each
head. Some that are built like it (RedPajama 3B) have ``use_parallel_residual: false``.
"""

from dataclasses import dataclass
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import GroupedFusedAttention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class GPTNeoXConfig(Config):
    """The keys of a GPT-NeoX config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(50432, letter="V")
    hidden_size: int = key(6144, letter="D")
    intermediate_size: int | None = key(24576, letter="F")
    num_hidden_layers: int = key(44, letter="L")
    num_attention_heads: int = key(64, letter="H")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("gelu")
    max_position_embeddings: int = key(2048, letter="C", is_trained_length=True)
    original_max_position_embeddings: int | None = None
    layer_norm_eps: float = key(1e-5, above=0)
    rotary_emb_base: float = key(10000.0, null_is_silence=True)
    rotary_pct: float = key(0.25, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    use_parallel_residual: bool = True
    attention_bias: bool = True
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, whose base and part have other names in other configs."""
        renamed = {"rope_theta": self.rotary_emb_base, "partial_rotary_factor": self.rotary_pct}
        return RopeParameters.read(vars(self) | renamed, head_dim=self.sizes["K"], partial=True)

    def check(self) -> None:
        """Refuse contradictions; here the heads together are as wide as the model."""
        super().check()
        D, H, K = self.hidden_size, self.num_attention_heads, self.head_dim
        require(K is None or H * K == D, f"{H} heads of head_dim = {K} do not make hidden_size = {D}.")


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_in.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("layers.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.attention.qkv.weight":     ("layers.{i}.attention.query_key_value.weight", "(H3K D)ᵀ"),
    "blocks.{i}.attention.qkv.bias":
        ("layers.{i}.attention.query_key_value.bias", "H3K", "attention_bias"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.attention.dense.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.attention.dense.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("layers.{i}.post_attention_layernorm.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.dense_h_to_4h.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("layers.{i}.mlp.dense_h_to_4h.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.dense_4h_to_h.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("layers.{i}.mlp.dense_4h_to_h.bias", "D"),
    "final_norm.gain":                     ("final_layer_norm.weight", "D"),
    "final_norm.bias":                     ("final_layer_norm.bias", "D"),
    "head.weight":                         ("embed_out.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention and feed-forward side by side, or one after the other; each has a norm of its own."""

    def __init__(self, w: Weights, c: GPTNeoXConfig):
        H, K = (c.sizes[letter] for letter in "HK")
        self.is_parallel = c.use_parallel_residual
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.layer_norm_eps)
        self.attention = GroupedFusedAttention(w / "attention", heads=H, head_dim=K, rope=c.rope.rotary())
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=c.layer_norm_eps)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        attended = self.attention(normed, step, state)
        x = step.wanted(x)
        if self.is_parallel:
            normed = tap("feed_forward_norm", self.feed_forward_norm(x))
            return tap("residual", x + (attended + self.feed_forward(normed)))
        x = tap("residual_middle", x + attended)
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class GPTNeoX(Decoder[GPTNeoXConfig]):
    """GPT-NeoX 20B, the Pythia models, and those built like them."""

    Config = GPTNeoXConfig
    WEIGHTS = WEIGHTS
    PREFIX = "gpt_neox."
    OTHER_NAMES: ClassVar = {r"lm_head\.weight": "embed_out.weight"}
    IGNORED = r"layers\.\d+\.attention\.(bias|masked_bias)"  # the mask was saved as a buffer by old versions

    def build(self, w: Weights, c: GPTNeoXConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="gptj",
    kind="position",
    changed="Rotary pairs across the halves of a head, a norm for each branch, biases",
    why="open from data to checkpoints: Pythia shows how a model learns",
    published="20B",
)
