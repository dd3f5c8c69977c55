"""Describing a built model in words and numbers, read from its layers.

A config has an architecture's own names; the layers that were built from it show what is computed. So nothing
here depends on the model's name, and a new architecture of known layers needs no code here. Each kind of
layer is described in describe_layers.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain

import numpy as np

from tinystar_np.cache import NoState, RecurrentState
from tinystar_np.inspection.describe_layers import Part, describe, first_sentence, side_by_side
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, LayerNorm, Linear, Mixer, RMSNorm
from tinystar_np.layers.compressed_attention import CompressedAttention
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.rope_axes import TextRotary
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config
from tinystar_np.models.rope_parameters import RopeParameters


@dataclass(frozen=True)
class Description:
    """The description of a model.

    parts   of the whole model: {"layers": …, "norms": …, "output": …}
    layers  of each layer, by their roles: [{"block": …, "mixer": …, "positions": …, "feed_forward": …}]
    """

    parts: Mapping[str, Part]
    layers: Sequence[Mapping[str, Part]]

    def kinds(self, role: str) -> list[tuple[Part, list[int]]]:
        """Group the layers by their part in this role: [(part, the layers that have it), …]."""
        found: dict[str, tuple[Part, list[int]]] = {}
        for i, layer in enumerate(self.layers):
            if role in layer:
                found.setdefault(layer[role].words, (layer[role], []))[1].append(i)
        return list(found.values())


def describe_model(model: Decoder) -> Description:
    """Describe a model, which needs no weights (inspection/hollow.py)."""
    layers = [_layer(block, model.config) for block in model.blocks]
    width = model.embedding.weight.shape[1]
    parts = {"layers": Part(f"{len(layers)}, {width} wide", {"count": len(layers), "width": width})}
    added = _added_positions(model)
    if added is not None:
        parts["positions"] = added
        for layer in layers:
            layer.pop("positions", None)
    elif all(_reads_in_order(mixer) for mixer in _all_mixers(model)):
        parts["positions"] = Part("none: a recurrence reads in order", {"kind": "none"})
    parts["norms"] = _norms(model)
    parts["biases"] = _biases(model.blocks)
    parts |= _multipliers(model.config)
    parts["output"] = _output(model)
    parts["vocabulary"] = Part(f"{model.vocab_size} tokens", {"size": model.vocab_size})
    parts["context"] = _context(model)
    return Description(parts, layers)


def _layer(block: Mixer, config: Config) -> dict[str, Part]:
    """Describe the parts of a block, by their roles."""
    # RWKV's feed-forward layer reads the token before as well, and has its own line below.
    mixers = [mixer for mixer in mixers_of(block) if mixer is not vars(block).get("feed_forward")]
    layer = {"block": _wiring(block)}
    if mixers:
        layer["mixer"] = side_by_side(mixers)
    attending = [mixer for mixer in mixers if isinstance(mixer, Attention | LatentAttention)]
    if attending:
        mixer = attending[0]
        layer["positions"] = _positions(mixer, config)
        width = mixer.head_dim + (mixer.rope_dim if isinstance(mixer, LatentAttention) else 0)
        if abs(mixer.scale * width**0.5 - 1) > 1e-6:
            words = f"scaled by {mixer.scale:.4g} instead of 1/√{width}"
            layer["scores"] = Part(words, {"scale": mixer.scale})
    compressed = [mixer for mixer in mixers if isinstance(mixer, CompressedAttention)]
    if compressed:
        layer["positions"] = _rotated(compressed[0].rope.rule)
    if "feed_forward" in vars(block):
        layer["feed_forward"] = describe(vars(block)["feed_forward"])
    return layer


def _wiring(block: Mixer) -> Part:
    """Describe how a block is wired: its ``wiring``, or its class's docstring."""
    words = vars(block).get("wiring") or first_sentence(block)
    return Part(words, {"kind": words})


def mixers_of(block: Mixer) -> list[Mixer]:
    """Find a block's mixers, through which tokens see one another: attention and recurrences; mostly one.

    There is none in a block that treats each token by itself, and a block of unknown parts is its own.
    """
    found = [part for part in vars(block).values() if isinstance(part, Mixer)]
    alone = isinstance(block, Mixer) and isinstance(block.new_state(1, 0), NoState)
    return found or ([] if alone else [block])


