"""Cache: what a model remembers between calls, always passed in, never hidden in the model."""

from tinystar_np.cache.cache import PREFILL, Cache, join_caches
from tinystar_np.cache.entries import EntriesState
from tinystar_np.cache.images import SeenImage
from tinystar_np.cache.keys_and_values import KeyValueState
from tinystar_np.cache.layer_state import LayerState
from tinystar_np.cache.recurrent import HybridState, NoState, RecurrentState
from tinystar_np.cache.saved import read_states
from tinystar_np.cache.step import Held, Limits, Step
from tinystar_np.cache.text import HeldText, LengthRule
from tinystar_np.cache.windows import ChunkedKeyValueState, SlidingKeyValueState, new_key_value_state

__all__ = [
    "PREFILL",
    "Cache",
    "ChunkedKeyValueState",
    "EntriesState",
    "Held",
    "HeldText",
    "HybridState",
    "KeyValueState",
    "LayerState",
    "LengthRule",
    "Limits",
    "NoState",
    "RecurrentState",
    "SeenImage",
    "SlidingKeyValueState",
    "Step",
    "join_caches",
    "new_key_value_state",
    "read_states",
]
