"""What a built model is, in words and numbers, read off its layers.

A config says what an architecture calls things; the layers that were built from it say what is computed. So
nothing here knows a model by its name. Each kind of layer has one function below, found by the layer's class;
a new architecture made of known layers needs none, and an unknown layer is called by the name of its class.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import singledispatch
from typing import Any

from tinystar_np.kernels.activations import gelu, gelu_tanh, relu, silu
from tinystar_np.layers import (
    Attention,
    Embedding,
    FeedForward,
    GatedFeedForward,
    LayerNorm,
    Linear,
    ParallelBlock,
    RMSNorm,
    SequentialBlock,
)
from tinystar_np.layers.blocks import ParallelPostNormBlock, PostNormBlock, no_norm
from tinystar_np.layers.complex_attention import ComplexAttention
from tinystar_np.layers.experts import Experts, RoutedAndShared
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.layers.mamba1 import Mamba1
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.layers.mixer_block import MixerBlock
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.sinusoidal import Sinusoidal
from tinystar_np.models.decoder import Decoder
from tinystar_np.models.rope_parameters import RopeParameters


@dataclass(frozen=True)
class Part:
    """One part of a model.

    words  for people
    facts  the same for programs: ``kind`` and the numbers of that kind
    """

    words: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """What a model is.

    parts   what the model has one of: {"layers": …, "norms": …, "output": …}
    layers  what each layer has, by its role: [{"block": …, "mixer": …, "positions": …, "feed_forward": …}]
    """

    parts: Mapping[str, Part]
    layers: Sequence[Mapping[str, Part]]

    def kinds(self, role: str) -> list[tuple[Part, list[int]]]:
        """Group the layers by what they have in this role: [(part, the layers that have it), …]."""
        found: dict[str, tuple[Part, list[int]]] = {}
        for i, layer in enumerate(self.layers):
            if role in layer:
                found.setdefault(layer[role].words, (layer[role], []))[1].append(i)
        return list(found.values())


def describe_model(model: Decoder) -> Description:
    """Describe a model; one without weights will do (models/hollow.py)."""
    layers = [_layer(block, model.config) for block in model.blocks]
    width = model.tokens.weight.shape[1]
    parts = {"layers": Part(f"{len(layers)}, {width} wide", {"count": len(layers), "width": width})}
    added = _added_positions(model)
    if added is not None:
        parts["positions"] = added
        for layer in layers:
            layer.pop("positions", None)
    elif all(isinstance(mixer_of(block), Mamba1 | Mamba2) for block in model.blocks):
        parts["positions"] = Part("none: a recurrence reads in order", {"kind": "none"})
    parts["norms"] = _norms(model)
    parts["biases"] = _biases(model.blocks)
    parts |= _multipliers(model)
    parts["output"] = _output(model)
    parts["vocabulary"] = Part(f"{model.vocab_size} tokens", {"size": model.vocab_size})
    parts["context"] = _context(model)
    return Description(parts, layers)


def _layer(block: Any, config: Any) -> dict[str, Part]:
    """Describe a block by its roles; one that is not there is left out."""
    mixer = mixer_of(block)
    layer = {"block": describe(block), "mixer": describe(mixer)}
    if isinstance(mixer, Attention | LatentAttention):
        layer["positions"] = _positions(mixer, config)
        width = mixer.head_dim + getattr(mixer, "rope_dim", 0)
        if abs(mixer.scale * width**0.5 - 1) > 1e-6:
            words = f"scaled by {mixer.scale:.4g} instead of 1/√{width}"
            layer["scores"] = Part(words, {"scale": mixer.scale})
    if getattr(block, "feed_forward", None) is not None:
        layer["feed_forward"] = describe(block.feed_forward)
    return layer


def mixer_of(block: Any) -> Any:
    """Find the part of a block that lets tokens hear of each other: what keeps a state."""
    return next((part for part in vars(block).values() if hasattr(part, "new_state")), block)


@singledispatch
def describe(layer: object) -> Part:
    """Describe a layer; one of an unknown class by the name of its class."""
    name = type(layer).__name__
    return Part(name, {"kind": name})


# Blocks.


@describe.register
def _sequential(block: SequentialBlock) -> Part:
    norms = [block.attention_norm, block.feed_forward_norm]
    behind = [block.attention_post_norm, block.feed_forward_post_norm]
    where = "before and behind each part" if any(behind) else "before each part"
    count = _count([*norms, *behind])
    return Part(f"sequential, {_a_norm(where, count)}", {"kind": "sequential", "norms": count})


@describe.register
def _post_norm(block: PostNormBlock) -> Part:
    count = _count([block.attention_post_norm, block.feed_forward_post_norm])
    return Part(
        f"sequential, {_a_norm('behind each addition', count)}", {"kind": "sequential", "norms": count}
    )


@describe.register
def _parallel(block: ParallelBlock) -> Part:
    norms = [block.attention_norm, block.feed_forward_norm]
    behind = [block.attention_post_norm, block.feed_forward_post_norm]
    which = "one norm for both" if block.feed_forward_norm is None else "a norm for each"
    which += " and one behind each" if any(behind) else ""
    count = _count([*norms, *behind])
    words = f"parallel, {block.attention.name} beside feed-forward, {which if count else 'no norm'}"
    return Part(words, {"kind": "parallel", "norms": count})


@describe.register
def _parallel_post_norm(block: ParallelPostNormBlock) -> Part:
    count = _count([block.post_norm])
    which = _a_norm("behind the addition", count)
    words = f"parallel, {block.attention.name} beside feed-forward, {which}"
    return Part(words, {"kind": "parallel", "norms": count})


def _count(norms: Sequence[Any]) -> int:
    """Count those that are there and do something."""
    return sum(norm is not None and norm is not no_norm for norm in norms)


def _a_norm(where: str, count: int) -> str:
    return f"a norm {where}" if count else "no norm"


@describe.register
def _mixer_block(block: MixerBlock) -> Part:
    return Part("a norm and a mixer, no feed-forward layer", {"kind": "mixer", "norms": 1})


# Mixers, and where the order of the tokens comes from.


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
    facts = {"kind": name[:3], "heads": H, "groups": G, "head_dim": K, "window": layer.window}
    words = f"attention {name}, {shared}, heads of {K}"
    if isinstance(layer, ComplexAttention):
        words, facts["complex"] = f"complex {words} complex numbers", True
    return Part(words + _what_it_sees(layer), facts | _sight(layer))


@describe.register
def _latent_attention(layer: LatentAttention) -> Part:
    H, R, K, J = layer.heads, layer.rank, layer.head_dim, layer.rope_dim
    turned = f" and a key of {J}" if J else ""
    words = f"latent attention, {H} heads of {K}, which share a latent of {R}{turned}"
    facts = {"kind": "MLA", "heads": H, "rank": R, "head_dim": K, "rope_dim": J, "value_dim": layer.value_dim}
    return Part(words + _what_it_sees(layer), facts | {"window": layer.window} | _sight(layer))


def _what_it_sees(layer: Attention | LatentAttention) -> str:
    window = "" if layer.window is None else f", window of {layer.window}"
    return window if layer.causal else f"{window}, to both sides"


def _sight(layer: Attention | LatentAttention) -> dict[str, bool]:
    return {} if layer.causal else {"causal": False}


@describe.register
def _mamba1(layer: Mamba1) -> Part:
    channels, width = layer.convolution.shape
    N = len(layer.A)
    words = f"Mamba 1, {channels} channels keep {N} numbers each, convolution over {width}"
    return Part(words, {"kind": "Mamba1", "channels": channels, "state_size": N, "convolution": width})


@describe.register
def _mamba2(layer: Mamba2) -> Part:
    H, P, G, N = layer.heads, layer.head_dim, layer.groups, layer.state_size
    width = layer.convolution.shape[1]
    words = f"Mamba 2, {H} heads keep {P} × {N} numbers each, convolution over {width}"
    facts = {"heads": H, "head_dim": P, "groups": G, "state_size": N, "convolution": width}
    return Part(words, {"kind": "Mamba2", **facts})


def _added_positions(model: Decoder) -> Part | None:
    """Describe the vectors of positions that are added to tokens; None where there are none."""
    added = getattr(getattr(model, "embedder", model), "positions", None)
    if isinstance(added, Embedding):
        places = added.weight.shape[0]
        return Part(f"learned, a vector for each of {places} places", {"kind": "learned", "places": places})
    if isinstance(added, Sinusoidal):
        return Part("sinusoidal, waves added to the tokens", {"kind": "sinusoidal"})
    return None


def _positions(mixer: Attention | LatentAttention, config: Any) -> Part:
    relative = getattr(mixer, "relative", None)
    if relative is not None:
        furthest = len(relative.keys) // 2
        words = f"relative, a learned vector for each distance up to {furthest}"
        return Part(words, {"kind": "relative", "furthest": furthest})
    if isinstance(mixer.rope, Rotary):
        rule = getattr(config, "rope", None)
        if not isinstance(rule, RopeParameters):
            return Part("RoPE", {"kind": "RoPE"})
        said = {f.name: getattr(rule, f.name) for f in fields(rule) if getattr(rule, f.name) != f.default}
        return Part(str(rule), {"kind": "RoPE", **said})
    if mixer.rope is not None:
        return describe(mixer.rope)
    if mixer.key_bias is not None or mixer.distance_bias is not None:
        return Part("ALiBi: scores fall with distance, in each head at another slope", {"kind": "ALiBi"})
    return Part("none", {"kind": "none"})


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


# What the whole model has.


@describe.register
def _layer_norm(layer: LayerNorm) -> Part:
    words = f"LayerNorm{'' if layer.bias is not None else ' without bias'}, eps {layer.eps:g}"
    return Part(words, {"kind": "LayerNorm", "eps": layer.eps, "bias": layer.bias is not None})


@describe.register
def _rms_norm(layer: RMSNorm) -> Part:
    return Part(f"RMSNorm, eps {layer.eps:g}", {"kind": "RMSNorm", "eps": layer.eps})


def _norms(model: Decoder) -> Part:
    """Describe all norms in one phrase; they differ in few models."""
    norms = [part for block in model.blocks for name, part in vars(block).items() if name.endswith("_norm")]
    there = [norm for norm in [*norms, model.final_norm] if norm is not None and norm is not no_norm]
    found = {part.words: part for part in map(describe, there)}
    if not found:
        return Part("none", {"kind": "none"})
    if len(found) == 1:
        return next(iter(found.values()))
    return Part("; ".join(found), {"kinds": [part.facts for part in found.values()]})


def _biases(blocks: Sequence[Any]) -> Part:
    """Say what adds a bias: nothing, everything, or some linear layers and convolutions."""
    found = {name: biased for block in blocks for name, biased in _possible_biases(block, "")}
    names = [name for name, biased in found.items() if biased]
    if not names:
        return Part("none", {"in": []})
    if len(names) == len(found):
        return Part("in every layer", {"in": names})
    return Part(", ".join(name.replace("_", "-").replace(".", " ") for name in names), {"in": names})


def _possible_biases(layer: Any, path: str) -> Iterator[tuple[str, bool]]:
    """Walk through a layer: the path of what may have a bias, and whether it has.

    Of layers in a list, the first stands for all.
    """
    for name, part in getattr(layer, "__dict__", {}).items():
        part = part[0] if isinstance(part, list) and part else part
        if isinstance(part, Linear):
            yield path + name, part.bias is not None
        elif name.endswith("_bias") and name.startswith("convolution"):
            yield path + "convolution", part is not None
        elif type(part).__module__.startswith("tinystar_np.layers"):
            # A block calls its mixer "attention", whatever it is: the mixer itself knows better.
            yield from _possible_biases(part, f"{path}{getattr(part, 'name', name)}.")


def _multipliers(model: Decoder) -> dict[str, Part]:
    """Describe what embeddings, branches and logits are multiplied by, in the models that do so."""
    config = model.config
    found = {
        "embeddings": getattr(config, "embedding_multiplier", 1),
        "what each part adds": getattr(model.blocks[0], "residual_multiplier", 1),
        "logits": 1 / getattr(config, "logits_scaling", 1),
    }
    found = {what: factor for what, factor in found.items() if factor != 1}
    words = ", ".join(f"{what} × {factor:.4g}" for what, factor in found.items())
    return {"multipliers": Part(words, found)} if found else {}


def _output(model: Decoder) -> Part:
    tied = not any(name.startswith("head.") for name in model.weights)
    words = "the embedding table once more (tied)" if tied else "a matrix of its own (untied)"
    return Part(words, {"tied": tied})


def _context(model: Decoder) -> Part:
    limit, trained = model.context_length, model.trained_length
    facts = {"limit": limit, "trained": trained}
    if limit is not None:
        return Part(f"{limit} tokens and no more", facts)
    if trained is not None:
        return Part(f"{trained} tokens by training; computes beyond", facts)
    return Part("no limit", facts)
