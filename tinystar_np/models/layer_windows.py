"""Windows that some layers have and others do not: ``layer_types`` of a config.

Layers that see a window keep the cache small; the others, often few, carry what was said long ago.
"""

from collections.abc import Sequence
from typing import Any

from tinystar_np.models.config import require

FULL, SLIDING = "full_attention", "sliding_attention"


def layer_windows(
    layer_types: Sequence[Any] | None, usual: Sequence[str], window: int | None
) -> tuple[int | None, ...]:
    """Return the window of each layer, None for those that see everything.

    layer_types  what config.json says, None where it says nothing
    usual        what then holds, one for each layer
    window       ``sliding_window`` where it is in use

    Raises ConfigError, naming key and value.
    """
    require(window is None or window >= 1, f"sliding_window = {window}, but a token sees at least itself.")
    kinds = usual if layer_types is None else layer_types
    L, named = len(usual), len(kinds)
    require(named == L, f"layer_types names {named} layers, but num_hidden_layers = {L}.")
    for i, kind in enumerate(kinds):
        require(
            kind in (FULL, SLIDING),
            f"layer_types[{i}] = {kind!r} is not known here. Known: {FULL}, {SLIDING}.",
        )
        require(
            kind == FULL or window is not None,
            f"layer_types[{i}] = {kind!r}, but sliding_window and use_sliding_window give no window.",
        )
    return tuple(window if kind == SLIDING else None for kind in kinds)
