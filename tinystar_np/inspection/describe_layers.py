"""Layers in words and numbers: one function for each kind of layer, found by the layer's class.

A new kind of layer is described by one more function; until then it is called by the name of its class.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

from tinystar_np.kernels.activations import gelu, gelu_tanh, relu, silu
from tinystar_np.layers import (
    Attention,
    Embedding,
    FeedForward,
    GatedFeedForward,
    LayerNorm,
    ParallelBlock,
    RMSNorm,
    SequentialBlock,
)
from tinystar_np.layers.blocks import ParallelPostNormBlock, PostNormBlock, no_norm
from tinystar_np.layers.complex_attention import ComplexAttention
from tinystar_np.layers.delta_net import GatedDeltaNet
from tinystar_np.layers.experts import Experts, RoutedAndShared
from tinystar_np.layers.hybrid_block import HybridBlock
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.layers.mamba1 import Mamba1
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.layers.mixer_block import MixerBlock
from tinystar_np.layers.sinusoidal import Sinusoidal


@dataclass(frozen=True)
class Part:
    """One part of a model.

    words  for people
    facts  the same for programs: ``kind`` and the numbers of that kind
    """

    words: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@singledispatch
def describe(layer: object) -> Part:
    """Describe a layer; one of an unknown class by the name of its class."""
    name = type(layer).__name__
    return Part(name, {"kind": name})


# Blocks.


@describe.register
def _sequential(block: SequentialBlock) -> Part:
    before = [block.attention_norm, block.feed_forward_norm]
    behind = [block.attention_post_norm, block.feed_forward_post_norm]
    norms = [*before, *behind]
    if not any(behind):
        return _block("sequential", "pre", "a norm before each part", norms)
    if all(norm is no_norm for norm in before):
        return _block("sequential", "branch", "a norm behind each part, before the addition", norms)
    return _block("sequential", "sandwich", "a norm before and behind each part", norms)


@describe.register
def _post_norm(block: PostNormBlock) -> Part:
    norms = [block.attention_post_norm, block.feed_forward_post_norm]
    return _block("sequential", "post", "a norm behind each addition", norms)


@describe.register
def _parallel(block: ParallelBlock) -> Part:
    before = [block.attention_norm, block.feed_forward_norm]
    behind = [block.attention_post_norm, block.feed_forward_post_norm]
    words = "one norm for both" if block.feed_forward_norm is None else "a norm for each"
    words += " and one behind each" if any(behind) else ""
    kind = f"parallel, {block.attention.name} beside feed-forward"
    return _block(kind, "sandwich" if any(behind) else "pre", words, [*before, *behind])


@describe.register
def _parallel_post_norm(block: ParallelPostNormBlock) -> Part:
    kind = f"parallel, {block.attention.name} beside feed-forward"
    return _block(kind, "post", "a norm behind the addition", [block.post_norm])


def _block(kind: str, placement: str, words: str, norms: Sequence[Any]) -> Part:
    """Describe a block by its norms, those that are there and do something."""
    count = sum(norm is not None and norm is not no_norm for norm in norms)
    facts = {"kind": kind.partition(",")[0], "norms": count, "placement": placement if count else None}
    return Part(f"{kind}, {words if count else 'no norm'}", facts)


@describe.register
def _hybrid(block: HybridBlock) -> Part:
    kind = "two mixers side by side, then feed-forward"
    return _block(kind, "pre", "a norm before each of both", [block.mixer_norm, block.feed_forward_norm])


@describe.register
def _mixer_block(block: MixerBlock) -> Part:
    return Part("a norm and a mixer, no feed-forward layer", {"kind": "mixer", "norms": 1})


# Mixers.


def side_by_side(mixers: Sequence[Any]) -> Part:
    """Describe the mixers of one block: by the first, and what stands beside it."""
    first, *others = map(describe, mixers)
    if not others:
        return first
    words = "; beside it ".join(part.words for part in (first, *others))
    return Part(words, {**first.facts, "beside": [part.facts for part in others]})


def heads_in_words(heads: int, groups: int) -> str:
    """Name the way in which H heads of queries share G heads of keys and values, such as "GQA 32:8"."""
    kind = "MHA" if groups == heads else "MQA" if groups == 1 else "GQA"
    return f"{kind} {heads}:{groups}"


@describe.register
def _attention(layer: Attention) -> Part:
    H, G, K = layer.heads, layer.groups, layer.value_dim
    name = heads_in_words(H, G)
    sharing = {H: "a key and value for each", 1: "one key and value for all"}
    shared = sharing.get(G, f"{H // G} queries to a key and value")
    facts: dict[str, Any] = {"kind": name[:3], "heads": H, "groups": G, "head_dim": K}
    words = f"attention {name}, {shared}, heads of {K}"
    if isinstance(layer, ComplexAttention):
        words, facts["complex"] = f"complex {words} complex numbers", True
    return _with_sight(layer, words, facts)


@describe.register
def _latent_attention(layer: LatentAttention) -> Part:
    H, R, K, J = layer.heads, layer.rank, layer.head_dim, layer.rope_dim
    beside = f", and a key of {J} beside it" if J else ""
    words = f"latent attention, {H} heads of {K} made from one latent of {R}{beside}"
    facts = {"kind": "MLA", "heads": H, "rank": R, "head_dim": K, "rope_dim": J, "value_dim": layer.value_dim}
    return _with_sight(layer, words, facts)


def _with_sight(layer: Attention | LatentAttention, words: str, facts: Mapping[str, Any]) -> Part:
    """Add what a token sees: how far, and whether to both sides."""
    words += "" if layer.window is None else f", window of {layer.window}"
    chunk = getattr(layer, "chunk", None)
    words += "" if chunk is None else f", in chunks of {chunk}"
    words += "" if layer.causal else ", to both sides"
    facts = {**facts, "window": layer.window, "causal": layer.causal}
    soft_cap = getattr(layer, "soft_cap", None)
    if soft_cap is not None:
        words, facts = f"{words}, scores below {soft_cap:g}", {**facts, "soft_cap": soft_cap}
    if chunk is not None:
        facts = {**facts, "chunk": chunk}
    tempered = getattr(layer, "temperature", None)
    if tempered is not None:
        words += f", queries × 1 + {tempered.scale:g} · ln(1 + ⌊place / {tempered.floor}⌋)"
        facts = {**facts, "temperature": {"floor": tempered.floor, "scale": tempered.scale}}
    return Part(words, facts)


@describe.register
def _delta_net(layer: GatedDeltaNet) -> Part:
    H, G, K, K_v = layer.heads, layer.groups, layer.head_dim, layer.value_dim
    width = layer.convolution.shape[0]
    words = f"gated delta net, {H} heads keep {K} × {K_v} numbers each, convolution over {width}"
    facts = {"heads": H, "groups": G, "head_dim": K, "value_dim": K_v, "convolution": width}
    return Part(words, {"kind": "delta_net", **facts})


@describe.register
def _mamba1(layer: Mamba1) -> Part:
    width, channels = layer.convolution.shape
    N = len(layer.A)
    words = f"Mamba 1, {channels} channels keep {N} numbers each, convolution over {width}"
    return Part(words, {"kind": "Mamba1", "channels": channels, "state_size": N, "convolution": width})


@describe.register
def _mamba2(layer: Mamba2) -> Part:
    H, P, G, N = layer.heads, layer.head_dim, layer.groups, layer.state_size
    width = layer.convolution.shape[0]
    words = f"Mamba 2, {H} heads keep {P} × {N} numbers each, convolution over {width}"
    facts = {"heads": H, "head_dim": P, "groups": G, "state_size": N, "convolution": width}
    return Part(words, {"kind": "Mamba2", **facts})


# Feed-forward layers.

ACTIVATION_NAMES = {gelu: "GELU", gelu_tanh: "GELU (tanh)", relu: "ReLU", silu: "SiLU"}
GATED_NAMES = {gelu: "GeGLU", gelu_tanh: "GeGLU (tanh)", relu: "ReGLU", silu: "SwiGLU"}


def _named(activation: Callable[..., Any]) -> str:
    return ACTIVATION_NAMES.get(activation, activation.__name__.replace("_", " "))


@describe.register
def _feed_forward(layer: FeedForward) -> Part:
    D, F = layer.up.weight.shape
    activation = _named(layer.activation)
    words = f"plain, {activation}, {D} → {F} → {D} ({F / D:.3g} × the width)"
    return Part(words, {"kind": "plain", "activation": activation, "width": D, "inner": F})


@describe.register
def _gated_feed_forward(layer: GatedFeedForward) -> Part:
    return _gated(layer.activation, *layer.down.weight.shape)


def _gated(activation: Callable[..., Any], F: int, D: int) -> Part:
    name = GATED_NAMES.get(activation, _named(activation))
    words = f"gated, {name}, {D} → 2 × {F} → {D} ({F / D:.3g} × the width)"
    return Part(words, {"kind": "gated", "activation": _named(activation), "width": D, "inner": F})


@describe.register
def _experts(layer: Experts) -> Part:
    E, k, first = len(layer.experts), layer.per_token, layer.experts[0]
    one = _gated(first.activation, *first.down.weight.shape)
    words = f"{k} of {E} experts for each token, each {one.words}"
    return Part(words, {"kind": "experts", "experts": E, "per_token": k, "expert": one.facts})


@describe.register
def _routed_and_shared(layer: RoutedAndShared) -> Part:
    routed, shared = describe(layer.routed), describe(layer.shared)
    return Part(
        f"{routed.words}; one for all tokens: {shared.words}", {**routed.facts, "shared": shared.facts}
    )


# Norms, and positions that are added to tokens.


@describe.register
def _layer_norm(layer: LayerNorm) -> Part:
    without = {"gain": layer.gain is None, "bias": layer.bias is None}
    missing = " or ".join(name for name, lacks in without.items() if lacks)
    words = f"LayerNorm{f' without {missing}' if missing else ''}, eps {layer.eps:g}"
    facts = {"gain": layer.gain is not None, "bias": layer.bias is not None}
    return Part(words, {"kind": "LayerNorm", "eps": layer.eps, **facts})


@describe.register
def _rms_norm(layer: RMSNorm) -> Part:
    return Part(f"RMSNorm, eps {layer.eps:g}", {"kind": "RMSNorm", "eps": layer.eps})


@describe.register
def _learned(layer: Embedding) -> Part:
    places = layer.weight.shape[0]
    return Part(f"learned, a vector for each of {places} places", {"kind": "learned", "places": places})


@describe.register
def _sinusoidal(layer: Sinusoidal) -> Part:
    return Part("sinusoidal, waves added to the tokens", {"kind": "sinusoidal"})
