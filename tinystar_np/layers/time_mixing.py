"""RWKV's two layers, which read each token together with the one before it."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import RecurrentState, Step
from tinystar_np.kernels.activations import relu_squared, sigmoid
from tinystar_np.kernels.wkv import initial_state, mixed, token_shift
from tinystar_np.layers.basic import Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap


class TimeMixing(Module):
    """RWKV's time mixing: a weighted mean of all values so far, in each channel, times a gate.

        k, v, r = W_k mix_k(x), W_v mix_v(x), sigmoid(W_r mix_r(x))     mix(x)_t = μ x_t + (1 − μ) x_{t−1}
        y       = r · wkv(k, v)
        result  = y W_out

    w  linear layers ``k``, ``v``, ``receptance`` (D, K) and ``out`` (K, D); ``mix_k``, ``mix_v`` and
       ``mix_receptance`` (1, 1, D), each μ; ``decay`` (K,), of which −e^decay is w, and ``bonus`` (K,)
    """

    def __init__(self, w: Weights):
        self.k, self.v, self.receptance = (Linear(w / name) for name in ("k", "v", "receptance"))
        self.out = Linear(w / "out")
        self.shares: list[NDArray] = [w[f"mix_{name}"] for name in ("k", "v", "receptance")]
        self.decay: NDArray = -np.exp(w["decay"])
        self.bonus: NDArray = w["bonus"]

    def new_state(self, batch_size: int, capacity: int) -> RecurrentState:
        """Make the state before the first token: a vector of zeros before it, and sums of nothing."""
        before = np.zeros((batch_size, self.k.weight.shape[0]), dtype=np.float32)
        return RecurrentState(before=before, wkv=initial_state(batch_size, len(self.decay)))

    def __call__(self, x: NDArray, step: Step, state: RecurrentState | None) -> NDArray:
        """Let each token read what came before out of the state, and write itself into it.

        Returns (B, T, D), of all tokens: channel mixing reads the one before the last.
        """
        shifted = token_shift(x, None if state is None else state["before"])
        for_k, for_v, for_r = (mixed(x, shifted, share) for share in self.shares)
        receptance = sigmoid(tap("mixer.receptance", self.receptance(for_r)))
        k, v = tap("mixer.k", self.k(for_k)), tap("mixer.v", self.v(for_v))
        y, after = fast.wkv(k, v, self.decay, self.bonus, None if state is None else state["wkv"])
        if state is not None:
            state.replace(before=x[:, -1].copy(), wkv=after)
        return tap("mixer.out", self.out(tap("mixer.gated", receptance * tap("mixer.scan", y))))


class ChannelMixing(Module):
    """RWKV's feed-forward layer: it reads the token before as well, and is gated.

        y = sigmoid(W_r mix_r(x)) · relu(mix_up(x) W_up)² W_down

    w  linear layers ``up`` (D, F), ``down`` (F, D) and ``receptance`` (D, D); ``mix_up`` and
       ``mix_receptance`` (1, 1, D)
    """

    def __init__(self, w: Weights):
        self.up, self.down, self.receptance = (Linear(w / name) for name in ("up", "down", "receptance"))
        self.shares: list[NDArray] = [w["mix_up"], w["mix_receptance"]]

    def new_state(self, batch_size: int, capacity: int) -> RecurrentState:
        """Make the state before the first token: a vector of zeros."""
        return RecurrentState(before=np.zeros((batch_size, self.up.weight.shape[0]), dtype=np.float32))

    def __call__(self, x: NDArray, step: Step, state: RecurrentState | None) -> NDArray:
        """Map (B, T, D) to (B, T, D), or (B, 1, D) where only the last token's result is wanted."""
        shifted = token_shift(x, None if state is None else state["before"])
        if state is not None:
            state.replace(before=x[:, -1].copy())
        x, shifted = step.wanted(x), step.wanted(shifted)
        for_up, for_r = (mixed(x, shifted, share) for share in self.shares)
        receptance = sigmoid(tap("feed_forward.receptance", self.receptance(for_r)))
        hidden = tap("feed_forward.up", self.up(for_up))  # (B, T, F)
        hidden = tap("feed_forward.activation", fast.activate(hidden, relu_squared))
        return tap("feed_forward.out", receptance * tap("feed_forward.down", self.down(hidden)))
