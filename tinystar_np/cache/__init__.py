"""Cache: what a model remembers between calls, always passed in, never hidden in the model."""

from tinystar_np.cache.cache import PREFILL, Cache, join_caches
from tinystar_np.cache.keys_and_values import ChunkedKeyValueState, KeyValueState, SlidingKeyValueState
from tinystar_np.cache.layer_state import LayerState
from tinystar_np.cache.recurrent import HybridState, RecurrentState
from tinystar_np.cache.saved import read_states
from tinystar_np.cache.step import Span, Step
from tinystar_np.cache.text import HeldText, LengthRule
from typing import NamedTuple
import numpy as np

class Seen(NamedTuple):
    """TEMPORARY: for layers_old."""

    keys: np.ndarray
    values: np.ndarray
    positions: np.ndarray


__all__ = [
    "PREFILL",
    "Cache",
    "ChunkedKeyValueState",
    "HeldText",
    "HybridState",
    "KeyValueState",
    "LayerState",
    "LengthRule",
    "RecurrentState",
    "Seen",
    "SlidingKeyValueState",
    "Span",
    "Step",
    "join_caches",
    "read_states",
]
