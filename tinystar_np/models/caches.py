"""Loading saved caches, and recomputing those that have become outdated.

Where rotations depend on the length of a text (longrope, dynamic NTK), a longer text rotates the tokens that
a cache already holds by other angles (cache/text.py says why). The model then reads these tokens again, into
a new cache: when a text crosses the trained length, and beyond it under dynamic NTK with every call. So the
logits are those of the same text without a cache, and cost as much.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import PREFILL, Cache, SeenImage, Step, join_caches, read_states
from tinystar_np.cache.images import piece_ends, restored
from tinystar_np.checkpoints.json_file import one_line
from tinystar_np.errors import CheckpointError
from tinystar_np.kernels.linear import Matrix
from tinystar_np.models.config import AnyConfig, Config
from tinystar_np.tap import numbered, read_again, row_numbers

if TYPE_CHECKING:
    from tinystar_np.models.base import Decoder


def up_to_date(model: "Decoder[AnyConfig]", cache: Cache, step: Step) -> Cache:
    """Return the cache, or a new one in which outdated rows were read again.

    The given one stays as it is, also where reading fails.
    """
    if cache.text is None:
        return cache
    outdated = cache.text.outdated(step)
    if not outdated.any():
        return cache
    again = []
    for b, row in enumerate(row_numbers(cache.batch_size).tolist()):
        if outdated[b]:
            ids = cache.text.ids[b : b + 1, : step.start[b]]
            with read_again(), numbered([row]):
                images = () if step.images is None else step.images[b]
                again.append(_read_again(model, ids, int(step.text_lengths[b]), images))
        else:
            again.append(cache.select([b]))
    return again[0] if len(again) == 1 else join_caches(again)


def _read_again(
    model: "Decoder[AnyConfig]", ids: NDArray[np.integer], text_length: int, images: Sequence[SeenImage]
) -> Cache:
    """Read tokens (1, T) into a new cache, as the beginning of a text of this length, with its images."""
    cache = model.new_cache(1, capacity=text_length)
    with cache.reading(text_length):
        ends = piece_ends(images, 0, ids.shape[1], PREFILL)
        for start, end in pairwise([0, *ends]):
            model(ids[:, start:end], cache=cache, last_only=True, images=[images])
    return cache


def load_cache(model: "Decoder[AnyConfig]", path: str | Path) -> Cache:
    """Read a cache that ``cache.save(path)`` wrote for the same model.

    Raises CheckpointError where the file is missing, damaged, or of another model.
    """
    lengths, layers, texts, of_images = read_states(Path(path), model.fingerprint())
    tokens = int(lengths.max())
    try:
        if model.context_length is not None and tokens > model.context_length:
            raise ValueError(f"{tokens} tokens, where the context holds {model.context_length}")
        cache = model.new_cache(len(lengths))
        L = len(cache.states)
        if any(i >= L for i in layers):
            raise ValueError(f"arrays of layer {max(layers)}, but layers 0 to {L - 1}")
        kept = cache.text
        if texts and kept is None:
            raise ValueError(f"its tokens ({', '.join(texts)}), which this model does not keep")
        text = None if kept is None else kept.restored(texts, lengths, model.vocab_size)
        images = restored(of_images, lengths, model.config.sizes["D"])
        for i, state in enumerate(cache.states):
            state.restore(layers.get(i, {}), tokens)  # none of a layer that remembers nothing
    except (ValueError, MemoryError) as error:
        raise CheckpointError(
            f"{path}: this cache does not fit the model ({one_line(error)}). Read the prompt again."
        ) from error
    return Cache(cache.states, lengths, model.fingerprint, text, images)


def fingerprint(config: Config, weights: Mapping[str, Matrix]) -> str:
    """Return a hash of a model's config and of a few numbers of each of its arrays."""
    sums = sha256(repr(config).encode())
    for name, array in sorted(weights.items()):
        numbers = np.atleast_1d(array if isinstance(array, np.ndarray) else array.stored)
        sums.update(f"{name} {numbers.dtype} {numbers.shape}".encode())
        sums.update(numbers[(0,) * (numbers.ndim - 1)][:8].tobytes())
    return sums.hexdigest()
