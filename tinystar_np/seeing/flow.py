"""How the taps of a block are connected: which of them each one is computed from.

A model's code says so, but no picture can be drawn from code. The names say it too, because they are the same
in all architectures: queries come from ``qkv`` where there is one, scores from the last form of queries and
keys, ``residual`` from the stream and from what the parts add to it. So a block's picture is drawn from the
names it recorded, for architectures that nobody has thought of here. tests/seeing/test_flow.py holds it
against the models: a changed activation changes exactly what the arrows lead to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STREAM = "x"
"""The name of the residual stream as a block receives it."""
SUMS = (
    *("residual_encoded", "residual_patches", "residual_streams"),
    *("residual_predicted", "residual_middle", "residual_late", "residual_corrected", "residual"),
)
"""Taps of the stream itself: what it was, and all that was added since."""
KEPT = ("residual_normed", "residual_middle_normed")
"""What goes on beside a part where that is not the stream, but its norm (MiniMax-01)."""
OF_THE_STREAM = ("feed_forward.router", "feed_forward.experts")
"""What reads the stream itself where experts have norms of their own (Gemma 4)."""
PER_LAYER = {"gate": "", "gated": "per_layer.gate", "out": "per_layer.gated"}
"""What each tap of a layer's own input is computed from; "" is what it reads."""
MIXERS = {
    # what each tap of a recurrence is computed from; "" is what the mixer reads
    "mixer.in": ("",),
    "mixer.z": ("",),
    "mixer.convolution": ("mixer.in", ""),
    "mixer.x": ("mixer.convolution",),
    "mixer.selection": ("mixer.x",),
    "mixer.B": ("mixer.selection", "mixer.convolution"),
    "mixer.C": ("mixer.selection", "mixer.convolution"),
    "mixer.time_step": ("mixer.selection", "mixer.in"),
    "mixer.q": ("mixer.convolution", "mixer.in", ""),
    "mixer.k": ("mixer.convolution", "mixer.in", ""),
    "mixer.v": ("mixer.convolution", "mixer.in", ""),
    "mixer.receptance": ("",),
    "mixer.output_gate": ("",),
    "mixer.forget_gate": ("",),
    "mixer.norm": ("mixer.scan",),
    "mixer.beta": ("",),
    "mixer.input_gate": ("mixer.convolution", ""),
    "mixer.recurrence_gate": ("mixer.convolution",),
    "mixer.decay": ("mixer.recurrence_gate", ""),
    "mixer.channel_decay": ("",),
}
SHORT_CONVOLUTION = {
    # the same of a convolution between two gates, which has no scan
    "mixer.in": ("",),
    "mixer.B": ("mixer.in",),
    "mixer.C": ("mixer.in",),
    "mixer.x": ("mixer.in",),
    "mixer.input": ("mixer.B", "mixer.x"),
    "mixer.convolution": ("mixer.input",),
    "mixer.gated": ("mixer.C", "mixer.convolution"),
    "mixer.out": ("mixer.gated",),
}
SCANNED = tuple(
    f"mixer.{name}"
    for name in (
        *("x", "q", "k", "v", "B", "C", "time_step", "beta"),
        *("input_gate", "forget_gate", "decay", "channel_decay"),
    )
)
"""What a recurrence's scan may be computed from."""
ROUTED = ("chosen", "weights")
"""What a router decides, in experts within attention (JetMoe)."""


@dataclass(frozen=True)
class Node:
    """One tap of a block, as a node of its picture.

    name   without the block: "attention.scores"
    reads  the taps that it is computed from, and ``STREAM`` for what the block receives
    part   what it belongs to: "attention", "mixer", "feed_forward", or "" for norms and the stream
    """

    name: str
    reads: tuple[str, ...]
    part: str


def block_flow(taps: Mapping[str, NDArray]) -> list[Node]:
    """Return the nodes of a block in the order of the computation.

    taps  {name without the block: array}, as they were recorded, in their order
    """
    names = list(taps)
    nodes: list[Node] = []
    stream, normed, waiting = STREAM, "", list[str]()  # waiting: what will be added to the stream
    sums_normed = _sums_are_normed(taps)
    for name in names:
        part = name.partition(".")[0] if "." in name else ""
        if part:
            apart = name in OF_THE_STREAM and "feed_forward.experts_norm" in names
            reads = _reads(name, names, stream if apart else normed or stream)
            if not any(later.startswith(part + ".") for later in names[names.index(name) + 1 :]):
                waiting.append(name)
        elif name in KEPT:
            reads, stream = (normed,), name
        elif name in SUMS:
            reads = (waiting[-1],) if sums_normed and waiting else (stream, *waiting)
            stream, normed, waiting = name, "", []
        elif name == "shared_out":  # of a block that another layer of the same block reads (Zamba)
            reads, waiting = (waiting[-1],), [name]
        elif "shared_out" in names and name == "feed_forward_norm":
            reads, normed, waiting = (waiting[-1],), name, []
        elif "shared_out" in names and name == "mixer_norm":
            reads, normed, waiting = (stream, *waiting), name, []
        elif name == "mixers":
            reads, waiting = tuple(waiting), [name]
        elif name.endswith("post_norm") and sums_normed:
            reads, waiting = (stream, *waiting), [name]
        elif name.endswith(("_post_norm", "_scaled")):  # of what one part gave
            before = name.removesuffix("_post_norm").removesuffix("_scaled")
            given = next(each for each in waiting if each.startswith(before))
            reads, waiting = (given,), [name if each == given else each for each in waiting]
        else:  # a norm before a part
            reads, normed = (stream,), name
        nodes.append(Node(name, reads, part))
    return nodes


