"""Rotations of Qwen's models of text and images: which pairs go by time, rows and columns (M-RoPE).

A config.json has the sizes of the three sections beside the other parameters of rotations, as
``mrope_section``.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

import numpy as np

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.kernels.rope_axes import sections, sections_in_turns
from tinystar_np.layers.rope_axes import TextRotary
from tinystar_np.models.config import require
from tinystar_np.models.rope_keys import RopeKeys
from tinystar_np.models.rope_parameters import RopeParameters

Order = Literal["one after the other", "in turns"]
"""How sections lie among the pairs: as in Qwen2-VL, or as in Qwen3-VL."""
BY_LENGTH = ("dynamic", "longrope")


def mrope(keys: Mapping[str, object], head_dim: int, order: Order) -> RopeParameters:
    """Read the parameters of rotations; a config class calls ``mrope(vars(self), K, …)``.

    order  of the sections in this architecture

    The rule "mrope" of Qwen2-VL's files is the default one: that there are sections says all else.
    Raises ConfigError, naming key and value.
    """
    given = RopeKeys.of(keys, None)
    rule = "type" if given.inside.get("rope_type") is None else "rope_type"
    if given.inside.get(rule) == "mrope" and order == "one after the other":
        keys = {**keys, "rope_scaling": None, "rope_parameters": {**given.inside, rule: "default"}}
    parameters = RopeParameters.read(keys, head_dim=head_dim)
    require(
        parameters.rope_type not in BY_LENGTH,
        f"{given.name(rule)} = {parameters.rope_type!r} is not implemented for this architecture: it goes by "
        "the length of a text, which is not the number of its tokens where it has images.",
    )
    turns = given.inside.get("mrope_interleaved")
    require(
        turns is None or turns is (order == "in turns"),
        f"{given.name('mrope_interleaved')} = {shown(turns)}, but in this architecture sections lie {order}.",
    )
    return parameters


def mrope_sections(
    keys: Mapping[str, object], head_dim: int, order: Order, usual: Sequence[int]
) -> tuple[int, ...]:
    """Read how many pairs of a head go by time, rows and columns; as ``mrope``.

    usual  where the config does not say it
    """
    given = RopeKeys.of(keys, None)
    found = given.inside.get("mrope_section")
    name = given.name("mrope_section") if found is not None else "mrope_section, by default,"
    sizes = list(usual) if found is None else found
    are_counts = isinstance(sizes, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in sizes
    )
    require(are_counts, f"{name} = {shown(sizes)}, but it must be a list of whole numbers, at least 0.")
    assert isinstance(sizes, list)
    if order == "in turns":
        require(len(sizes) == 3, f"{name} = {shown(sizes)}, but there are three axes.")
    else:
        pairs = head_dim // 2
        require(
            sum(sizes) == pairs,
            f"{name} = {shown(sizes)} are {sum(sizes)} pairs, but a head of {head_dim} numbers has {pairs}.",
        )
    return tuple(sizes)


@cache
def sectioned_rotary(parameters: RopeParameters, sizes: tuple[int, ...], order: Order) -> TextRotary:
    """Return the layer, the same object for equal parameters, so that tables are made once a call.

    sizes, order  as ``mrope_sections`` returned, and was given
    """
    frequencies = parameters.frequencies()
    assert isinstance(frequencies, np.ndarray)  # the others are refused
    pairs = len(frequencies)
    axes = sections(sizes) if order == "one after the other" else sections_in_turns(sizes, pairs)
    return TextRotary(frequencies, axes, attention_factor=parameters.attention_factor, rule=parameters)
