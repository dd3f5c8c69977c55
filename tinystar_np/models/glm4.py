"""GLM-4-0414 and GLM-Z1 (Zhipu AI 2025, https://github.com/zai-org/GLM-4): GLM-4 with sandwich norms.

    x → norm → attention → norm ──+ x → norm → feed-forward → norm ──+ x      (× L)
    logits = norm(x) · W

| attention          | position                  | norm    | activation | block                 | context |
|--------------------|---------------------------|---------|------------|-----------------------|---------|
| GQA 32:2; 48:8 in  | RoPE, first half of heads | RMSNorm | SwiGLU     | norms around branches | 32768   |
| 32B                |                           |         |            |                       |         |

New in it, beside GLM (glm.py): the outputs of attention and feed-forward layer are normed before they are
added, as in Gemma 2 (gemma2.py), which bounds what a branch adds to the residual stream however large its
weights grow. ``attention_bias`` gives queries, keys and values biases, as GLM had. In the file,
``post_attention_layernorm`` is the norm before the feed-forward layer, as in Llama; the two new norms have
names of their own. The history of the family is in GLM Team 2024, arXiv:2406.12793.
"""

from dataclasses import dataclass
from functools import partial

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Glm4Config(Config):
    """The keys of a GLM-4-0414 config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(151552, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(13696, letter="F")
    num_hidden_layers: int = key(40, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int = key(2, letter="G")
    head_dim: int = key(128, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1.5625e-7, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    partial_rotary_factor: float | None = 0.5  # null rotates whole heads
    attention_bias: bool = True
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, for a part of each head."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"], partial=True)


WEIGHTS: WeightTable = {
    # ours:                                   the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":                ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":         ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":          ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":            ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight":          ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":            ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight":          ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":            ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.out.weight":        ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention_post_norm.gain":    ("layers.{i}.post_self_attn_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.gain":      ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight":    ("layers.{i}.mlp.gate_up_proj.weight[:F]", "(2F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":      ("layers.{i}.mlp.gate_up_proj.weight[F:]", "(2F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight":    ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward_post_norm.gain": ("layers.{i}.post_mlp_layernorm.weight", "D"),
    "final_norm.gain":                        ("norm.weight", "D"),
    "head.weight":                            ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Each branch reads a normed copy of the residual stream, norms its result, and adds it."""

    def __init__(self, w: Weights, c: Glm4Config):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norm = partial(RMSNorm, eps=c.rms_norm_eps)
        self.attention_norm = norm(w / "attention_norm")
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(interleaved=True)
        )
        self.attention_post_norm = norm(w / "attention_post_norm")
        self.feed_forward_norm = norm(w / "feed_forward_norm")
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.feed_forward_post_norm = norm(w / "feed_forward_post_norm")
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        y = tap("attention_post_norm", self.attention_post_norm(self.attention(normed, step, state)))
        x = tap("residual_middle", step.wanted(x) + y)
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        y = tap("feed_forward_post_norm", self.feed_forward_post_norm(self.feed_forward(normed)))
        return tap("residual", x + y)


class Glm4(Decoder[Glm4Config]):
    """GLM-4-9B-0414, GLM-4-32B-0414, and the GLM-Z1 that reason."""

    Config = Glm4Config
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: Glm4Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="glm",
    kind="block",
    changed="Norms after the branches too",
    why="no branch can drown the residual stream",
    published="4-9B-0414",
    keys={"num_key_value_heads": 2},
)
