"""Nemotron-4 and Minitron (Parmar et al. 2024, arXiv:2402.16819): squared ReLU, and gains stored less 1.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention | position                      | norm                   | activation | block      | context |
|-----------|-------------------------------|------------------------|------------|------------|---------|
| GQA       | RoPE, first half of each head | LayerNorm, gain 1 + w  | ReLU²      | sequential | 4096    |

New in it: squared ReLU without a gate, up to 340B (NVIDIA 2024, arXiv:2406.11704), where others had SwiGLU;
layer norms store their gain less 1, as Gemma's do, so that weight decay draws the gain to 1.
Minitron (Muralidharan et al. 2024, arXiv:2407.14679) is such a model made smaller: the least important
features, heads or layers are pruned, and the rest is trained by distillation from the larger model.
"""

from dataclasses import dataclass
from functools import partial
from typing import Self

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

FIRST_NAMES = "rope_percent", "rope_percentage"
"""What the first files call ``partial_rotary_factor``."""


@dataclass(frozen=True)
class NemotronConfig(Config):
    """The keys of a Nemotron config.json that change the mathematics; defaults as in transformers.

    Without ``num_key_value_heads`` there are as many as query heads; transformers' class fails there.
    """

    vocab_size: int = key(256000, letter="V")
    hidden_size: int = key(6144, letter="D")
    intermediate_size: int = key(24576, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(48, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("relu2")
    max_position_embeddings: int = key(4096, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    partial_rotary_factor: float | None = 0.5
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Read today's keys, or the first files'; transformers ignores those, and takes its defaults."""
        name = "partial_rotary_factor"
        for old in FIRST_NAMES:
            if raw.get(old) is not None:
                one, other = raw[old], raw.get(name, raw[old])
                same = f"{old} = {shown(one)}, but {name} = {shown(other)} is the same key."
                require(one == other, same)
                raw = {**raw, name: one}
        return super().from_dict(raw)

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"], partial=True)


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("layers.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("layers.{i}.post_attention_layernorm.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("layers.{i}.mlp.up_proj.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("layers.{i}.mlp.down_proj.bias", "D", "mlp_bias"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "final_norm.bias":                     ("norm.bias", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class LayerNorm1P(LayerNorm):
    """Layer normalisation whose gain is stored less 1.

    w    ``gain`` and ``bias`` (D,)
    eps  added to the variance
    """

    def __init__(self, w: Weights, *, eps: float):
        super().__init__(w, eps=eps)
        gain: NDArray = w["gain"]
        self.gain = gain + gain.dtype.type(1)


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: NemotronConfig):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norm = partial(LayerNorm1P, eps=c.norm_eps)
        self.attention_norm = norm(w / "attention_norm")
        self.attention = Attention(w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary())
        self.feed_forward_norm = norm(w / "feed_forward_norm")
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Nemotron(Decoder[NemotronConfig]):
    """Nemotron-4 in 15B and 340B, Nemotron-Mini, and Minitron in 4B and 8B."""

    Config = NemotronConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: NemotronConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm1P(w / "final_norm", eps=c.norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="gpt_neox",
    kind="block",
    changed="Squared ReLU; grouped queries; gains learned as their difference from 1; no biases",
    why="half of a gated layer's matrices, most features 0, a smaller cache",
    published="15B",
    keys={"num_key_value_heads": 8},
)
