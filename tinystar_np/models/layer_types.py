"""Layers of several kinds: ``layer_types`` of a config, and the windows, or chunks, that some have.

Layers with a window or chunks keep the cache small; the others, often few, attend to the whole text.
"""

from collections.abc import Sequence

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.models.config import require

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
DENSE, SPARSE = "dense", "sparse"
NEEDED = {SLIDING: "sliding_window", CHUNKED: "attention_chunk_size"}
"""The key that limits the attention of each kind."""


def layer_kinds(
    layer_types: Sequence[str] | None, usual: Sequence[str], known: Sequence[str], key: str = "layer_types"
) -> Sequence[str]:
    """Return the kind of each layer.

    layer_types  what config.json says, None where it says nothing
    usual        the kind of each layer in that case
    known        the kinds that the architecture has
    key          what the list is called there

    Raises ConfigError, naming key and value.
    """
    kinds = usual if layer_types is None else layer_types
    L, named = len(usual), len(kinds)
    require(named == L, f"{key} names {named} layers, but num_hidden_layers = {L}.")
    wrong = next((i for i, kind in enumerate(kinds) if kind not in known), None)
    if wrong is not None:  # the message is built only then: models of many layers call this often
        said = f"{key}[{wrong}] = {shown(kinds[wrong])} is not known here. Known: {', '.join(known)}."
        require(False, said)
    return kinds


def layer_windows(
    layer_types: Sequence[str] | None, usual: Sequence[str], window: int | None, near: str = SLIDING
) -> tuple[int | None, ...]:
    """Return the window, or chunk, of each layer, None for those with full attention.

    layer_types  what config.json says, None where it says nothing
    usual        the kind of each layer in that case
    window       ``sliding_window`` where it is in use, or ``attention_chunk_size``
    near         the kind that has one

    Raises ConfigError, naming key and value.
    """
    key = NEEDED[near]
    kinds = layer_kinds(layer_types, usual, (FULL, near))
    if near in kinds:
        said = f"layer_types[{kinds.index(near)}] = {near!r}, but no {key} is in use."
        require(window is not None, said)
        require(window is None or window >= 1, f"{key} = {window}, but a token sees at least itself.")
    return tuple(window if kind == near else None for kind in kinds)


def sparse_layers(mlp_layer_types: Sequence[str] | None, layers: int, dense: int) -> list[int]:
    """Return the numbers of the layers that have experts.

    mlp_layer_types  "dense" or "sparse" for each layer, as config.json says; None where it says nothing
    layers           L
    dense            how many of the first layers are dense in that case

    Raises ConfigError, naming key and value.
    """
    usual = [DENSE if i < dense else SPARSE for i in range(layers)]
    kinds = layer_kinds(mlp_layer_types, usual, (DENSE, SPARSE), "mlp_layer_types")
    return [i for i, kind in enumerate(kinds) if kind == SPARSE]


def equal_windows(layers: int, window: int | None) -> tuple[int | None, ...]:
    """Return the window of each layer where all have the same, or None; raises ConfigError as above."""
    return layer_windows(None, [FULL if window is None else SLIDING] * layers, window)
