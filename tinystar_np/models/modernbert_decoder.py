"""ModernBERT decoder (Ettin: Weller et al. 2025, arXiv:2507.11412): an encoder's design made causal.

    x₀ = norm(embedding)
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(GELU(norm(x) · W')) · embeddingᵀ + b

| attention                    | position             | norm       | activation | block      | context |
|------------------------------|----------------------|------------|------------|------------|---------|
| MHA, window 64 in 2 of 3     | RoPE, one base for   | LayerNorm, | GeGLU      | sequential | 8192    |
| layers                       | each kind of layer   | no bias    |            |            |         |

New in it: an encoder and a decoder of the same architecture, data and training for each size, so that they
differ in the mask and the training objective alone. The architecture is ModernBERT's (Warner et al. 2024,
arXiv:2412.13663): the embedding is normed, so the first layer needs no norm before its attention; every third
layer, beginning with the first, sees all, the others 64 tokens. As in BERT a dense layer, an activation and a
norm stand before the output layer, which has a bias. A config's ``local_attention`` counts both sides of an
encoder's window: half of it is the decoder's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_kinds
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class ModernBertDecoderConfig(Config):
    """The keys of a decoder's config.json that change the mathematics; defaults as in transformers.

    Each kind of layer has its rotations, in ``rope_parameters`` or, in old files, in ``global_rope_theta``
    and ``local_rope_theta``.
    """

    vocab_size: int = key(50368, letter="V")
    hidden_size: int = key(768, letter="D")
    intermediate_size: int = key(1152, letter="F")
    num_hidden_layers: int = key(22, letter="L")
    num_attention_heads: int = key(12, letter="H")
    hidden_activation: str = activation_key("gelu")
    max_position_embeddings: int = key(8192, is_trained_length=True)
    norm_eps: float = key(1e-5, above=0)
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    decoder_bias: bool = True
    classifier_bias: bool = False
    classifier_activation: str = activation_key("gelu")
    local_attention: int | None = 128
    layer_types: list[str] | None = None
    global_attn_every_n_layers: int = 3
    global_rope_theta: float = key(160000.0, above=0, null_is_silence=True)
    local_rope_theta: float = key(10000.0, above=0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    tie_word_embeddings: bool = True

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters in layers with full attention."""
        return self.ropes[FULL]

    @property
    def ropes(self) -> dict[str, RopeParameters]:
        """The rotary embedding's parameters in each kind of layer."""
        bases = {FULL: self.global_rope_theta, SLIDING: self.local_rope_theta}
        return {
            kind: RopeParameters.read({**vars(self), "rope_theta": base}, head_dim=self.sizes["K"], kind=kind)
            for kind, base in bases.items()
        }

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; every third has none, where the file does not name them."""
        named = self.layer_types is not None
        n = 1 if named else at_least_1("global_attn_every_n_layers", self.global_attn_every_n_layers)
        usual = [SLIDING if i % n else FULL for i in range(self.num_hidden_layers)]
        kinds = layer_kinds(self.layer_types, usual, (FULL, SLIDING))
        local = self.local_attention or 0
        said = f"local_attention = {self.local_attention}, but a token sees at least itself: at least 2."
        require(SLIDING not in kinds or local >= 2, said)
        return tuple(local // 2 if kind == SLIDING else None for kind in kinds)

    @property
    def normed_layers(self) -> Sequence[int]:
        """The layers with a norm before attention: all but the first."""
        return range(1, self.num_hidden_layers)

    def check(self) -> None:
        """Refuse contradictions."""
        given = self.rope_parameters or {}
        flat = {name: value for name, value in given.items() if not isinstance(value, Mapping | None)}
        require(not flat, f"rope_parameters has {shown(flat)} outside of the two kinds of layers.")
        super().check()


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embeddings.tok_embeddings.weight", "V D"),
    "embedding_norm.gain": ("embeddings.norm.weight", "D"),
    "embedding_norm.bias": ("embeddings.norm.bias", "D", "norm_bias"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.attn_norm.weight", "D", "normed_layers"),
    "blocks.{i}.attention_norm.bias": ("layers.{i}.attn_norm.bias", "D", "normed_layers and norm_bias"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias": ("layers.{i}.attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.attn.k_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.k.bias": ("layers.{i}.attn.k_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.attn.v_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.v.bias": ("layers.{i}.attn.v_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.attn.Wo.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.attn.Wo.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.mlp_norm.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias": ("layers.{i}.mlp_norm.bias", "D", "norm_bias"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.Wi.weight[:F]", "(2F D)ᵀ"),
    "blocks.{i}.feed_forward.gate.bias": ("layers.{i}.mlp.Wi.bias[:F]", "2F", "mlp_bias"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mlp.Wi.weight[F:]", "(2F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias": ("layers.{i}.mlp.Wi.bias[F:]", "2F", "mlp_bias"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.Wo.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias": ("layers.{i}.mlp.Wo.bias", "D", "mlp_bias"),
    "final_norm.gain": ("final_norm.weight", "D"),
    "final_norm.bias": ("final_norm.bias", "D", "norm_bias"),
    "dense.weight": ("lm_head.dense.weight", "(D D)ᵀ"),
    "dense.bias": ("lm_head.dense.bias", "D", "classifier_bias"),
    "dense_norm.gain": ("lm_head.norm.weight", "D"),
    "dense_norm.bias": ("lm_head.norm.bias", "D", "norm_bias"),
    "head.weight": ("decoder.weight", "(V D)ᵀ", "not tie_word_embeddings"),
    "head.bias": ("decoder.bias", "V", "decoder_bias"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: ModernBertDecoderConfig, i: int):
        H, K = c.sizes["H"], c.sizes["K"]
        window = c.windows[i]
        norm = partial(LayerNorm, eps=c.norm_eps)
        # The embedding is normed already.
        self.attention_norm = norm(w / "attention_norm") if i else None
        self.attention = Attention(
            w / "attention", heads=H, head_dim=K, window=window,
            rope=c.ropes[FULL if window is None else SLIDING].rotary(),
        )  # fmt: skip
        self.feed_forward_norm = norm(w / "feed_forward_norm")
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_activation])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = x if self.attention_norm is None else tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class ModernBertDecoder(Decoder[ModernBertDecoderConfig]):
    """The decoders of Ettin, from 17M to 1B."""

    Config = ModernBertDecoderConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."
    WHY_NO_SUM = "A dense layer with an activation stands before the output layer of this model."

    def build(self, w: Weights, c: ModernBertDecoderConfig) -> None:
        """Build the embedding and its norm, blocks, the last norm, the dense layer and the output layer."""
        norm = partial(LayerNorm, eps=c.norm_eps)
        self.embedding = Embedding(w / "embedding.tokens")
        self.embedding_norm = norm(w / "embedding_norm")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = norm(w / "final_norm")
        self.dense, self.dense_norm = Linear(w / "dense"), norm(w / "dense_norm")
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and norm them: ids (B, T) → (B, T, D)."""
        return tap("embedding", self.embedding_norm(tap("embedding.tokens", self.embedding(ids))))

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary: (B, T, D) → (B, T, V)."""
        hidden = tap("dense", self.dense(x))
        hidden = fast.activate(hidden, ACTIVATIONS[self.config.classifier_activation])
        return self.head(tap("dense_norm", self.dense_norm(hidden)))


FACTS = Facts(
    grew_from="gpt_neox",
    kind="attention",
    changed="A window of 64 in two layers of three; a dense layer before the output layer",
    why="the architecture of an encoder, to compare the two kinds",
    published="400M",
    keys={"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 3},
)
