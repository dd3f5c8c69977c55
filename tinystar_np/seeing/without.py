"""What the model would say without a part: the logits, computed again with a head or a layer taken out.

Attribution says what a part added to a logit. Later layers read what it wrote, though, and others often step
in for one that is missing; so what is lost without it may be more, or less, or of the other sign. This is the
number to trust when the question is what a part is needed for.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import InputError
from tinystar_np.layers.channel_delta_net import ChannelDeltaNet
from tinystar_np.layers.delta_net import GatedDeltaNet
from tinystar_np.layers.experts import Experts, ExpertsAndGatedShared, ExpertsAndShared
from tinystar_np.layers.lightning_attention import LightningAttention
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.layers.time_mixing import ChannelMixing
from tinystar_np.models.base import Decoder
from tinystar_np.models.vision_part import Image
from tinystar_np.seeing.branch_parts import layer_of
from tinystar_np.seeing.choice import Numbers
from tinystar_np.seeing.interventions import ablate, intervene
from tinystar_np.seeing.parts import Part

NAME = re.compile(
    r"blocks\.(?P<block>\d{1,9})\.(?P<branch>attention|mixer|feed_forward)"
    r"( (?P<kind>head|expert) (?P<index>\d{1,9})| (?P<shared>shared))?"
)
"""Names of the parts that can be taken out, as ``Part.name`` has them."""


def without(
    model: Decoder,
    ids: ArrayLike,
    parts: Part | str | Sequence[Part | str],
    *,
    positions: Numbers | None = None,
    images: Sequence[Image] | Sequence[Sequence[Image]] = (),
) -> NDArray[np.float32]:
    """Compute the logits with parts taken out, all later layers included: nothing is approximated.

    model      any
    ids        (T,) or (B, T) ints
    parts      one or several, from an ``Attribution`` or by name: a layer ("blocks.3.feed_forward") with all
               that it adds, its bias included; a head ("blocks.3.attention head 2"), an expert
               ("blocks.3.feed_forward expert 5"), or the shared one ("blocks.3.feed_forward shared")
    positions  the tokens at which it is missing; None for all
    images     those of the text or texts, as the model is called with them

    Returns float32 (T, V) or (B, T, V). Raises InputError for what is no head, layer or expert of the model.
    """
    listed = [parts] if isinstance(parts, Part | str) else parts
    if not isinstance(listed, list | tuple) or not listed:
        raise InputError(f"A part, or a list of parts, is to be taken out; found {shown(parts)}")
    with ExitStack() as stack:
        for part in listed:
            name = part.name if isinstance(part, Part) else part
            stack.enter_context(_taken_out(model, name, positions))
        return model(ids, images=images)


def _taken_out(model: Decoder, name: str, positions: Numbers | None) -> AbstractContextManager[None]:
    """Return a context in which the part of this name adds nothing."""
    found = NAME.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        raise InputError(
            f"{shown(name)} is no part that can be taken out: those are layers, such as "
            "'blocks.3.attention', and heads and experts of them, such as 'blocks.3.attention head 2'."
        )
    i, branch = int(found["block"]), found["branch"]
    if i >= len(model.blocks):
        raise InputError(f"{name}: the model has {len(model.blocks)} blocks, 0 to {len(model.blocks) - 1}.")
    layer = layer_of(model.blocks[i], branch)
    if layer is None:
        raise InputError(f"{name}: block {i} has no {branch.replace('_', '-')} layer of a known class.")
    scope = f"blocks.{i}"
    routed = layer.experts if isinstance(layer, ExpertsAndShared | ExpertsAndGatedShared) else layer
    match found["kind"], layer:
        case "head", Mamba2() | GatedDeltaNet() | ChannelDeltaNet() | LightningAttention():
            return _mixer_head_out(layer, scope, int(found["index"]), positions)
        case "head", _ if branch == "attention":
            return ablate(f"{scope}.attention.mixed", heads=int(found["index"]), positions=positions)
        case "expert", _ if isinstance(routed, Experts):
            experts = int(found["index"])
            return ablate(f"{scope}.feed_forward.weights", experts=experts, positions=positions)
        case None, _ if found["shared"] is None:
            return ablate(f"{scope}.{_result(branch, layer)}", positions=positions)
        case None, ExpertsAndShared() | ExpertsAndGatedShared():
            return ablate(f"{scope}.feed_forward.down", positions=positions)
    raise InputError(f"{name}: {scope}.{branch} has no {found['kind'] or 'shared expert'}s.")


def _result(branch: str, layer: object) -> str:
    """Name the tap of what a branch gives."""
    match layer:
        case ExpertsAndShared() | ExpertsAndGatedShared() | ChannelMixing():
            return "feed_forward.out"
        case Experts():
            return "feed_forward.experts"
    return "feed_forward.down" if branch == "feed_forward" else f"{branch}.out"


def _mixer_head_out(
    layer: Mamba2 | GatedDeltaNet | ChannelDeltaNet | LightningAttention,
    scope: str,
    head: int,
    positions: Numbers | None,
) -> AbstractContextManager[None]:
    """Let a head of a recurrence give zeros to the output matrix."""
    if head >= layer.heads:
        raise InputError(f"{scope}.mixer head {head}: it has {layer.heads} heads, 0 to {layer.heads - 1}.")
    normed = isinstance(layer, GatedDeltaNet | ChannelDeltaNet | LightningAttention) or layer.gain is not None
    silenced: Callable[[NDArray], NDArray] = partial(_silenced, heads=layer.heads, head=head)
    return intervene({f"{scope}.mixer.{'gated_norm' if normed else 'gated'}": silenced}, positions=positions)


def _silenced(x: NDArray, heads: int, head: int) -> NDArray:
    """Put zeros in place of one of the heads that are side by side in (B, T, HP)."""
    by_head = np.array(x).reshape(*x.shape[:2], heads, -1)
    by_head[:, :, head] = 0
    return by_head.reshape(x.shape)
