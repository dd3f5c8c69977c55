"""What a built model is, in words and numbers, read off its layers.

A config says what an architecture calls things; the layers that were built from it say what is computed. So
nothing here knows a model by its name, and an architecture made of known layers needs nothing here. Each kind
of layer is described in describe_layers.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.inspection.describe_layers import Part, describe, side_by_side
from tinystar_np.layers_old import Attention, Embedding, Linear
from tinystar_np.layers_old.blocks import no_norm
from tinystar_np.layers_old.delta_net import GatedDeltaNet
from tinystar_np.layers_old.latent_attention import LatentAttention
from tinystar_np.layers_old.mamba1 import Mamba1
from tinystar_np.layers_old.mamba2 import Mamba2
from tinystar_np.layers_old.rope import Rotary
from tinystar_np.layers_old.sinusoidal import Sinusoidal
from tinystar_np.models.base import Decoder


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
    """Describe a model; one without weights will do (inspection/hollow.py)."""
    layers = [_layer(block, model.config) for block in model.blocks]
    width = model.tokens.weight.shape[1]
    parts = {"layers": Part(f"{len(layers)}, {width} wide", {"count": len(layers), "width": width})}
    added = getattr(getattr(model, "embedder", model), "positions", None)  # to tokens
    if isinstance(added, Embedding | Sinusoidal):
        parts["positions"] = describe(added)
        for layer in layers:
            layer.pop("positions", None)
    elif all(
        isinstance(mixer, GatedDeltaNet | Mamba1 | Mamba2) for mixer in chain(*map(mixers_of, model.blocks))
    ):
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
    mixer, *beside = mixers_of(block)
    layer = {"block": describe(block), "mixer": side_by_side([mixer, *beside])}
    if isinstance(mixer, Attention | LatentAttention):
        layer["positions"] = _positions(mixer, config)
        width = mixer.head_dim + getattr(mixer, "rope_dim", 0)
        if abs(mixer.scale * width**0.5 - 1) > 1e-6:
            words = f"scaled by {mixer.scale:.4g} instead of 1/√{width}"
            layer["scores"] = Part(words, {"scale": mixer.scale})
    if getattr(block, "feed_forward", None) is not None:
        layer["feed_forward"] = describe(block.feed_forward)
    return layer


def mixers_of(block: Any) -> list[Any]:
    """Find the parts of a block that let tokens hear of each other: what keeps a state. Most have one."""
    return [part for part in vars(block).values() if hasattr(part, "new_state")] or [block]


def _positions(mixer: Attention | LatentAttention, config: Any) -> Part:
    relative = getattr(mixer, "relative", None)
    if relative is not None:
        furthest = len(relative.keys) // 2
        words = f"relative, a learned vector for each distance up to {furthest}"
        return Part(words, {"kind": "relative", "furthest": furthest})
    if isinstance(mixer.rope, Rotary):
        rule = getattr(config, "rope", None)
        if hasattr(config, "ropes"):  # one for each kind of layer, and this is one of those that they made
            rule = next(rule for rule in config.ropes.values() if rule.rotary() is mixer.rope)
        if not isinstance(rule, RopeParameters):
            return Part("RoPE", {"kind": "RoPE"})
        said = {f.name: getattr(rule, f.name) for f in fields(rule) if getattr(rule, f.name) != f.default}
        return Part(str(rule), {"kind": "RoPE", **said})
    if mixer.rope is not None:
        return describe(mixer.rope)
    if mixer.key_bias is not None or mixer.distance_bias is not None:
        return Part("ALiBi: scores fall with distance, in each head at another slope", {"kind": "ALiBi"})
    return Part("none", {"kind": "none"})


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
        elif type(part).__module__.startswith("tinystar_np.layers_old"):
            # A block calls its mixer "attention", whatever it is: the mixer itself knows better.
            yield from _possible_biases(part, f"{path}{getattr(part, 'name', name)}.")


def _multipliers(model: Decoder) -> dict[str, Part]:
    """Describe what embeddings, branches and logits are multiplied by, in the models that do so."""
    config = model.config
    found = {
        "embeddings": getattr(config, "embedding_multiplier", 1),
        "what each part adds": getattr(model.blocks[0], "residual_multiplier", 1),
        **_multipliers_inside(model.blocks[0]),
        "logits": 1 / getattr(config, "logits_scaling", 1),
    }
    found = {what: factor for what, factor in found.items() if factor != 1}
    words = ", ".join(f"{what} × {factor:.4g}" for what, factor in found.items())
    return {"multipliers": Part(words, found)} if found else {}


def _multipliers_inside(block: Any) -> dict[str, float]:
    """Find what stands at the ends of mixers and feed-forward layers, all layers having the same."""
    found: dict[str, float] = {}
    for part in ("attention", "mixer"):
        before, behind = getattr(block, f"{part}_multipliers", (1, 1))
        found |= {f"{part}'s input": before, f"{part}'s result": behind}
    gate, result = getattr(getattr(block, "feed_forward", None), "multipliers", (1, 1))
    found |= {"feed-forward's gate": gate, "feed-forward's result": result}
    return found


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
