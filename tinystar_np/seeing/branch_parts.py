"""What a branch of a block adds, divided into parts: heads, experts, biases.

A branch is attention, a recurrent mixer, or the feed-forward layer. The last thing that each does is linear:
it multiplies by an output matrix, or weights the results of experts. There it can be divided exactly.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.kernels.activations import sigmoid
from tinystar_np.kernels.linear import unpacked
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import FeedForward, GatedFeedForward, Linear
from tinystar_np.layers.channel_delta_net import ChannelDeltaNet
from tinystar_np.layers.delta_net import GatedDeltaNet
from tinystar_np.layers.experts import Experts, ExpertsAndGatedShared, ExpertsAndShared
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.layers.lightning_attention import LightningAttention
from tinystar_np.layers.mamba1 import Mamba1
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.layers.mlstm import MLSTM
from tinystar_np.layers.rg_lru import RGLRU
from tinystar_np.layers.short_convolution import ShortConvolution
from tinystar_np.layers.time_mixing import ChannelMixing, TimeMixing
from tinystar_np.seeing.parts import RecordedPlace, Term

Directions = NDArray[np.float64]
"""What a vector of the stream is multiplied by to give its share of each of n logits: (n, D)."""

OUTPUTS = {
    "attention": ("attention.out",),
    "mixer": ("mixer.out",),
    "feed_forward": ("feed_forward.out", "feed_forward.down", "feed_forward.experts"),
    "per_layer": ("per_layer.out",),
}
"""Branches, and the tap of each one's result: the first that there is."""
READ_BY_OUT = {"attention": ("gated", "mixed"), "mixer": ("gated_norm", "gated")}
"""What the output matrix of a branch may read: the first tap that there is."""


KINDS: Mapping[str, tuple[type, ...]] = {
    "attention": (Attention, LatentAttention),
    "mixer": (
        ChannelDeltaNet,
        GatedDeltaNet,
        LightningAttention,
        Mamba1,
        Mamba2,
        MLSTM,
        RGLRU,
        ShortConvolution,
        TimeMixing,
    ),
    "feed_forward": (
        ChannelMixing,
        Experts,
        ExpertsAndGatedShared,
        ExpertsAndShared,
        FeedForward,
        GatedFeedForward,
    ),
    "per_layer": (),
}
"""The classes of each branch's layers."""


class Branch(NamedTuple):
    """A branch that ran at a place.

    path   of the branch: "blocks.3.attention"
    out    the tap of its result
    layer  its layer in the block; None where the block has none of a known class
    """

    path: str
    out: str
    layer: object


def branches_of(block: object, scope: str, place: RecordedPlace) -> Iterator[Branch]:
    """Find the branches of a block that left a result; ``scope`` is its path, "blocks.3"."""
    outputs_of = {"mixer": OUTPUTS["mixer"]} if f"{scope}.shared_out" in place else OUTPUTS
    for name, outputs in outputs_of.items():
        out = next((f"{scope}.{each}" for each in outputs if f"{scope}.{each}" in place), None)
        if out is not None:
            yield Branch(f"{scope}.{name}", out, layer_of(block, name))


def layer_of(block: object, branch: str) -> object:
    """Find the layer of a branch in a block; None where there is none of a known class."""
    return next((each for each in vars(block).values() if isinstance(each, KINDS[branch])), None)


def parts_of(branch: Branch, place: RecordedPlace, directions: Directions) -> Iterator[Term]:
    """Divide what a branch gave at a place; the values sum to its result times each direction.

    A layer of a class that is not known here is one part.
    """
    layer = branch.layer
    match layer:
        case (
            Attention()
            | LatentAttention()
            | Mamba2()
            | ChannelDeltaNet()
            | GatedDeltaNet()
            | LightningAttention()
        ) if "out" in vars(layer):
            yield from _heads(branch.path, layer.out, layer.heads, place, directions)
        case FeedForward() | GatedFeedForward():
            y = place.vector(branch.out) - _bias(layer.down)
            yield Term(branch.path, "whole", None, directions @ y)
            yield from _bias_part(branch.path, layer.down, directions)
        case Experts():
            yield from _experts(branch.path, layer, place, directions)
        case ExpertsAndShared() | ExpertsAndGatedShared():
            y = place.vector(f"{branch.path}.down")
            if isinstance(layer, ExpertsAndGatedShared):
                y = y * sigmoid(place.vector(f"{branch.path}.shared_gate"))
            else:
                directions = directions * layer.share
            yield from _experts(branch.path, layer.experts, place, directions)
            yield Term(branch.path, "shared", None, directions @ y)
        case _:
            yield Term(branch.path, "whole", None, directions @ place.vector(branch.out))


def _heads(
    path: str, out: Linear, heads: int, place: RecordedPlace, directions: Directions
) -> Iterator[Term]:
    """Give each head what its rows of the output matrix make of it."""
    names = [f"{path}.{name}" for name in READ_BY_OUT[path.rpartition(".")[2]]]
    name = next((name for name in names if name in place), names[-1])
    mixed = place.of_heads(name) if name.endswith(".mixed") else place.vector(name)
    # The matrix is read once, whatever the number of heads: what a number before it adds to a logit.
    worth = fast.matmul(directions.astype(np.float32), unpacked(out.weight).T)  # (n, HK)
    values = (mixed.ravel() * worth).reshape(len(worth), heads, -1).sum(axis=-1)  # (n, H)
    for h in range(heads):
        yield Term(path, "head", h, values[:, h])
    yield from _bias_part(path, out, directions)


def _experts(path: str, layer: Experts, place: RecordedPlace, directions: Directions) -> Iterator[Term]:
    """Give each chosen expert its weighted result, its own bias included: the experts are run again."""
    scope = path.rpartition(".")[0]
    # Where attention and experts run side by side they read the same vector.
    read = [f"{scope}.{name}" for name in ("feed_forward_norm", "residual_middle", "attention_norm")]
    x = place[next((name for name in read if name in place), read[0])][None]  # (1, D)
    chosen, weights = place[f"{path}.chosen"], place[f"{path}.weights"]
    for e, weight in zip(chosen, weights, strict=True):
        expert = layer.experts[e]
        y = expert(x * weight) if layer.weigh_inputs else expert(x) * weight
        yield Term(path, "expert", int(e), directions @ y[0])
    yield from _bias_part(path, layer, directions)


def _bias(layer: Linear) -> NDArray | float:
    return 0.0 if layer.bias is None else layer.bias


def _bias_part(path: str, layer: Linear | Experts, directions: Directions) -> Iterator[Term]:
    if layer.bias is not None:
        yield Term(path, "bias", None, directions @ layer.bias)
