"""A cache in a file, so that a long prompt is read once: a safetensors file with every layer's arrays.

Keys and values of one model mean nothing to another, not even to one of the same shape. The file therefore
carries a fingerprint of the model's weights, and is refused by any other model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache.images import Images, arrays_of
from tinystar_np.cache.layer_state import LayerState
from tinystar_np.cache.text import HeldText
from tinystar_np.checkpoints.safetensors_file import map_safetensors
from tinystar_np.checkpoints.safetensors_writer import write_arrays
from tinystar_np.errors import CheckpointError
from tinystar_np.whole_file import whole_file

OF_TEXT = "ids", "text_lengths"  # names of what a ``HeldText`` saves
FORMAT = "tinystar_np cache 1"
IN_ONE = "one process"
MOST_TOKENS = 2**53  # sums with positions stay within 64 bits


def write_states(
    path: Path,
    states: list[LayerState],
    lengths: NDArray[np.int64],
    fingerprint: str,
    text: HeldText | None = None,
    images: Sequence[Images] | None = None,
) -> None:
    """Write the states of all layers to a file, which replaces an older one only when it is complete.

    Raises CheckpointError where the file cannot be written.
    """
    tokens = int(lengths.max())
    arrays = {"lengths": lengths, **({} if text is None else text.arrays(tokens))}
    if images is not None:
        arrays |= arrays_of(images)
    for i, state in enumerate(states):
        for name, array in state.arrays(tokens).items():
            arrays[f"{i}.{name}"] = array
    with whole_file(path) as file:
        write_arrays(file, arrays, {"format": FORMAT, "model": fingerprint})


def read_states(
    path: Path, fingerprint: str
) -> tuple[
    NDArray[np.int64], Mapping[int, Mapping[str, NDArray]], Mapping[str, NDArray], Mapping[str, NDArray]
]:
    """Read what ``write_states`` wrote. The arrays are views of the file, so that those that do not fit the
    model are never read; ``restore`` copies the others.

    Returns the lengths (B,), the arrays of each layer that remembers anything, by its number, those of the
    text, none where it was not kept, and those of images. Raises CheckpointError where the file is missing,
    damaged, something else, or of another model.
    """
    try:
        tensors, metadata = map_safetensors(path)
        arrays = {name: tensor.view() for name, tensor in tensors.items()}
    except CheckpointError as error:
        found = str(error).splitlines()[0].removeprefix(f"{path}: ").removesuffix(".")
        raise CheckpointError(f"{path}: no complete saved cache ({found}). Read the prompt again.") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: a safetensors file, but no cache that cache.save() has written.")
    was, here = (text.partition(" ")[2] for text in (metadata.get("model", ""), fingerprint))
    if was != here:
        raise CheckpointError(
            f"{path}: this cache was saved by {was or IN_ONE}, and the model is in {here or IN_ONE}.\n"
            "Divide the model in the same way, or read the prompt again."
        )
    if metadata.get("model") != fingerprint:
        raise CheckpointError(f"{path}: this cache belongs to another model. Read the prompt again.")
    layers: dict[int, dict[str, NDArray]] = {}
    try:
        lengths = arrays.pop("lengths")
        text: dict[str, NDArray] = {name: arrays.pop(name) for name in OF_TEXT if name in arrays}
        of_images = {name: arrays.pop(name) for name in list(arrays) if name.startswith("images.")}
        for name, array in arrays.items():
            i, _, part = name.partition(".")
            if str(int(i)) != i or int(i) < 0:  # "01" would be layer 1 once more
                raise ValueError(f"a layer {i}")
            layers.setdefault(int(i), {})[part] = array
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path}: no complete saved cache (its arrays are not those of layers)."
        ) from error
    is_list = lengths.dtype == np.int64 and lengths.ndim == 1 and lengths.size > 0
    if not is_list or lengths.min() < 0 or lengths.max() > MOST_TOKENS:
        raise CheckpointError(f"{path}: no complete saved cache (its lengths are no numbers of tokens).")
    return lengths.copy(), layers, text, of_images
