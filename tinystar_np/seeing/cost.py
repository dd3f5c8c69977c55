"""What a token costs, part by part: bytes of weights and of cache that it reads, FLOPs, and time.

A new token reads every weight of its layers once (of the experts, those that it chose), one row of the
embedding table, and everything that the cache holds within its reach. On a processor these bytes, and not
the FLOPs, decide how long it takes. Bytes and FLOPs are counted from the built layers, so they need no run;
times are taken in one:

    with block_times() as times:
        ts.generate(model, tokenizer, "Once upon a time")
    times.calls[1]["blocks.3"]                             # seconds, in the second pass through the model
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.weight_table import EMBEDDING as TOKENS
from tinystar_np.checkpoints.weight_table import HEAD
from tinystar_np.errors import InputError
from tinystar_np.inspection.describe import mixers_of
from tinystar_np.inspection.flops import in_reach, multiply_adds
from tinystar_np.inspection.memory import StateSize, measured, share_in_block
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Mixer
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.models.base import Decoder
from tinystar_np.tap import timing

IMAGES, EMBEDDING, OUTPUT = "images", "embedding", "output"
TABLES = (TOKENS, "embedding.positions.weight")  # of which a token reads one row


@dataclass(frozen=True)
class PartCost:
    """What one new token costs in one part of the model.

    part     "embedding", "blocks.0" …, "output" (the last norm and the output layer)
    weights  bytes of weights that it reads, in the types that they are kept in
    cache    bytes of keys and values, latents or recurrent state that it reads, its own included
    flops    of its matrix products, as inspection/flops.py counts them
    """

    part: str
    weights: int
    cache: int
    flops: int


@dataclass
class Times:
    """How long the parts took, in seconds.

    calls  one for each pass through the model, in order: {"embedding": …, "blocks.0": …, …, "output": …};
           "images" comes before these, where some were given
    """

    calls: list[dict[str, float]] = field(default_factory=list)

    def add(self, part: str, seconds: float) -> None:
        """Receive a part's time: that of the images, or the embedding's without them, begins a new pass."""
        images_read = bool(self.calls) and self.calls[-1].keys() == {IMAGES}
        if part == IMAGES or (part == EMBEDDING and not images_read) or not self.calls:
            self.calls.append({})
        self.calls[-1][part] = seconds

    def table(self) -> tuple[list[str], NDArray[np.float64]]:
        """Return the parts, and their times (calls, parts); NaN where a pass broke off before."""
        parts = list(dict.fromkeys(part for call in self.calls for part in call))
        rows = [[call.get(part, np.nan) for part in parts] for call in self.calls]
        return parts, np.array(rows, dtype=np.float64).reshape(len(rows), len(parts))


def token_cost(model: Decoder, context: int) -> list[PartCost]:
    """Count what one new token costs that is read after others, with a cache.

    context  S, the tokens that the text then has, the new one included

    Returns the costs of the embedding, each block and the output, in this order.
    Raises InputError for a context of no token, or for a model that reads a text at once and has no cache.
    """
    if context < 1:
        raise InputError(f"context = {context}; it counts the new token, so it is at least 1.")
    shares = [share_in_block(block) or 1.0 for block in model.blocks]
    weights = dict.fromkeys((EMBEDDING, *_names(model), OUTPUT), 0.0)
    for name, array in model.weights.items():
        words = name.split(".")
        if words[0] == "blocks":
            used = shares[int(words[1])] if ".experts." in name else 1.0
            weights[f"blocks.{words[1]}"] += array.nbytes * used
        elif words[0] == EMBEDDING:
            weights[EMBEDDING] += array.nbytes / (array.shape[0] if name in TABLES else 1)
        else:
            weights[OUTPUT] += array.nbytes
    if HEAD not in model.weights:  # tied: the table once more, as the output layer
        weights[OUTPUT] += model.weights[TOKENS].nbytes
    flops = [2 * multiply_adds(block, context) for block in model.blocks]
    rest = 2 * multiply_adds(model, context) - sum(flops)
    read = [sum(_read(size, mixer, context) for size, mixer in layer) for layer in _states(model)]
    blocks = zip(_names(model), read, flops, strict=True)
    return [
        PartCost(EMBEDDING, round(weights[EMBEDDING]), 0, 0),
        *(PartCost(name, round(weights[name]), cache, count) for name, cache, count in blocks),
        PartCost(OUTPUT, round(weights[OUTPUT]), 0, rest),
    ]


def state_growth(model: Decoder, tokens: int) -> NDArray[np.int64]:
    """Return the bytes that each layer remembers of a text after each of its tokens.

    tokens  T

    Returns (L, T): keys and values grow, up to a window where there is one; a recurrent state does not.
    Raises InputError for a model that reads a text at once and has no cache.
    """
    sizes = [[size for size, _ in layer] for layer in _states(model)]
    rows = [[sum(size.at(t) for size in layer) for t in range(1, tokens + 1)] for layer in sizes]
    return np.array(rows, dtype=np.int64).reshape(len(rows), tokens)


@contextmanager
def block_times() -> Iterator[Times]:
    """Take the time of each part in every pass through a model inside the ``with`` block.

    The passes are the ordinary ones: no taps are heard, and fast forms and threads run as without it.
    """
    times = Times()
    with timing(times):
        yield times


def _names(model: Decoder) -> list[str]:
    return [f"blocks.{i}" for i in range(len(model.blocks))]


def _states(model: Decoder) -> list[list[tuple[StateSize, Mixer]]]:
    """Return for each layer its mixers, and how large the state of each is."""
    found = []
    for layer, block in enumerate(model.blocks):
        mixers = mixers_of(block)
        for mixer in mixers:
            if isinstance(mixer, Attention | LatentAttention) and not mixer.limits().causal:
                raise InputError(
                    "This model sees later tokens too: it reads a text at once and has no cache."
                )
        found.append([(measured(f"blocks.{layer}", [mixer]), mixer) for mixer in mixers])
    return found


def _read(size: StateSize, mixer: Mixer, context: int) -> int:
    """Return the bytes of a mixer's state that a token reads."""
    if isinstance(mixer, Attention | LatentAttention):
        return size.fixed + size.per_token * in_reach(mixer.limits(), context)
    return size.at(context)
