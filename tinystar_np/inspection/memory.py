"""The memory of a model: parameters, bytes of weights, bytes of state, and the same for other designs.

Every attention layer caches the keys and values of a text of T tokens, and each new token reads them all:

    bytes = 2 · L · G · K · T · 4        G key/value heads of width K in L layers, float32

Multi-head attention has G = H. This state limits long texts, hence the later designs: one key/value head for
all query heads (MQA, Shazeer 2019, arXiv:1911.02150), a few (GQA, Ainslie et al. 2023, arXiv:2305.13245), and
recurrences, whose state does not grow, in all or most of the layers.

States are not computed by that formula, but made and measured.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from math import prod
from typing import Protocol

from tinystar_np.cache import EntriesState, LayerState, Limits, new_key_value_state
from tinystar_np.cache.recurrent import parts_of
from tinystar_np.inspection.describe import mixers_of
from tinystar_np.inspection.describe_layers import heads_in_words
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.experts import Experts
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.models.base import Decoder

WEIGHT_TYPES = ("float32", "bfloat16", "int8")
PART_NAMES = {"feed_forward": "feed-forward", "head": "output"}
NO_LIMITS = Limits()
LENGTHS = (128, 1024, 4096, 32768, 131072)


@dataclass(frozen=True)
class WeightSizes:
    """The number of parameters, and their bytes.

    parameters  all of them
    active      those that one token uses: of the experts only the chosen ones
    parts       {"embedding": …, "attention": …, …}
    nbytes      by ``load``'s dtype: {"float32": …, "bfloat16": …, "int8": …}
    """

    parameters: int
    active: int
    parts: dict[str, int]
    nbytes: dict[str, int]


def weight_sizes(model: Decoder) -> WeightSizes:
    """Count a model's weights; a hollow one will do (inspection/hollow.py)."""
    parts: dict[str, int] = {}
    active = 0.0
    share = share_of_experts(model)
    for name, array in model.weights.items():
        part, count = _part(name), prod(array.shape)
        parts[part] = parts.get(part, 0) + count
        active += count * share if part == "experts" else count
    nbytes = {
        dtype: sum(_nbytes(name, array.shape, dtype) for name, array in model.weights.items())
        for dtype in WEIGHT_TYPES
    }
    return WeightSizes(sum(parts.values()), round(active), parts, nbytes)


def _part(name: str) -> str:
    """Return the part of the model of an array: "attention" for "blocks.3.attention.q.weight"."""
    words = name.split(".")
    part = words[2] if words[0] == "blocks" else words[0]
    if "experts" in words:
        return "experts"
    return "norms" if part.endswith("norm") else PART_NAMES.get(part, part)


def share_of_experts(model: Decoder) -> float:
    """Return k/E, 1 where there are no experts."""
    return next((share for share in map(share_in_block, model.blocks) if share is not None), 1.0)


def share_in_block(block: object) -> float | None:
    """Return k/E, how much of a block's experts a token reads; None where there are none."""
    layer = vars(block).get("feed_forward")
    within = vars(layer).values() if hasattr(layer, "__dict__") else ()
    for part in (*vars(block).values(), *within):
        if isinstance(part, Experts):
            return part.per_token / len(part.experts)
    return None


def _nbytes(name: str, shape: tuple[int, ...], dtype: str) -> int:
    """Return the bytes of an array in this type.

    Only matrices are stored in fewer bits, and of these no router (weight_table.py); int8 has a scale per
    output.
    """
    numbers = prod(shape)
    if dtype == "float32" or len(shape) != 2 or not name.endswith(".weight") or ".router." in name:
        return 4 * numbers
    if dtype == "bfloat16":
        return 2 * numbers
    return numbers + 4 * (shape[0] if name.startswith("embedding.") else shape[1])


