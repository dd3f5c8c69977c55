"""The latents of one layer of latent attention: one short vector per token, from which all heads are made.

R + K_r numbers per token, the compressed one and the turned key behind it, whatever the number of heads:

    bytes = B · room · (R + K_r) · 4

Nothing else is kept. To a state that is one head of keys R + K_r wide and no values, so these are the states
of ordinary attention with values of width 0: growth, windows, rows of different lengths are theirs.
"""

from tinystar_np.cache.key_values import KeyValueState
from tinystar_np.cache.sliding_key_values import SlidingKeyValueState


class LatentState(KeyValueState):
    """The latents of all tokens, as ``keys`` (B, 1, room, R + K_r).

    width  R + K_r
    """

    def __init__(self, batch_size: int, width: int, capacity: int = 0):
        super().__init__(batch_size, 1, width, capacity, value_dim=0)


class SlidingLatentState(SlidingKeyValueState):
    """The latents of the last W positions of each row.

    width   R + K_r
    window  W
    """

    def __init__(self, batch_size: int, width: int, window: int, capacity: int = 0):
        super().__init__(batch_size, 1, width, window, capacity, value_dim=0)
