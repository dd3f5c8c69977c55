"""GPT-2's forward pass written out in NumPy, in float64, with a place to put something else at each step."""

from collections.abc import Callable

import numpy as np

from tinystar_np.models import Decoder

Change = Callable[[str, np.ndarray], np.ndarray]


def layer_norm(x: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gain + bias


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def forward(model: Decoder, ids: np.ndarray, heads: int, change: Change = lambda name, x: x) -> np.ndarray:
    """Logits (T, V) of ids (T,); ``change(name, x)`` gives what to go on with.

    Arrays are without a batch axis: "mixed" and "probabilities" have heads first, all others tokens.
    """
    w = {name: np.asarray(array, dtype=np.float64) for name, array in model.weights.items()}
    T, D = len(ids), w["embedding.tokens.weight"].shape[1]
    K = D // heads
    x = change("embedding", w["embedding.tokens.weight"][ids] + w["embedding.positions.weight"][:T])
    for i in range(len(model.blocks)):
        b = f"blocks.{i}."
        normed = layer_norm(x, w[b + "attention_norm.gain"], w[b + "attention_norm.bias"])
        qkv = normed @ w[b + "attention.qkv.weight"] + w[b + "attention.qkv.bias"]
        q, k, v = (part.reshape(T, heads, K).transpose(1, 0, 2) for part in np.split(qkv, 3, axis=1))
        v = change(b + "v", v)
        scores = np.where(np.tri(T, dtype=bool), q @ k.transpose(0, 2, 1) / np.sqrt(K), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights = change(b + "probabilities", weights / weights.sum(-1, keepdims=True))
        mixed = change(b + "mixed", weights @ v)  # (H, T, K)
        joined = mixed.transpose(1, 0, 2).reshape(T, D)
        out = joined @ w[b + "attention.out.weight"] + w[b + "attention.out.bias"]
        x = change(b + "residual_middle", x + change(b + "out", out))
        normed = layer_norm(x, w[b + "feed_forward_norm.gain"], w[b + "feed_forward_norm.bias"])
        hidden = gelu(normed @ w[b + "feed_forward.up.weight"] + w[b + "feed_forward.up.bias"])
        down = hidden @ w[b + "feed_forward.down.weight"] + w[b + "feed_forward.down.bias"]
        x = change(b + "residual", x + change(b + "down", down))
    return layer_norm(x, w["final_norm.gain"], w["final_norm.bias"]) @ w["embedding.tokens.weight"].T