@dataclass(frozen=True)
class StateSize:
    """Bytes of the state of one text.

    name    of the design
    fixed   without any token
    growth  added by each token, by how many tokens add it: {sys.maxsize: …}, or {W: …} with a window
    entries added by each m tokens together: {m: …} (cache/entries.py)
    """

    name: str
    fixed: int
    growth: dict[int, int]
    entries: dict[int, int] = field(default_factory=dict)

    @property
    def per_token(self) -> int:
        """Bytes that a token adds before any window is full."""
        return sum(self.growth.values()) + sum(added // every for every, added in self.entries.items())

    def at(self, tokens: int) -> int:
        """Return the bytes for a text of this length."""
        growing = sum(added * min(tokens, until) for until, added in self.growth.items())
        return self.fixed + growing + sum(added * (tokens // every) for every, added in self.entries.items())


class Remembers(Protocol):
    """A layer that has a state."""

    def new_state(self, batch_size: int, capacity: int) -> LayerState:
        """Make an empty state."""


@dataclass(frozen=True)
class Keys:
    """The keys and values that an attention layer caches, in its own design or another.

    heads, kv_heads      H query heads, G key/value heads
    head_dim, value_dim  K of keys, K_v of values
    limits               window, chunk and mask of the layer
    """

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    limits: Limits = NO_LIMITS

    def new_state(self, batch_size: int, capacity: int) -> LayerState:
        """Make room for the keys and values of ``batch_size`` rows."""
        G, K = self.kv_heads, self.head_dim
        return new_key_value_state(batch_size, G, K, capacity, self.limits, self.value_dim)


def state_sizes(model: Decoder) -> list[StateSize]:
    """Measure the state of one text, and what it would be in other designs of the same width and depth.

    Returns the model's own first. Then its attention as MHA, GQA and MQA, in every layer of a hybrid; GQA
    with the model's own key/value heads, or H / 4 where it has H or 1. Where no layer has attention, the
    other design is MHA of the model's width. Nothing for a bidirectional model, which has no cache.
    """
    mixers = list(chain(*map(mixers_of, model.blocks)))
    attending = [mixer for mixer in mixers if isinstance(mixer, Attention | LatentAttention)]
    beside = [mixer for mixer in mixers if not isinstance(mixer, Attention | LatentAttention)]
    if not all(mixer.limits().causal for mixer in attending):
        return []
    own = measured("this model", mixers)
    if not attending:
        width = model.embedding.weight.shape[1]
        return [own, measured("every layer MHA", [Keys(1, 1, width, width)] * len(mixers))]
    with_keys = [_with_keys(layer) for layer in attending]
    H, G = with_keys[0].heads, with_keys[0].kv_heads
    grouped = H // 4 if G in (1, H) and H % 4 == 0 else G
    designs = sorted({H, grouped, 1}, reverse=True)
    mixing = [block for block in model.blocks if mixers_of(block)]
    if len(attending) < len(mixing):
        everywhere = [with_keys[0]] * len(mixing)
        return [own, *(_in_groups("every layer", everywhere, kv_heads) for kv_heads in designs)]
    others = [kv_heads for kv_heads in designs if kv_heads != G or isinstance(attending[0], LatentAttention)]
    sizes = [own, *(_in_groups("as", with_keys, kv_heads, beside) for kv_heads in others)]
    limits = [layer.limits() for layer in attending]
    for name, limited in (
        ("window", any(limit.window is not None for limit in limits)),
        ("chunk", any(limit.chunk is not None for limit in limits)),
    ):
        if limited:
            sizes.append(measured(f"without {name}", [*map(_without_limits, attending), *beside]))
    return sizes


def _without_limits(layer: Attention | LatentAttention) -> Keys:
    """Return what a layer would cache with full attention."""
    if isinstance(layer, LatentAttention):
        return Keys(layer.heads, 1, layer.rank + layer.rope_dim, 0)
    return replace(_with_keys(layer), limits=NO_LIMITS)


def _with_keys(layer: Attention | LatentAttention) -> Keys:
    """Return what a layer caches; for latent attention, the keys and values of all its heads."""
    if isinstance(layer, LatentAttention):
        return Keys(layer.heads, layer.heads, layer.value_dim, layer.value_dim, layer.limits())
    return Keys(layer.heads, layer.kv_heads, layer.head_dim, layer.value_dim(), layer.limits())


def _in_groups(
    where: str, layers: Sequence[Keys], kv_heads: int, beside: Sequence[Remembers] = ()
) -> StateSize:
    name = f"{where} {heads_in_words(layers[0].heads, kv_heads)}"
    return measured(name, [*(replace(layer, kv_heads=kv_heads) for layer in layers), *beside])


def measured(name: str, mixers: Iterable[Remembers]) -> StateSize:
    """Measure states of two capacities: without any token, and with one, or as many as make an entry."""
    fixed, growth, entries = 0, dict[int, int](), dict[int, int]()
    for mixer in mixers:
        for i, empty in enumerate(parts_of(mixer.new_state(1, 0))):
            every = empty.every if isinstance(empty, EntriesState) else 1
            state = list(parts_of(mixer.new_state(1, every)))[i]
            fixed += empty.nbytes
            if state.nbytes > empty.nbytes:
                until = every if isinstance(empty, EntriesState) else getattr(state, "most", sys.maxsize)
                into = entries if isinstance(empty, EntriesState) else growth
                into[until] = into.get(until, 0) + state.nbytes - empty.nbytes
    return StateSize(name, fixed, growth, entries)


def lengths_to_show(model: Decoder, most: int = 4) -> list[int]:
    """Return the longest few context lengths up to the model's own."""
    longest = model.context_length or model.trained_length
    if longest is None:
        return list(LENGTHS[-most:])
    return [*(length for length in LENGTHS if length < longest), longest][-most:]


def peak_memory() -> int:
    """Return this process's peak memory in bytes, mapped weights included."""
    import resource  # late: Windows does not have it

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
