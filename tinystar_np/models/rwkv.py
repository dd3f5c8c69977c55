"""RWKV-4 (Peng et al. 2023, arXiv:2305.13048): a recurrent network trained like a transformer.

    x₀ = norm(embedding)
    x → norm → time mixing ──+ x → norm → channel mixing ──+ x      (× L)
    logits = norm(x) · W

| attention                  | position | norm      | activation        | block      | context  |
|----------------------------|----------|-----------|-------------------|------------|----------|
| none: WKV, a weighted mean | none     | LayerNorm | ReLU², gated by a | sequential | no limit |
| with decay, gated          |          |           | sigmoid           |            |          |

New in it: what a token gives to later ones has a weight of its own, e^k, that decays at a speed which each
channel has learned (kernels/wkv.py). All earlier tokens are three numbers for each channel, and yet training
computes a text at once. Both layers of a block read a mixture of each token's vector and the one before it,
and both are gated by a sigmoid, called receptance. Order comes from the recurrence. Texts in training had
1024 tokens, in later models up to 8192.

``rescale_every`` halves the stream after every so many layers, and what these add to it, so that float16
holds it. The norms undo that except for their epsilon, which weighs 4 times more after each halving: only
this is left of it here. transformers' path with a cache is right for one text at a time: with several, and
one new token each, it adds the vectors of the token before across rows; and it fails where
``attention_hidden_size`` is not ``hidden_size``. Its first call divides weights in place, so that a model
saved after it is another.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import HybridState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.layers.basic import Embedding, LayerNorm, Linear, Mixer
from tinystar_np.layers.module import Module
from tinystar_np.layers.time_mixing import ChannelMixing, TimeMixing
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, key
from tinystar_np.models.facts import Facts
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

FINAL_EPS = 1e-5


@dataclass(frozen=True)
class RwkvConfig(Config):
    """The keys of an RWKV config.json that change the mathematics; defaults as in transformers.

    The letter K is that of the channels of time mixing.
    """

    vocab_size: int = key(50277, letter="V")
    hidden_size: int = key(4096, letter="D")
    num_hidden_layers: int = key(32, letter="L")
    attention_hidden_size: int | None = key(None, letter="K")
    intermediate_size: int | None = key(None, letter="F")
    max_position_embeddings: int = key(
        1024, aliases=("context_length",), is_trained_length=True, null_is_silence=True
    )
    layer_norm_epsilon: float = key(1e-5, above=0)
    rescale_every: int = 6
    tie_word_embeddings: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """The letters; channels are as many as the width, and features four times as many, unless said."""
        D = self.hidden_size
        channels, features = self.attention_hidden_size, self.intermediate_size
        usual = {"K": D if channels is None else channels, "F": 4 * D if features is None else features}
        return {**super().sizes, **usual}

    def epsilon(self, eps: float, i: int) -> float:
        """Return the epsilon of a norm of the stream, which in layer i has been halved i / n times."""
        return eps * 4.0 ** (i // self.rescale_every) if self.rescale_every > 0 else eps


WEIGHTS: WeightTable = {
    # ours:                                      the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":                   ("embeddings.weight", "V D"),
    "embedding.gain":                            ("blocks.0.pre_ln.weight", "D"),
    "embedding.bias":                            ("blocks.0.pre_ln.bias", "D"),
    "blocks.{i}.mixer_norm.gain":                ("blocks.{i}.ln1.weight", "D"),
    "blocks.{i}.mixer_norm.bias":                ("blocks.{i}.ln1.bias", "D"),
    "blocks.{i}.mixer.decay":                    ("blocks.{i}.attention.time_decay", "K"),
    "blocks.{i}.mixer.bonus":                    ("blocks.{i}.attention.time_first", "K"),
    "blocks.{i}.mixer.mix_k":                    ("blocks.{i}.attention.time_mix_key", "1 1 D"),
    "blocks.{i}.mixer.mix_v":                    ("blocks.{i}.attention.time_mix_value", "1 1 D"),
    "blocks.{i}.mixer.mix_receptance":           ("blocks.{i}.attention.time_mix_receptance", "1 1 D"),
    "blocks.{i}.mixer.k.weight":                 ("blocks.{i}.attention.key.weight", "(K D)ᵀ"),
    "blocks.{i}.mixer.v.weight":                 ("blocks.{i}.attention.value.weight", "(K D)ᵀ"),
    "blocks.{i}.mixer.receptance.weight":        ("blocks.{i}.attention.receptance.weight", "(K D)ᵀ"),
    "blocks.{i}.mixer.out.weight":               ("blocks.{i}.attention.output.weight", "(D K)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain":         ("blocks.{i}.ln2.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":         ("blocks.{i}.ln2.bias", "D"),
    "blocks.{i}.feed_forward.mix_up":            ("blocks.{i}.feed_forward.time_mix_key", "1 1 D"),
    "blocks.{i}.feed_forward.mix_receptance":    ("blocks.{i}.feed_forward.time_mix_receptance", "1 1 D"),
    "blocks.{i}.feed_forward.up.weight":         ("blocks.{i}.feed_forward.key.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.receptance.weight": ("blocks.{i}.feed_forward.receptance.weight", "(D D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight":       ("blocks.{i}.feed_forward.value.weight", "(D F)ᵀ"),
    "final_norm.gain":                           ("ln_out.weight", "D"),
    "final_norm.bias":                           ("ln_out.bias", "D"),
    "head.weight":                               ("head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Time mixing, then channel mixing: each reads a normed copy of the stream and adds its result."""

    def __init__(self, w: Weights, c: RwkvConfig, i: int):
        eps = c.epsilon(c.layer_norm_epsilon, i)
        self.mixer_norm = LayerNorm(w / "mixer_norm", eps=eps)
        self.mixer: Mixer = TimeMixing(w / "mixer")
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=eps)
        self.feed_forward: Mixer = ChannelMixing(w / "feed_forward")

    def new_state(self, batch_size: int, capacity: int) -> HybridState:
        """Make the empty states of both layers."""
        return HybridState(*(part.new_state(batch_size, 0) for part in (self.mixer, self.feed_forward)))

    def __call__(self, x: NDArray, step: Step, state: HybridState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        of_time, of_channels = (None, None) if state is None else state.states
        normed = tap("mixer_norm", self.mixer_norm(x))
        x = tap("residual_middle", x + self.mixer(normed, step, of_time))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", step.wanted(x) + self.feed_forward(normed, step, of_channels))


class Rwkv(Decoder[RwkvConfig]):
    """RWKV-4 in its sizes from 169M to 14B, as converted for transformers, and Raven, their chat form."""

    Config = RwkvConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(features=("F", "V", "K"))
    PREFIX = "rwkv."
    OTHER_NAMES: ClassVar = {r"lm_head\.weight": "head.weight"}

    def build(self, w: Weights, c: RwkvConfig) -> None:
        """Build the embedding and its norm, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.embedding_norm = LayerNorm(w / "embedding", eps=c.layer_norm_epsilon)
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.epsilon(FINAL_EPS, c.num_hidden_layers))
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and norm: ids (B, T) → (B, T, D)."""
        return tap("embedding", self.embedding_norm(tap("embedding.tokens", self.embedding(ids))))


FACTS = Facts(
    grew_from=None,
    kind="recurrence",
    changed="No attention: a mean of all values so far, whose weights decay by channel",
    why="trained like a transformer, run like a recurrent network",
    published="7B",
)
