"""Temperature by position: queries grow with the logarithm of their position, so that attention stays sharp.

    q' = q · (1 + a · ln(1 + ⌊(p + 1) / f⌋))

In a softmax over S scores the weight of the largest, e^m / (e^m + the sum of all others), falls as S grows:
in long texts every head's weights become flat. Scores that grow with ln S prevent it (Nakanishi 2025,
arXiv:2501.19399). Here the query at position p is scaled, in steps of f tokens: up to position f − 2 nothing
changes, so that the rule can be added to a model trained on shorter texts. Llama 4 has it in the layers with
full attention and without positions, with a = 0.1 and f = 8192; at ten million tokens q' is 1.7 q. Ministral
3 has it in all layers, with a = 0.1 and f = 16384, in steps that begin one position later: ⌊p / f⌋.

``log_length`` is the plain form of the same thought, without steps: with n the length of the texts that the
model learned from,

    q' = q · max(1, log_n (p + 1))

so that up to length n nothing changes, and a text of n² tokens doubles the scores (Su 2021; Chiang & Cholak
2022, arXiv:2202.12172). The first Qwen has it in all layers.
"""

import numpy as np
from numpy.typing import NDArray


def temperature(positions: NDArray[np.integer], floor: int, scale: float) -> NDArray[np.float32]:
    """Return what the queries at these positions are multiplied by.

    positions  of any shape
    floor      f, the length of a step
    scale      a

    Returns float32 in the shape of the positions.

    >>> print(temperature(np.array([0, 8, 9]), floor=10, scale=1.0).round(3))  # 1 + ln(2) from position 9 on
    [1.    1.    1.693]
    """
    steps = ((positions + 1) // floor).astype(np.float32)
    return np.float32(1) + np.float32(scale) * np.log1p(steps)


def log_length(positions: NDArray[np.integer], trained: int) -> NDArray[np.float32]:
    """Return what the queries at these positions are multiplied by.

    positions  of any shape
    trained    n, at least 2

    Returns float32 in the shape of the positions.

    >>> print(log_length(np.array([0, 9, 99, 999]), trained=10))  # lengths 1, 10, 100, 1000
    [1. 1. 2. 3.]
    """
    factors = np.log(np.maximum(positions + 1, trained)) / np.log(trained)
    return np.asarray(factors, dtype=np.float32)
