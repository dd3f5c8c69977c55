"""OPT (Zhang et al. 2022, arXiv:2205.01068): GPT-3's sizes, with published weights.

    x = embedding[token] + positions[2 + position]
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position                | norm      | activation | block                         | context |
|-----------|-------------------------|-----------|------------|-------------------------------|---------|
| MHA       | learned, from row 2 on  | LayerNorm | ReLU       | sequential                    | 2048    |
| MHA       | learned, from row 2 on  | LayerNorm | ReLU       | 350M: norms after each sum    | 2048    |

New in it: nine sizes from 125M to 175B, published with the logbook of their training. The first two rows of
the table of positions are never read: in fairseq, positions count from the padding token's id on.
The 350M differs: its norms come after each addition, as in 2017, there is none at the end, and its tokens are
512 wide, so that a matrix projects them to D, and another one the stream back before the output layer.
Galactica (Taylor et al. 2022, arXiv:2211.09085) is built like OPT, with GELU.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear, no_norm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.tap import tap

EPSILON = 1e-5
"""What is added to a variance; no key says it."""


@dataclass(frozen=True)
class OPTConfig(Config):
    """The keys of an OPT config.json that change the mathematics; defaults as in transformers.

    ``word_embed_proj_dim``, R, is the width of a token's vector, hidden_size where it is null.
    ``_remove_final_layer_norm`` is for models that were tuned with an early release, which forgot that norm.
    """

    vocab_size: int = key(50272, letter="V")
    hidden_size: int = key(768, letter="D")
    ffn_dim: int = key(3072, letter="F")
    num_hidden_layers: int = key(12, letter="L")
    num_attention_heads: int = key(12, letter="H")
    word_embed_proj_dim: int | None = key(None, letter="R")
    max_position_embeddings: int = key(2048, letter="C", is_trained_length=True)
    activation_function: str = activation_key("relu")
    do_layer_norm_before: bool = True
    _remove_final_layer_norm: bool = False
    enable_bias: bool = True
    layer_norm_elementwise_affine: bool = True
    tie_word_embeddings: bool = True

    @property
    def sizes(self) -> dict[str, int]:
        """The letters; R is D where the file does not say it."""
        return {"R": self.hidden_size, **super().sizes}

    @property
    def context_length(self) -> int:
        """Learned positions end where their table ends."""
        return self.max_position_embeddings

    @property
    def has_projections(self) -> bool:
        """Whether matrices stand between the width of a token and the model's."""
        return self.sizes["R"] != self.hidden_size

    @property
    def has_gains_before(self) -> bool:
        """Whether norms stand before both layers of a block, with gains and biases."""
        return self.do_layer_norm_before and self.layer_norm_elementwise_affine

    @property
    def has_gains_after(self) -> bool:
        """Whether norms stand after both additions of a block, with gains and biases."""
        return not self.do_layer_norm_before and self.layer_norm_elementwise_affine

    @property
    def has_final_norm(self) -> bool:
        """Whether a norm follows the last block."""
        return self.do_layer_norm_before and not self._remove_final_layer_norm


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("decoder.embed_tokens.weight", "V R"),
    "embedding.project.weight":            ("decoder.project_in.weight", "(D R)ᵀ", "has_projections"),
    "embedding.positions.weight":          ("decoder.embed_positions.weight[2:]", "C+2 D"),
    "blocks.{i}.attention_norm.gain":
        ("decoder.layers.{i}.self_attn_layer_norm.weight", "D", "has_gains_before"),
    "blocks.{i}.attention_norm.bias":
        ("decoder.layers.{i}.self_attn_layer_norm.bias", "D", "has_gains_before"),
    "blocks.{i}.attention_post_norm.gain":
        ("decoder.layers.{i}.self_attn_layer_norm.weight", "D", "has_gains_after"),
    "blocks.{i}.attention_post_norm.bias":
        ("decoder.layers.{i}.self_attn_layer_norm.bias", "D", "has_gains_after"),
    "blocks.{i}.attention.q.weight":       ("decoder.layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("decoder.layers.{i}.self_attn.q_proj.bias", "HK", "enable_bias"),
    "blocks.{i}.attention.k.weight":       ("decoder.layers.{i}.self_attn.k_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("decoder.layers.{i}.self_attn.k_proj.bias", "HK", "enable_bias"),
    "blocks.{i}.attention.v.weight":       ("decoder.layers.{i}.self_attn.v_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("decoder.layers.{i}.self_attn.v_proj.bias", "HK", "enable_bias"),
    "blocks.{i}.attention.out.weight":     ("decoder.layers.{i}.self_attn.out_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("decoder.layers.{i}.self_attn.out_proj.bias", "D", "enable_bias"),
    "blocks.{i}.feed_forward_norm.gain":
        ("decoder.layers.{i}.final_layer_norm.weight", "D", "has_gains_before"),
    "blocks.{i}.feed_forward_norm.bias":
        ("decoder.layers.{i}.final_layer_norm.bias", "D", "has_gains_before"),
    "blocks.{i}.feed_forward_post_norm.gain":
        ("decoder.layers.{i}.final_layer_norm.weight", "D", "has_gains_after"),
    "blocks.{i}.feed_forward_post_norm.bias":
        ("decoder.layers.{i}.final_layer_norm.bias", "D", "has_gains_after"),
    "blocks.{i}.feed_forward.up.weight":   ("decoder.layers.{i}.fc1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("decoder.layers.{i}.fc1.bias", "F", "enable_bias"),
    "blocks.{i}.feed_forward.down.weight": ("decoder.layers.{i}.fc2.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("decoder.layers.{i}.fc2.bias", "D", "enable_bias"),
    "final_norm.gain":
        ("decoder.final_layer_norm.weight", "D", "has_final_norm and layer_norm_elementwise_affine"),
    "final_norm.bias":
        ("decoder.final_layer_norm.bias", "D", "has_final_norm and layer_norm_elementwise_affine"),
    "head_project.weight":                 ("decoder.project_out.weight", "(R D)ᵀ", "has_projections"),
    "head.weight":                         ("lm_head.weight", "(V R)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward. A norm stands before each, or after each addition in the 350M."""

    def __init__(self, w: Weights, c: OPTConfig):
        H, K = (c.sizes[letter] for letter in "HK")
        self.norms_sums = not c.do_layer_norm_before
        self.attention = Attention(w / "attention", heads=H, head_dim=K)
        norm = partial(LayerNorm, eps=EPSILON)
        if self.norms_sums:
            self.attention_post_norm = norm(w / "attention_post_norm")
            self.feed_forward_post_norm = norm(w / "feed_forward_post_norm")
        else:
            self.attention_norm = norm(w / "attention_norm")
            self.feed_forward_norm = norm(w / "feed_forward_norm")
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.activation_function])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        if self.norms_sums:
            x = step.wanted(x) + self.attention(x, step, state)
            x = tap("residual_middle", tap("attention_post_norm", self.attention_post_norm(x)))
            x = x + self.feed_forward(x)
            return tap("residual", tap("feed_forward_post_norm", self.feed_forward_post_norm(x)))
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class ProjectedHead(Module):
    """The output layer of a model whose tokens are narrower than its stream.

    w  linear layers ``head_project`` (D, R) and ``head`` (R, V)
    """

    def __init__(self, w: Weights):
        self.project, self.score = Linear(w / "head_project"), Linear(w / "head")

    def __call__(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary: (B, T, D) → (B, T, V)."""
        return self.score(self.project(x))


class OPT(Decoder[OPTConfig]):
    """OPT from 125M to 175B, OPT-IML, and Galactica."""

    Config = OPTConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: OPTConfig) -> None:
        """Build embeddings, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.project = Linear(w / "embedding.project") if c.has_projections else None
        self.positions = Embedding(w / "embedding.positions")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=EPSILON) if c.has_final_norm else no_norm
        self.head = ProjectedHead(w) if c.has_projections else Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look up the tokens and their positions, and add the vectors: ids (B, T) → (B, T, D)."""
        tokens = self.embedding(ids)  # (B, T, R)
        tokens = tap("embedding.tokens", tokens if self.project is None else self.project(tokens))
        positions = tap("embedding.positions", self.positions(step.positions))
        return tap("embedding", tokens + positions)


FACTS = Facts(
    grew_from="gpt2",
    kind="block",
    changed="ReLU; in the 350M norms after each addition, and tokens narrower than the model",
    why="GPT-3's sizes for anybody's research",
    published="6.7B",
    keys={"hidden_size": 4096, "num_attention_heads": 32, "ffn_dim": 16384},
)
