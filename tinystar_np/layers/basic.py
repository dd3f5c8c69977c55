"""The layers that every model is made of: linear maps, embeddings, norms, feed-forward layers.

Each holds its weights and calls the kernel of its name through ``fast``. All of them treat every token by
itself: what lets tokens see one another is attention (layers/attention.py) or a recurrence.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import LayerState, Step
from tinystar_np.kernels.activations import Activation
from tinystar_np.kernels.linear import Matrix
from tinystar_np.layers.module import Module, element_type
from tinystar_np.layers.weights import Join, Weights
from tinystar_np.tap import tap

Norm = Callable[[NDArray], NDArray]
"""A norm with its weights: (..., D) → (..., D)."""
Layer = Callable[[NDArray], NDArray]
"""A layer that treats each token by itself: (B, T, D) → (B, T, D)."""


@runtime_checkable
class Mixer(Protocol):
    """What tokens hear of each other through: attention, a recurrence, or a block around them.

    Each has its own kind of state, which it makes itself and is handed again; so ``Any`` stands for it here.
    """

    def new_state(self, batch_size: int, capacity: int) -> LayerState:
        """Make what is remembered between calls, empty."""

    def __call__(self, x: NDArray, step: Step, state: Any) -> NDArray:
        """Mix the tokens of each row.

        x      (B, T, D)
        step   where the T tokens stand, and whether only the last one's result is wanted
        state  what is remembered of earlier tokens, extended by these; None where nothing came before

        Returns (B, T, D), or (B, 1, D) where only the last token's result is wanted.
        """


class Linear(Module):
    """Linear map: y = x W + b.

    w  ``weight`` (in, out), an array or a packed matrix, and in some models ``bias`` (out,)
    """

    def __init__(self, w: Weights):
        self.weight: Matrix = w["weight"]
        self.bias: NDArray | None = w.bias("bias", "weight")
        self.join = w.join("weight")  # where ranks (ranks/) have parts of the matrix

    def __call__(self, x: NDArray) -> NDArray:
        """Map (..., in) to (..., out), a new array."""
        return self.of_product(fast.matmul(x, self.weight))

    def of_product(self, y: NDArray) -> NDArray:
        """Make the result (..., out) of a product with the matrix, in its place."""
        if self.bias is not None:
            y += self.bias
        return y if self.join is None else self.join(y)

    def __repr__(self) -> str:
        inputs, outputs = self.weight.shape
        bias = "" if self.bias is None else "bias, "
        return f"{type(self).__name__}({inputs} → {outputs}, {bias}{element_type(self.weight)})"


def linear_each(layers: Sequence[Linear], x: NDArray) -> list[NDArray]:
    """Apply several linear maps to the same vectors: (..., in) → each one's (..., out)."""
    products = fast.matmul_each(x, [layer.weight for layer in layers])
    return [layer.of_product(y) for y, layer in zip(products, layers, strict=True)]


class Joins(Protocol):
    """A layer that makes one result of the ranks', where each has a part of it.

    join  what does that; None where this rank's result is the whole
    """

    join: Join | None


def one_sum(*layers: Joins) -> Join | None:
    """Let ranks add up the sum of several layers' results once, in place of each layer's.

    The layers then give this rank's parts. Returns what adds up their sum; None where it is the whole.
    """
    sums = [layer.join for layer in layers]
    if None in sums:
        return None
    for layer in layers:
        layer.join = None
    return sums[0]


class Embedding(Module):
    """Table of vectors, one for each token or each position.

    w  ``weight`` (V, D), an array or a packed matrix
    """

    def __init__(self, w: Weights):
        self.weight: Matrix = w["weight"]
        self.rows = w.some_rows("weight")  # where ranks (ranks/) have parts of the table

    def __call__(self, ids: NDArray[np.integer]) -> NDArray:
        """Look up (...) ids: (..., D), a new array."""
        return fast.embedding(ids, self.weight) if self.rows is None else self.rows(ids, self.weight)

    def __repr__(self) -> str:
        rows, width = self.weight.shape
        return f"{type(self).__name__}({rows} × {width}, {element_type(self.weight)})"


class LayerNorm(Module):
    """Layer normalisation: each vector is centred and scaled to unit variance.

    w    ``gain`` (D,) and ``bias`` (D,); some models have no bias, OLMo neither
    eps  added to the variance
    """

    def __init__(self, w: Weights, *, eps: float):
        self.gain: NDArray | None = w.get("gain")
        self.bias: NDArray | None = w.get("bias")
        self.eps = eps

    def __call__(self, x: NDArray) -> NDArray:
        """Normalise (..., D): a new array."""
        return fast.layer_norm(x, self.gain, self.bias, self.eps)


class RMSNorm(Module):
    """Root mean square normalisation: each vector is scaled to unit mean square.

    w       ``gain`` (D,)
    eps     added to the mean square
    offset  what the stored gain lacks: 1 where gain − 1 was learned (Gemma), so that weight decay, which
            draws weights to 0, draws the gain to 1
    """

    def __init__(self, w: Weights, *, eps: float, offset: float = 0.0):
        gain: NDArray = w["gain"]
        self.gain = gain + gain.dtype.type(offset) if offset else gain
        self.eps = eps
        self.mean = w.mean("gain")
        """What makes one mean square of several ranks', where each has a part of the vector."""

    def __call__(self, x: NDArray) -> NDArray:
        """Normalise (..., D): a new array."""
        if self.mean is None:
            return fast.rms_norm(x, self.gain, self.eps)
        mean_square = self.mean(np.mean(x * x, axis=-1, keepdims=True))
        return x / np.sqrt(mean_square + x.dtype.type(self.eps)) * self.gain


def no_norm(x: NDArray) -> NDArray:
    """Return x: the identity in place of a norm."""
    return x


class FeedForward(Module):
    """Feed-forward layer: expand to F features, apply the activation, project back to D.

    w           ``up`` (D, F) and ``down`` (F, D), linear layers
    activation  a function of kernels/activations.py
    """

    def __init__(self, w: Weights, activation: Activation):
        self.up, self.down = Linear(w / "up"), Linear(w / "down")
        self.activation = activation

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        hidden = tap("feed_forward.up", self.up(x))  # (B, T, F)
        hidden = tap("feed_forward.activation", fast.activate(hidden, self.activation))
        return tap("feed_forward.down", self.down(hidden))


class GatedFeedForward(Module):
    """Feed-forward layer with a gate: y = (activation(x W_gate) ∘ x W_up) W_down.

    One half decides how much of the other half passes. With SiLU it is called SwiGLU, with GELU GeGLU. At the
    same number of weights it predicts better than the plain form; nobody knows why. Shazeer 2020,
    arXiv:2002.05202.

    w           ``gate`` and ``up`` (D, F), ``down`` (F, D), linear layers
    activation  a function of kernels/activations.py
    """

    def __init__(self, w: Weights, activation: Activation):
        self.gate, self.up, self.down = (Linear(w / name) for name in ("gate", "up", "down"))
        self.activation = activation

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        gate, up = linear_each((self.gate, self.up), x)  # (B, T, F) each
        gate, up = tap("feed_forward.gate", gate), tap("feed_forward.up", up)
        hidden = tap("feed_forward.activation", fast.gated_activation(gate, up, self.activation))
        return tap("feed_forward.down", self.down(hidden))
