"""Per-layer embeddings: every layer reads a small vector of its own for each token.

    context = norm(x₀ W / √D)                      x₀ the token's embedding, (T, D); W (D, L·J)
    token   = √J · E[id]                           E (V, L·J): for each token L vectors of J numbers
    p       = (context + token) / √2               (T, L, J): layer i reads p_i
    x       = x + norm((activation(x W_gate) ∘ p_i) W_out)

A layer's weights must say what holds for every token. What holds for one token only, they can only learn by
recognising it. Here each layer looks it up: the table may be as large as all other weights together, but a
token needs one row of it, which can stay on disk or in slow memory. The layer gates the vector by what the
stream holds, and adds what it makes of it. Gemma 3n (Google 2025) has it, and the small models of Gemma 4.
"""

import math

from numpy.typing import NDArray

from tinystar_np.kernels.norms import rms_norm


def per_layer_inputs(tokens: NDArray, context: NDArray, gain: NDArray, eps: float) -> NDArray:
    """Combine what a token says to each layer by itself with what its embedding says.

    tokens   (B, T, L·J), rows of the table, scaled
    context  (B, T, L·J), projections of the embedding, scaled
    gain     (J,) of the norm
    eps      of the norm

    Returns (B, T, L, J), a new array.

    >>> import numpy as np
    >>> tokens, context = np.array([[[2.0, 0.0]]]), np.array([[[-5.0, 3.0]]])  # two layers, J = 1
    >>> (per_layer_inputs(tokens, context, np.ones(1), 0.0) * np.sqrt(2)).round(6).tolist()
    [[[[1.0], [1.0]]]]
    """
    J = len(gain)
    by_layer = (*tokens.shape[:-1], -1, J)
    both = rms_norm(context.reshape(by_layer), gain, eps) + tokens.reshape(by_layer)
    return both * both.dtype.type(math.sqrt(0.5))
