"""The parts of TinyStar: its block, its embedder, and forms of attention that no other model here has."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import Held, KeyValueState, Limits, Step
from tinystar_np.kernels.activations import gelu, gelu_tanh, relu, silu
from tinystar_np.kernels.alibi import alibi_bias, alibi_slopes
from tinystar_np.kernels.attention import bias_by_distance
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.relative_positions import relative_mean, relative_scores
from tinystar_np.layers.alibi import Alibi
from tinystar_np.layers.attention import Attention, as_array
from tinystar_np.layers.basic import (
    FeedForward,
    GatedFeedForward,
    Layer,
    LayerNorm,
    Norm,
    RMSNorm,
    no_norm,
)
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.models.tinystar_config import TinyStarConfig
from tinystar_np.tap import listening, tap

ACTIVATIONS = {"silu": silu, "gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu}
GATES = {"swiglu": silu, "geglu": gelu}


class Positions(NamedTuple):
    """The positions that all layers share: rotary embedding and ALiBi, each None where not chosen."""

    rope: Rotary | None
    alibi: Alibi | None


def positions_of(c: TinyStarConfig) -> Positions:
    """Build the positions that the layers of a model share."""
    rope = c.rope.rotary(interleaved=c.attention == "complex") if c.positions == "rope" else None
    alibi: Alibi | None = None
    if c.positions == "alibi":
        slopes = alibi_slopes(c.num_heads)
        if c.mask == "bidirectional":
            alibi = AlibiBothWays(lambda distances: alibi_bias(slopes, -np.abs(distances)))
        else:
            alibi = Alibi(lambda positions: alibi_bias(slopes, positions))
    return Positions(rope, alibi)


class AlibiBothWays(Alibi):
    """ALiBi without a causal mask: scores fall with the distance to either side.

    bias  maps distances from query to key (n,) to what is added to scores (H, n)

    A key's position alone does not tell on which side of a query it is.
    """

    def __call__(self, mask: Mask, step: Step) -> NDArray[np.float32]:
        """Return what is added: (1, H, T, S)."""
        T, S = step.queries.length, len(mask.key_positions)
        return step.once((self, T, S), lambda: bias_by_distance(self.bias(np.arange(1 - S, T)), T)[None])


def norm(w: Weights, c: TinyStarConfig) -> Norm:
    """Build a norm."""
    match c.norm:
        case "rmsnorm":
            return RMSNorm(w, eps=c.norm_eps)
        case "layernorm":
            return LayerNorm(w, eps=c.norm_eps)
    return no_norm


class Block(Module):
    """Attention and feed-forward, in a row or side by side, with norms where the config wants them.

        pre       x + f(norm(x))
        sandwich  x + norm'(f(norm(x)))
        post      norm'(x + f(x))

    Pre-norm leaves the stream itself alone: what a layer writes reaches the end unchanged, and deep stacks
    train easily. The stream grows with depth, though, and later layers have ever less weight in it; the
    sandwich bounds what each of them adds. Post-norm, the oldest, bounds the stream itself, and every norm
    rescales all that was written before. Xiong et al. 2020, arXiv:2002.04745; Ding et al. 2021,
    arXiv:2105.13290.
    """

    def __init__(self, w: Weights, c: TinyStarConfig, positions: Positions):
        self.attention = attention(w / "attention", c, positions)
        self.feed_forward = feed_forward(w / "feed_forward", c)
        self.norms = {name: norm(w / name, c) for name in c.norms}
        self.parallel, self.norms_sums = c.parallel, c.norm_placement == "post"
        self.wiring = wiring(c)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = self._normed("attention_norm", x)
        y = self.attention(normed, step, state)
        if self.parallel:
            z = self.feed_forward(step.wanted(normed))
            x = self._added(step.wanted(x), y, "attention_post_norm")
            x = self._added(x, z, "feed_forward_post_norm")
            return tap("residual", self._normed("post_norm", x))
        x = tap("residual_middle", self._added(step.wanted(x), y, "attention_post_norm"))
        y = self.feed_forward(self._normed("feed_forward_norm", x))
        return tap("residual", self._added(x, y, "feed_forward_post_norm"))

    def _normed(self, name: str, x: NDArray) -> NDArray:
        """Apply the norm of this name, where there is one."""
        return tap(name, self.norms[name](x)) if name in self.norms else x

    def _added(self, x: NDArray, y: NDArray, name: str) -> NDArray:
        """Add a branch to the stream: the norm of this name is the sum's or the branch's."""
        return self._normed(name, x + y) if self.norms_sums else x + self._normed(name, y)


def wiring(c: TinyStarConfig) -> str:
    """Describe in words how a block is wired."""
    norms = {
        ("pre", False): "a norm before each part",
        ("sandwich", False): "a norm before and after each part",
        ("post", False): "a norm after each addition",
        ("pre", True): "one norm for both",
        ("sandwich", True): "one norm for both and one after each",
        ("post", True): "a norm after the addition",
    }
    kind = "parallel, attention beside feed-forward" if c.parallel else "sequential"
    return f"{kind}, {norms[c.norm_placement, c.parallel] if c.has_norms else 'no norm'}"


def feed_forward(w: Weights, c: TinyStarConfig) -> Layer:
    """Build the feed-forward layer."""
    if c.has_gate:
        return GatedFeedForward(w, GATES[c.feed_forward])
    return FeedForward(w, ACTIVATIONS[c.activation or "gelu"])


def attention(w: Weights, c: TinyStarConfig, positions: Positions) -> Attention | LatentAttention:
    """Build the attention layer."""
    H, G, K, R, J, A = (c.sizes[letter] for letter in "HGKRJA")
    causal = c.mask != "bidirectional"
    if c.has_latents:
        return TinyLatentAttention(
            w, heads=H, rank=R, head_dim=K, rope_dim=J, value_dim=K, scale=A**-0.5, eps=c.norm_eps,
            rope=positions.rope, window=c.window, alibi=positions.alibi, causal=causal,
        )  # fmt: skip
    return TinyAttention(
        w, heads=H, kv_heads=G, head_dim=A, rope=positions.rope, window=c.window, alibi=positions.alibi,
        causal=causal,
    )  # fmt: skip


class TinyAttention(Attention):
    """Attention that may be bidirectional, and may have a vector for each distance.

    Complex attention (kernels/complex_attention.py) is the same layer: queries and keys in ℂ^K are 2K real
    numbers, each number's real part before its imaginary part, and values have K.

    w       as in ``Attention``; with relative positions (kernels/relative_positions.py) also
            ``relative_keys`` and ``relative_values``, (2C + 1, ·) each, for the distances −C … C
    causal  whether later keys are hidden. If not, a text must come in one call, without a state.
    """

    def __init__(
        self,
        w: Weights,
        *,
        heads: int,
        kv_heads: int,
        head_dim: int,
        rope: Rotary | None,
        window: int | None,
        alibi: Alibi | None,
        causal: bool,
    ):
        super().__init__(
            w, heads=heads, kv_heads=kv_heads, head_dim=head_dim, rope=rope, window=window, alibi=alibi
        )
        self.causal = causal
        self.relative: tuple[NDArray, NDArray] | None = None
        if "relative_keys" in w:
            self.relative = w["relative_keys"], w["relative_values"]

    def multiply_adds(self, keys: int) -> int:
        """Count the multiply-adds of one token: one more key and value for each distance that has vectors."""
        return super().multiply_adds(keys + (0 if self.relative is None else len(self.relative[0])))

    def limits(self) -> Limits:
        """Return which keys a token may attend to."""
        return Limits(self.window, causal=self.causal)

    def attend(self, q: NDArray, k: Held, v: Held, mask: Mask, step: Step) -> NDArray:
        """Compute attention: (B, H, T, K), with S keys and values (B, G, S, ·) → (B, H, T, K_v)."""
        if self.relative is None:
            return super().attend(q, k, v, mask, step)
        k, v = as_array(k), as_array(v)
        key_vectors, value_vectors = self.relative
        if not listening("attention.scores", "attention.probabilities"):
            return fast.relative_attention(q, k, v, mask, key_vectors, value_vectors, scale=self.scale)
        scores = fast.attention_scores(q, k, scale=self.scale)
        scores = scores + relative_scores(q, key_vectors, mask, scale=self.scale)
        scores = tap("attention.scores", scores)
        probabilities = tap("attention.probabilities", fast.attention_probabilities(scores, mask))
        return fast.attention_mean(probabilities, v) + relative_mean(probabilities, value_vectors, mask)


class TinyLatentAttention(LatentAttention):
    """Latent attention that may be bidirectional; arguments as in its base class and ``TinyAttention``."""

    def __init__(
        self,
        w: Weights,
        *,
        heads: int,
        rank: int,
        head_dim: int,
        rope_dim: int,
        value_dim: int,
        scale: float,
        eps: float,
        rope: Rotary | None,
        window: int | None,
        alibi: Alibi | None,
        causal: bool,
    ):
        super().__init__(
            w, heads=heads, rank=rank, head_dim=head_dim, rope_dim=rope_dim, value_dim=value_dim, scale=scale,
            eps=eps, rope=rope, window=window, alibi=alibi,
        )  # fmt: skip
        self.causal = causal

    def limits(self) -> Limits:
        """Return which keys a token may attend to."""
        return Limits(self.window, causal=self.causal)


class Embedder(Module):
    """An embedding of tokens, to which vectors of their positions may be added.

    tokens     maps ids (B, T) to vectors (B, T, D)
    positions  maps positions (B, T) to vectors (B, T, D); None where nothing is added
    """

    def __init__(
        self,
        tokens: Callable[[NDArray[np.integer]], NDArray],
        positions: Callable[[NDArray[np.integer]], NDArray] | None = None,
    ):
        self.tokens = tokens
        self.positions = positions

    def __call__(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Embed ids at the step's positions: (B, T) → (B, T, D)."""
        x = tap("embedding.tokens", self.tokens(ids))
        if self.positions is not None:
            x = x + tap("embedding.positions", self.positions(step.positions))
        return tap("embedding", x)
