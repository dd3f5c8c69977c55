"""State: what a model remembers between calls, always passed in, never hidden in the model."""

from tinystar_np.state.cache import Cache, join_caches
from tinystar_np.state.chunked_key_values import ChunkedKeyValueState
from tinystar_np.state.key_values import KeyValueState, Seen
from tinystar_np.state.layer_state import LayerState
from tinystar_np.state.recurrent import RecurrentState
from tinystar_np.state.saved import read_states
from tinystar_np.state.sliding_key_values import SlidingKeyValueState
from tinystar_np.state.span import Span

__all__ = [
    "Cache",
    "ChunkedKeyValueState",
    "KeyValueState",
    "LayerState",
    "RecurrentState",
    "Seen",
    "SlidingKeyValueState",
    "Span",
    "join_caches",
    "read_states",
]
