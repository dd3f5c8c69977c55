"""Attention whose keys and values depend on how far away they are: a learned vector for each distance."""

from typing import Any

from tinystar_np.layers.attend import RelativeVectors
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.weights import Weights


class RelativeAttention(Attention):
    """Attention with the relative positions of Shaw et al. 2018 (kernels/relative_positions.py).

    w  as in Attention, and ``relative_keys`` and ``relative_values``, each (2C + 1, K), for the distances
       −C … C from query to key

    All else is as in Attention. What is remembered of a token is its key and its value without a distance,
    which is another for each query.
    """

    def __init__(self, w: Weights, **settings: Any):
        super().__init__(w, **settings)
        self.relative = RelativeVectors(w["relative_keys"], w["relative_values"])
