"""Embedding: a table with one vector per token (or per position); to embed is to look up a row.

The same as multiplying a one-hot vector by the table, without the multiplication by zeros.
"""

import numpy as np
from numpy.typing import NDArray


def embedding(ids: NDArray[np.integer], table: NDArray) -> NDArray:
    """Look up rows.

    ids    (...), from 0 to V − 1
    table  (V, D)

    Returns (..., D), a new array.
    """
    return table[ids]
