"""Temperature by position: queries grow with the length of the text, so that attention stays as sharp.

    q' = q · (1 + a · ln(1 + ⌊(p + 1) / f⌋))

A softmax over S scores gives the largest a share that falls as S grows: e^m of e^m + the sum of all others.
Long texts flatten every head. Scores that grow with ln S keep the share (Nakanishi 2025, arXiv:2501.19399).
Here the query at position p is scaled, in steps of f tokens: up to position f − 2 nothing changes, so that a
model trained on shorter texts can be given the rule afterwards. Llama 4 has it in the layers that see the
whole text and know no positions, with a = 0.1 and f = 8192; at ten million tokens q' is 1.7 q.
"""

import numpy as np
from numpy.typing import NDArray


def temperature(positions: NDArray[np.integer], floor: int, scale: float) -> NDArray[np.float32]:
    """Say by what the queries at these positions are multiplied.

    positions  of any shape
    floor      f, the length of a step
    scale      a

    Returns float32 in the shape of the positions.
    """
    steps = ((positions + 1) // floor).astype(np.float32)
    return np.float32(1) + np.float32(scale) * np.log1p(steps)