def _sums_are_normed(taps: Mapping[str, NDArray]) -> bool:
    """Say whether the stream itself is normed (post-norm): then the stream is what the norm returned."""
    return any(
        norm in taps and sum_ in taps and np.array_equal(taps[norm], taps[sum_], equal_nan=True)
        for norm, sum_ in (
            ("attention_post_norm", "residual_middle"),
            ("feed_forward_post_norm", "residual"),
            ("post_norm", "residual"),
        )
    )


def _reads(name: str, names: Sequence[str], source: str) -> tuple[str, ...]:
    """Return what a tap within a part is computed from; ``source`` is what the part reads."""
    part, _, own = name.partition(".")
    if part == "attention":
        return _attention_reads(own, [each for each in names if each.startswith("attention.")], source)
    if part == "mixer":
        return _mixer_reads(name, names, source)
    if part == "laurel":
        return ("laurel.left",) if own == "right" else (source,)
    if part == "patches":  # of the bytes themselves
        return ()
    if part == "cross_attention":
        return (source, *(each for each in names if each == "patches.ends"))
    if part == "per_layer":
        return (PER_LAYER[own] or source,)
    return _feed_forward_reads(own, names, source)


def _attention_reads(own: str, names: Sequence[str], source: str) -> tuple[str, ...]:
    """Attention: chains of queries and of keys, each form computed from the one before it."""
    named = [each.removeprefix("attention.") for each in names]
    begin = "qkv" if "qkv" in named else ""
    routed = ("chosen",) if "chosen" in named else ()
    entries = tuple(each for each in named if each.startswith("entry_"))
    chains = {
        "q": [each for each in named if each.startswith("q") and each != "qkv"],
        "k": [each for each in named if each.startswith("k") and not each.startswith("kv_")],
    }
    found: tuple[str, ...]
    if own == "probabilities" and "scores" not in named:  # left out of the recording of a long text
        own = "scores"
    if own == "k_rotated" and "kv_down" in named:
        found = ("kv_down",)
    elif own in chains["q"] or own in chains["k"]:
        chain = chains[own[0]]
        found = (chain[chain.index(own) - 1],) if chain.index(own) else (begin,)
        found += routed if own == "q" else ()
    elif own == "index_scores":
        found = ("q_norm", "")
    elif own == "probabilities" and "index_scores" in named:
        found = ("scores", "index_scores")
    elif own == "scores" and "kv_down" in named:
        rotated = "q" if chains["q"][-1] == "q" else "q_rotated"
        found = ("q", rotated, "kv_norm", "k_rotated" if "k_rotated" in named else "kv_down")
    elif own == "scores":
        found = (chains["q"][-1], *chains["k"][-1:])  # keys may be an earlier layer's
        found += entries
    elif own == "mixed" and "before_norm" in named:
        found = ("before_norm",)
    elif own in ("mixed", "before_norm"):
        values = next((each for each in ("kv_norm", "v_norm", "v") if each in named), "")
        values = "k_rotated" if "out_down" in named else values  # keys are values
        found = ("probabilities", values, *entries) if values else ("probabilities",)
    elif own == "v_norm":
        found = ("v" if "v" in named else "k",)
    elif own == "gated":
        found = ("mixed", "gate")
    elif own == "out" and "out_down" in named:
        found = ("out_down",)
    elif own == "out":
        found = ("gated" if "gated" in named else "mixed", *(each for each in ROUTED if each in named))
    elif own in ROUTED:
        found = ("router",)
    else:
        found = {
            "v": (begin,),
            "kv_norm": ("kv_down",),
            "probabilities": ("scores",),
            "out_down": ("mixed",),
        }.get(own, ("",))
    return tuple(dict.fromkeys(f"attention.{each}" if each else source for each in found))


def _mixer_reads(name: str, names: Sequence[str], source: str) -> tuple[str, ...]:
    """Recurrences: what is written, where and how fast it decays, the scan over them, a gate."""
    if "mixer.input" in names:
        return tuple(each or source for each in SHORT_CONVOLUTION[name])
    if name == "mixer.scan":
        scanned = (*SCANNED, "mixer.convolution") if "mixer.input_gate" in names else SCANNED
        return tuple(each for each in scanned if each in names)
    if name in ("mixer.gated", "mixer.gated_norm"):
        read = "mixer.norm" if "mixer.norm" in names else "mixer.scan"
        gates = ("mixer.output_gate", "mixer.receptance", "mixer.z", "mixer.in")
        return (read, next((gate for gate in gates if gate in names), source))
    if name == "mixer.z" and "mixer.selection" in names:  # in one product with x (Zamba)
        return ("mixer.in",)
    if name == "mixer.out":
        return ("mixer.gated_norm" if "mixer.gated_norm" in names else "mixer.gated",)
    return (next(each for each in MIXERS[name] if each in names or not each) or source,)


def _feed_forward_reads(own: str, names: Sequence[str], source: str) -> tuple[str, ...]:
    """Feed-forward: expand, activate, project back; with experts, a router chooses among such layers."""
    inner = ("before_norm",) if "feed_forward.before_norm" in names else ("gate", "up")
    found = {
        "before_norm": ("gate", "up"),
        "activation": inner,
        "down": ("activation",),
        "chosen": ("router",),
        "weights": ("router",),
        "experts": ("", "chosen", "weights"),
        "dense_norm": ("down",),
        "experts_norm": ("experts",),
        "out": ("experts", "down", "shared_gate", "receptance"),
    }.get(own, ("",))
    if own == "out" and "feed_forward.experts_norm" in names:
        found = ("dense_norm", "experts_norm")
    full = (f"feed_forward.{each}" if each else source for each in found)
    return tuple(each for each in full if each == source or each in names)
