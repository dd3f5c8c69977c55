"""A cache in a file, so that a long prompt is read once: a safetensors file with every layer's arrays.

Keys and values of one model mean nothing to another, not even to one of the same shape. The file therefore
carries a fingerprint of the model's weights, and is refused by any other model.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tinystar_np.errors import CheckpointError
from tinystar_np.state.layer_state import LayerState

FORMAT = "tinystar_np cache 1"


def write_states(path: Path, states: list[LayerState], lengths: NDArray[np.int64], fingerprint: str) -> None:
    """Write the states of all layers to a file, which replaces an older one only when it is complete."""
    arrays = {"lengths": lengths}
    for i, state in enumerate(states):
        for name, array in state.arrays(int(lengths.max())).items():
            arrays[f"{i}.{name}"] = np.ascontiguousarray(array)
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(arrays, partial, metadata={"format": FORMAT, "model": fingerprint})
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the cache cannot be written ({error}).") from error


def read_states(path: Path, fingerprint: str) -> tuple[NDArray[np.int64], list[Mapping[str, NDArray]]]:
    """Read what ``write_states`` wrote.

    Returns the lengths (B,) and the arrays of each layer.
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
    for name, array in arrays.items():
        if name != "lengths":
            i, _, part = name.partition(".")
            layers.setdefault(int(i), {})[part] = array
    return arrays["lengths"], [layers[i] for i in sorted(layers)]
