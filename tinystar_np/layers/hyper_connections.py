"""Hyper-connections as layers: how a branch reads several residual streams, and adds to them."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.kernels.activations import sigmoid
from tinystar_np.kernels.hyper_connections import collapsed, connected, connections
from tinystar_np.layers.basic import Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights


class HyperConnection(Module):
    """Connects a branch to N residual streams (kernels/hyper_connections.py).

    w         ``router`` (N·D, 2N + N²), a linear layer; ``scale`` (3,), ``bias`` (2N + N²,)
    streams   N
    rounds    of the Sinkhorn iteration
    eps       ε
    norm_eps  of the norm before the linear layer
    """

    def __init__(self, w: Weights, *, streams: int, rounds: int, eps: float, norm_eps: float):
        self.router = Linear(w / "router")
        self.scale: NDArray = w["scale"]
        self.bias: NDArray = w["bias"]
        self.streams, self.rounds, self.eps = streams, rounds, eps
        self.ones: NDArray = np.ones(self.router.weight.shape[0], dtype=np.float32)
        self.norm_eps = norm_eps

    def __call__(self, x: NDArray) -> tuple[NDArray, tuple[NDArray, NDArray]]:
        """Return what the branch reads of the streams (B, T, N·D), (B, T, D), and what ``added`` needs."""
        scores = self.router(fast.rms_norm(x, self.ones, self.norm_eps))  # (B, T, 2N + N²)
        into, back, mixing = connections(scores, self.scale, self.bias, rounds=self.rounds, eps=self.eps)
        return collapsed(apart(x, self.streams), into), (back, mixing)


class StreamsNorm(Module):
    """One vector in place of N streams, and its norm: what the output layer reads.

    w         ``merge.router`` (N·D, N), a linear layer, ``merge.scale`` (1,) and ``merge.bias`` (N,);
              ``final_norm.gain`` (D,)
    streams   N
    eps       ε
    norm_eps  of both norms
    """

    def __init__(self, w: Weights, *, streams: int, eps: float, norm_eps: float):
        self.router = Linear(w / "merge.router")
        self.scale: NDArray = w["merge.scale"]
        self.bias: NDArray = w["merge.bias"]
        self.norm = RMSNorm(w / "final_norm", eps=norm_eps)
        self.gain = self.norm.gain
        self.streams, self.eps = streams, eps
        self.ones: NDArray = np.ones(self.router.weight.shape[0], dtype=np.float32)

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, N·D) to (B, T, D), a new array."""
        scores = self.router(fast.rms_norm(x, self.ones, self.norm.eps)) * self.scale + self.bias
        return self.norm(collapsed(apart(x, self.streams), sigmoid(scores) + np.float32(self.eps)))


def added(x: NDArray, y: NDArray, back: NDArray, mixing: NDArray) -> NDArray:
    """Mix streams (B, T, N·D) and add what a branch gives, (B, T, D): a new array (B, T, N·D)."""
    return connected(apart(x, back.shape[-1]), y, back, mixing).reshape(x.shape)


def apart(x: NDArray, streams: int) -> NDArray:
    """Divide the stream into its vectors: (B, T, N·D) → (B, T, N, D), a view."""
    return x.reshape(*x.shape[:2], streams, -1)
