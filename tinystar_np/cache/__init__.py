"""State: what a model remembers between calls, always passed in, never hidden in the model."""

from tinystar_np.cache.cache import PREFILL, Cache, join_caches
from tinystar_np.cache.chunked_key_values import ChunkedKeyValueState
from tinystar_np.cache.key_values import KeyValueState, Seen
from tinystar_np.cache.layer_state import LayerState
from tinystar_np.cache.recurrent import RecurrentState
from tinystar_np.cache.saved import read_states
from tinystar_np.cache.sliding_key_values import SlidingKeyValueState
from tinystar_np.cache.span import Span, Step
from tinystar_np.cache.text import HeldText, LengthRule

__all__ = [
    "PREFILL",
    "Cache",
    "ChunkedKeyValueState",
    "HeldText",
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
