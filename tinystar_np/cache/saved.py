"""A cache in a file, so that a long prompt is read once: a safetensors file with every layer's arrays.

Keys and values of one model mean nothing to another, not even to one of the same shape. The file therefore
carries a fingerprint of the model's weights, and is refused by any other model.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from tinystar_np.cache.layer_state import LayerState
from tinystar_np.cache.text import HeldText
from tinystar_np.checkpoints.safetensors_writer import write_arrays
from tinystar_np.errors import CheckpointError
from tinystar_np.whole_file import whole_file

FORMAT = "tinystar_np cache 1"


def write_states(
    path: Path,
    states: list[LayerState],
    lengths: NDArray[np.int64],
    fingerprint: str,
    text: HeldText | None = None,
) -> None:
    """Write the states of all layers to a file, which replaces an older one only when it is complete.

    Raises CheckpointError where the file cannot be written.
    """
    tokens = int(lengths.max())
    arrays = {"lengths": lengths, **({} if text is None else text.arrays(tokens))}
    for i, state in enumerate(states):
        for name, array in state.arrays(tokens).items():
            arrays[f"{i}.{name}"] = array
    with whole_file(path) as file:
        write_arrays(file, arrays, {"format": FORMAT, "model": fingerprint})


def read_states(
    path: Path, fingerprint: str
) -> tuple[NDArray[np.int64], list[Mapping[str, NDArray]], Mapping[str, NDArray]]:
    """Read what ``write_states`` wrote.

    Returns the lengths (B,), the arrays of each layer, and those of the text, none where it was not kept.
    Raises CheckpointError where the file is missing, damaged, something else, or of another model.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except Exception as error:  # OSError, and the package's own that is only an Exception
        raise CheckpointError(f"{path}: no complete saved cache ({error}).") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: a safetensors file, but no cache that cache.save() has written.")
    if metadata.get("model") != fingerprint:
        raise CheckpointError(f"{path}: this cache belongs to another model. Read the prompt again.")
    layers: dict[int, dict[str, NDArray]] = {}
    try:
        lengths = arrays.pop("lengths")
        text = {name: arrays.pop(name) for name in ("ids", "text_lengths") if name in arrays}
        for name, array in arrays.items():
            i, _, part = name.partition(".")
            layers.setdefault(int(i), {})[part] = array
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path}: no complete saved cache (its arrays are not those of layers)."
        ) from error
    if sorted(layers) != list(range(len(layers))):
        raise CheckpointError(f"{path}: no complete saved cache (it leaves out layers).")
    if lengths.dtype != np.int64 or lengths.ndim != 1 or not lengths.size or lengths.min() < 0:
        raise CheckpointError(f"{path}: no complete saved cache (its lengths are no numbers of tokens).")
    return lengths, [layers[i] for i in sorted(layers)], text