def _reads_in_order(mixer: Mixer) -> bool:
    """Whether all that a mixer remembers is a recurrence's: it then needs no positions."""
    return type(mixer.new_state(1, 0)) is RecurrentState


def _all_mixers(model: Decoder) -> list[Mixer]:
    return list(chain(*map(mixers_of, model.blocks)))


def _added_positions(model: Decoder) -> Part | None:
    """Describe the vectors of positions that are added to those of tokens; None where there are none."""
    holder = vars(model).get("embedder", model)
    added = vars(holder).get("positions")
    if isinstance(added, Embedding):
        return describe(added)
    if added is not None:
        return Part("sinusoidal, waves added to the tokens", {"kind": "sinusoidal"})
    return None


def _positions(mixer: Attention | LatentAttention, config: Config) -> Part:
    relative = vars(mixer).get("relative")
    if relative is not None:
        furthest = len(relative[0]) // 2
        words = f"relative, a learned vector for each distance up to {furthest}"
        return Part(words, {"kind": "relative", "furthest": furthest})
    if isinstance(mixer.rope, Rotary):
        part = _rotated(mixer.rope.rule)
        if isinstance(mixer.rope, TextRotary):
            pairs = np.bincount(mixer.rope.axes, minlength=3).tolist()
            words = f"{part.words}; {pairs[0]}, {pairs[1]} and {pairs[2]} pairs by time, row and column"
            return Part(words, {**part.facts, "pairs_by_axis": pairs})
        return part
    if mixer.alibi is not None:
        return Part("ALiBi: scores fall with distance, in each head at another slope", {"kind": "ALiBi"})
    return Part("none", {"kind": "none"})


def _rotated(rule: object) -> Part:
    """Describe rotations by their rule."""
    if not isinstance(rule, RopeParameters):
        return Part("RoPE", {"kind": "RoPE"})
    said = {f.name: getattr(rule, f.name) for f in fields(rule) if getattr(rule, f.name) != f.default}
    return Part(str(rule), {"kind": "RoPE", **said})


def _norms(model: Decoder) -> Part:
    """Describe all norms in one phrase."""
    parts = [part for block in model.blocks for part in vars(block).values()]
    nested = [part for whole in parts if isinstance(whole, dict) for part in whole.values()]
    there = [part for part in (*parts, *nested, model.final_norm) if isinstance(part, LayerNorm | RMSNorm)]
    found = {part.words: part for part in map(describe, there)}
    if not found:
        return Part("none", {"kind": "none"})
    if len(found) == 1:
        return next(iter(found.values()))
    return Part("; ".join(found), {"kinds": [part.facts for part in found.values()]})


def _biases(blocks: Sequence[Mixer]) -> Part:
    """Describe which linear layers and convolutions have a bias."""
    found = {name: biased for block in blocks for name, biased in _possible_biases(block, "")}
    names = [name for name, biased in found.items() if biased]
    if not names:
        return Part("none", {"in": []})
    if len(names) == len(found):
        return Part("in every layer", {"in": names})
    return Part(", ".join(name.replace("_", "-").replace(".", " ") for name in names), {"in": names})


def _possible_biases(layer: object, path: str) -> Iterator[tuple[str, bool]]:
    """Yield the path of each linear layer and convolution within a layer, and whether it has a bias.

    Of layers in a list, only the first is walked.
    """
    for name, part in vars(layer).items():
        part = part[0] if isinstance(part, list) and part else part
        if isinstance(part, Linear):
            yield path + name, part.bias is not None
        elif name == "convolution_bias":
            yield path + "convolution", part is not None
        elif type(part).__module__.startswith("tinystar_np.") and hasattr(part, "__dict__"):
            yield from _possible_biases(part, f"{path}{name}.")


def _multipliers(config: Config) -> dict[str, Part]:
    """Describe the multipliers of a config that are not 1, by their keys."""
    found: dict[str, object] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name.endswith(("multiplier", "multipliers", "logits_scaling", "logit_scale")):
            found |= {} if value in (None, 1) else {field.name: value}
    words = ", ".join(f"{key} {_number(value)}" for key, value in found.items())
    return {"multipliers": Part(words, found)} if found else {}


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
