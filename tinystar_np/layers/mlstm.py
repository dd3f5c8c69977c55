"""mLSTM: the projections and gates around the recurrence (kernels/mlstm.py)."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import RecurrentState, Step
from tinystar_np.kernels.activations import sigmoid
from tinystar_np.kernels.attention import capped
from tinystar_np.kernels.mlstm import Memory
from tinystar_np.layers.basic import Linear, linear_each
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap


class MLSTM(Module):
    """Memory in H matrices (K, K_v), written by an exponential gate and decayed by another.

        q, k, v, o = W x                 i, f = cap · tanh((W x + b) / cap)
        y          = mlstm(q, k, v, i, f)
        result     = (sigmoid(o) · norm(y)) W_out       each head's y is normed by itself, with its own gains

    w      linear layers ``q`` and ``k`` (D, H·K), ``v`` and ``output_gate`` (D, H·K_v), ``input_gate`` and
           ``forget_gate`` (D, H), ``out`` (H·K_v, D); ``norm.gain`` (H·K_v,) and in some models ``norm.bias``
    heads  H
    cap    of the two gates of the recurrence
    eps    of the norm
    least  eps of the recurrence
    """

    def __init__(self, w: Weights, *, heads: int, cap: float, eps: float, least: float):
        self.q, self.k, self.v = (Linear(w / name) for name in "qkv")
        self.output_gate, self.input_gate, self.forget_gate = (
            Linear(w / f"{name}_gate") for name in ("output", "input", "forget")
        )
        self.out = Linear(w / "out")
        self.heads = len(w.heads(heads, heads).heads)  # where ranks share the heads, some
        self.head_dim, self.value_dim = (layer.weight.shape[1] // self.heads for layer in (self.q, self.v))
        by_head = (self.heads, self.value_dim)
        bias = w.get("norm.bias")
        self.gain: NDArray = w["norm.gain"].reshape(by_head)
        self.bias: NDArray | None = None if bias is None else bias.reshape(by_head)
        self.cap, self.eps, self.least = cap, eps, least

    def new_state(self, batch_size: int, capacity: int) -> RecurrentState:
        """Make the state before the first token: an empty matrix for each head, and its exponent."""
        matrix = (batch_size, self.heads, self.head_dim, self.value_dim + 1)
        return RecurrentState(
            matrix=np.zeros(matrix, dtype=np.float32),
            exponent=np.zeros((batch_size, self.heads), dtype=np.float32),
        )

    def __call__(self, x: NDArray, step: Step, state: RecurrentState | None) -> NDArray:
        """Let each token read what came before out of the state, and write itself into it.

        x          (B, T, D)
        step       which tokens' results somebody wants; the state knows no positions
        state      what came before; receives what waits for ``commit``. None where nothing came before.

        Returns (B, T, D), or (B, 1, D) where only the last token's is wanted; a new array.
        """
        B, T, _ = x.shape
        layers = (self.q, self.k, self.v, self.output_gate, self.input_gate, self.forget_gate)
        q, k, v, gate, i, f = linear_each(layers, x)
        q, k, v = tap("mixer.q", q), tap("mixer.k", k), tap("mixer.v", v)
        gate = tap("mixer.output_gate", gate)
        i, f = tap("mixer.input_gate", i), tap("mixer.forget_gate", f)
        q, k, v = (y.reshape(B, T, self.heads, -1) for y in (q, k, v))
        limited = partial(capped, soft_cap=self.cap)
        before = None if state is None else Memory(state["matrix"], state["exponent"])
        y, after = fast.mlstm(q, k, v, limited(i), limited(f), before, self.least)
        if state is not None:
            state.replace(**after._asdict())
        y = step.wanted(tap("mixer.scan", y))
        y = fast.layer_norm(y, self.gain, self.bias, self.eps)
        y = tap("mixer.norm", y.reshape(*y.shape[:2], -1))  # (B, T, H·K_v)
        return tap("mixer.out", self.out(tap("mixer.gated", sigmoid(step.wanted(gate)) * y)))
