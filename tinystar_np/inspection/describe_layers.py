"""Describing layers in words and numbers: one function for each class of layers.

A new kind of layer needs one more function; until then it is described by its class's docstring.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch

from tinystar_np.kernels.activations import Activation, gelu, gelu_tanh, relu, silu
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, GatedFeedForward, LayerNorm, Linear, RMSNorm
from tinystar_np.layers.channel_delta_net import ChannelDeltaNet
from tinystar_np.layers.compressed_attention import CompressedAttention
from tinystar_np.layers.delta_net import GatedDeltaNet
from tinystar_np.layers.experts import Expert, Experts
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.layers.lightning_attention import LightningAttention
from tinystar_np.layers.mamba1 import Mamba1
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.layers.mlstm import MLSTM
from tinystar_np.layers.rg_lru import RGLRU
from tinystar_np.layers.short_convolution import ShortConvolution
from tinystar_np.layers.time_mixing import ChannelMixing, TimeMixing


@dataclass(frozen=True)
class Part:
    """The description of one part of a model.

    words  for people
    facts  the same for programs: ``kind`` and the numbers of that kind
    """

    words: str
    facts: Mapping[str, object] = field(default_factory=dict)

    def count(self, fact: str) -> int:
        """Return a fact that is a whole number."""
        value = self.facts[fact]
        assert isinstance(value, int)
        return value


@singledispatch
def describe(layer: object) -> Part:
    """Describe a layer; one of an unknown class by its parts, or else by its docstring."""
    parts = {name: part for name, part in vars(layer).items() if type(part) in describe.registry}
    if not parts:
        linear = {name: part.weight.shape for name, part in vars(layer).items() if isinstance(part, Linear)}
        sizes = ", ".join(f"{name} {D} → {F}" for name, (D, F) in linear.items())
        return Part(f"{first_sentence(layer)}{sizes and ': '}{sizes}", {"kind": type(layer).__name__})
    if parts.keys() == {"experts", "shared"}:
        experts, shared = describe(parts["experts"]), describe(parts["shared"])
        words = f"{experts.words}; one for all tokens: {shared.words}"
        return Part(words, {**experts.facts, "shared": shared.facts})
    return side_by_side(list(parts.values()))


def first_sentence(layer: object) -> str:
    """Return the first sentence of a layer's docstring, or its class's name where it has none."""
    kind = type(layer)
    text = kind.__name__ if kind.__module__ == "builtins" else (kind.__doc__ or kind.__name__)
    text = text.partition("\n\n")[0]
    return " ".join(text.split()).rstrip(".")


# Mixers.


def side_by_side(layers: Sequence[object]) -> Part:
    """Describe several layers side by side as one part."""
    first, *others = map(describe, layers)
    if not others:
        return first
    words = "; beside it ".join(part.words for part in (first, *others))
    return Part(words, {**first.facts, "beside": [part.facts for part in others]})


def heads_in_words(heads: int, kv_heads: int) -> str:
    """Return the kind and number of H query heads and G key/value heads, such as "GQA 32:8"."""
    kind = "MHA" if kv_heads == heads else "MQA" if kv_heads == 1 else "GQA"
    return f"{kind} {heads}:{kv_heads}"


@describe.register
def _attention(layer: Attention) -> Part:
    H, G, K = layer.heads, layer.kv_heads, layer.value_dim()
    name = heads_in_words(H, G)
    sharing = {H: "a key and value for each", 1: "one key and value for all"}
    shared = sharing.get(G, f"{H // G} queries to a key and value")
    words = f"attention {name}, {shared}, heads of {K}"
    if layer.head_dim != K:
        words = f"complex {words} complex numbers"
    facts = {"kind": name[:3], "heads": H, "groups": G, "head_dim": K, "complex": layer.head_dim != K}
    part = _with_limits(layer, words, {**facts, "soft_cap": layer.soft_cap})
    cap = "" if layer.soft_cap is None else f"scores below {layer.soft_cap:g}"
    return Part(", ".join(said for said in (part.words, cap, layer.remark) if said), part.facts)


@describe.register
def _latent_attention(layer: LatentAttention) -> Part:
    H, R, K, J = layer.heads, layer.rank, layer.head_dim, layer.rope_dim
    beside = f", and a key of {J} beside it" if J else ""
    words = f"latent attention, {H} heads of {K} made from one latent of {R}{beside}"
    facts = {"kind": "MLA", "heads": H, "rank": R, "head_dim": K, "rope_dim": J, "value_dim": layer.value_dim}
    part = _with_limits(layer, words, facts)
    return Part(", ".join(said for said in (part.words, layer.remark) if said), part.facts)


@describe.register
def _compressed_attention(layer: CompressedAttention) -> Part:
    H, K, W = layer.heads, layer.head_dim, layer.window
    words = f"attention MQA {H}:1, heads of {K} with keys that are values, window of {W}"
    facts = {"kind": "compressed", "heads": H, "head_dim": K, "window": W}
    if layer.compressor is not None:
        chosen = "all" if layer.indexer is None else f"{layer.indexer.top_k} that an indexer chooses"
        words += f", and one entry for {layer.compressor.every} tokens: {chosen}"
        facts |= {"every": layer.compressor.every}
    return Part(words, facts)


def _with_limits(layer: Attention | LatentAttention, words: str, facts: Mapping[str, object]) -> Part:
    """Add the window or chunk, and whether attention is bidirectional."""
    limits = layer.limits()
    words += "" if limits.window is None else f", window of {limits.window}"
    words += "" if limits.chunk is None else f", in chunks of {limits.chunk}"
    words += "" if limits.causal else ", to both sides"
    return Part(words, {**facts, **limits._asdict()})


@describe.register
def _delta_net(layer: GatedDeltaNet) -> Part:
    H, G, K, K_v = layer.heads, layer.groups, layer.head_dim, layer.value_dim
    width = len(layer.convolution)
    words = f"gated delta net, {H} heads keep {K} × {K_v} numbers each, convolution over {width}"
    facts = {"heads": H, "groups": G, "head_dim": K, "value_dim": K_v, "convolution": width}
    return Part(words, {"kind": "delta_net", **facts})


@describe.register
def _lightning_attention(layer: LightningAttention) -> Part:
    H, K = layer.heads, layer.head_dim
    words = f"lightning attention, {H} heads keep {K} × {K} numbers each"
    return Part(words, {"kind": "lightning", "heads": H, "head_dim": K})


@describe.register
def _channel_delta_net(layer: ChannelDeltaNet) -> Part:
    H, K, width = layer.heads, layer.head_dim, len(layer.convolution)
    words = f"delta net with a decay for each channel, {H} heads keep {K} × {K} numbers each"
    facts = {"heads": H, "head_dim": K, "convolution": width}
    return Part(f"{words}, convolution over {width}", {"kind": "channel_delta_net", **facts})


@describe.register
def _mamba1(layer: Mamba1) -> Part:
    width, channels = layer.convolution.shape
    N = len(layer.A)
    words = f"Mamba 1, {channels} channels keep {N} numbers each, convolution over {width}"
    words += "" if layer.norms is None else ", norms of Δ, B and C"
    return Part(words, {"kind": "Mamba1", "channels": channels, "state_size": N, "convolution": width})


@describe.register
def _mamba2(layer: Mamba2) -> Part:
    H, P, G, N = layer.heads, layer.head_dim, layer.groups, layer.state_size
    width = len(layer.convolution)
    words = f"Mamba 2, {H} heads keep {P} × {N} numbers each, convolution over {width}"
    facts = {"heads": H, "head_dim": P, "groups": G, "state_size": N, "convolution": width}
    return Part(words, {"kind": "Mamba2", **facts})


@describe.register
def _mlstm(layer: MLSTM) -> Part:
    H, K, V = layer.heads, layer.head_dim, layer.value_dim
    words = f"mLSTM, {H} heads keep {K} × {V + 1} numbers each"
    return Part(words, {"kind": "mlstm", "heads": H, "head_dim": K, "value_dim": V})


@describe.register
def _rg_lru(layer: RGLRU) -> Part:
    width, channels = layer.convolution.shape
    words = f"RG-LRU, {channels} channels keep a number each, convolution over {width}"
    return Part(words, {"kind": "RG-LRU", "channels": channels, "convolution": width})


@describe.register
def _short_convolution(layer: ShortConvolution) -> Part:
    width, channels = layer.convolution.shape
    words = f"gated convolution over {width} tokens, {channels} channels"
    return Part(words, {"kind": "ShortConvolution", "channels": channels, "convolution": width})


@describe.register
def _time_mixing(layer: TimeMixing) -> Part:
    D, channels = layer.k.weight.shape
    words = f"time mixing, {channels} channels keep 3 numbers each, and {D} of the token before"
    return Part(words, {"kind": "time_mixing", "channels": channels, "width": D})


# Feed-forward layers.

ACTIVATION_NAMES: Mapping[Activation, str] = {
    gelu: "GELU",
    gelu_tanh: "GELU (tanh)",
    relu: "ReLU",
    silu: "SiLU",
}
GATED_NAMES: Mapping[Activation, str] = {
    gelu: "GeGLU",
    gelu_tanh: "GeGLU (tanh)",
    relu: "ReGLU",
    silu: "SwiGLU",
}


def _named(activation: Activation) -> str:
    name: str = getattr(activation, "__name__", "?")  # a partial has none
    return ACTIVATION_NAMES.get(activation, name.replace("_", " "))


@describe.register
def _feed_forward(layer: FeedForward) -> Part:
    D, F = layer.up.weight.shape
    activation = _named(layer.activation)
    words = f"plain, {activation}, {D} → {F} → {D} ({F / D:.3g} × the width)"
    return Part(words, {"kind": "plain", "activation": activation, "width": D, "inner": F})


@describe.register
def _channel_mixing(layer: ChannelMixing) -> Part:
    D, F = layer.up.weight.shape
    words = (
        f"channel mixing with the token before, ReLU² and a gate, {D} → {F} → {D} ({F / D:.3g} × the width)"
    )
    return Part(words, {"kind": "channel_mixing", "width": D, "inner": F})


@describe.register(GatedFeedForward)
@describe.register(Expert)
def _gated_feed_forward(layer: GatedFeedForward | Expert) -> Part:
    F, D = layer.down.weight.shape
    activation = _named(layer.activation)
    name = GATED_NAMES.get(layer.activation, activation)
    words = f"gated, {name}, {D} → 2 × {F} → {D} ({F / D:.3g} × the width)"
    return Part(words, {"kind": "gated", "activation": activation, "width": D, "inner": F})


@describe.register
def _experts(layer: Experts) -> Part:
    E, k, one = len(layer.experts), layer.per_token, describe(layer.experts[0])
    words = f"{k} of {E} experts for each token, each {one.words}"
    return Part(words, {"kind": "experts", "experts": E, "per_token": k, "expert": one.facts})


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
