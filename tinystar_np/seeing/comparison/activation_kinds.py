"""The kind of difference between two activations, from the numbers alone: what the layer before got wrong.

An error has a shape. A norm with another epsilon changes each token by a factor of its own, another gain
each feature by its own; a missing bias is the same vector at every token; queries rotated with another base
turn by other angles at the same lengths; a window is a distance beyond which probabilities are 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.seeing.comparison.orders import (
    Heads,
    order_in_words,
    root_mean_square,
    runs_in_words,
    same_rows,
)
from tinystar_np.seeing.comparison.rotation_kinds import rotation_kind
from tinystar_np.seeing.comparison.tensors import LAYER

LEFT_OVER = 1e-2
"""What a kind may leave unexplained, as a share of the difference."""
BY_HEAD = ("q", "k", "v", "q_norm", "k_norm", "q_rotated", "k_rotated", "mixed")
STREAM = ("residual", "residual_middle", "embedding")
BRANCHES = ("attention.out", "mixers", "feed_forward.down", "feed_forward.experts", "feed_forward.out")
READS: Mapping[str, Sequence[str]] = {
    "attention.q_rotated": ("attention.q_norm", "attention.q"),
    "attention.k_rotated": ("attention.k_norm", "attention.k"),
    "attention.q_norm": ("attention.q",),
    "attention.k_norm": ("attention.k",),
    **dict.fromkeys(("attention_norm", "mixer_norm", "feed_forward_norm", "final_norm"), STREAM),
    **dict.fromkeys(("attention_post_norm", "feed_forward_post_norm", "post_norm"), BRANCHES),
}
"""What an activation is made from: the last of these before it."""


@dataclass(frozen=True)
class Compared:
    """An activation of two runs, whose earlier ones agree.

    name   our name of it
    a      the reference's
    b      ours, of the same shape
    ours   all of our activations, in their order
    gain   the stored gain where it is the output of a norm
    bias   what that norm adds last
    """

    name: str
    a: NDArray
    b: NDArray
    ours: Mapping[str, NDArray]
    gain: NDArray | None = None
    bias: NDArray | None = None

    @property
    def leaf(self) -> str:
        """The name within its block."""
        return LAYER.sub("", self.name)

    def made_from(self) -> NDArray | None:
        """Return what the activation is made from, None where that is not known."""
        names = list(self.ours)
        earlier = names[: names.index(self.name)] if self.name in names else []
        wanted = READS.get(self.leaf, ())
        return next((self.ours[name] for name in earlier[::-1] if LAYER.sub("", name) in wanted), None)


def activation_kind(x: Compared) -> str:
    """Say how b differs from a; "" where it is nothing simple."""
    if not (np.isfinite(x.a).all() and np.isfinite(x.b).all()):
        return "NaN or infinity" + (" in A" if not np.isfinite(x.a).all() else " in B")
    said = ""
    if x.leaf.endswith(("q_rotated", "k_rotated")):
        before = x.made_from()
        said = "" if before is None else rotation_kind(before, x.a, x.b)
        said = said or "q and k agree before the rotation: RoPE"
    elif x.leaf == "attention.probabilities":
        said = _probabilities(x)
    elif x.leaf.endswith("norm"):
        said = _norm(x)
    if not said and x.a.ndim == 4 and x.leaf.removeprefix("attention.") in BY_HEAD:
        said = _by_head(x.a, x.b)
    return said or _simple(x.a, x.b) or _positions(x.a, x.b)


def _by_head(a: NDArray, b: NDArray) -> str:
    """Recognise another order of heads, or of the numbers in each: (B, H, T, K)."""
    _, H, _, K = a.shape
    rows_a, rows_b = (np.moveaxis(x, 2, -1).reshape(H * K, -1) for x in (a, b))  # of one text
    order = same_rows(rows_a, rows_b)
    if order is None or (order == np.arange(H * K)).all():
        wrong = np.flatnonzero(np.abs(a - b).max(axis=(0, 2, 3)) > 1e-3 * np.abs(a).max())
        if 0 < len(wrong) < H:
            which = runs_in_words("head", wrong)
            return f"only {which} of {H} differ{'s' if len(wrong) == 1 else ''}"
        return ""
    return order_in_words(order, Heads(K), "rows")


def _left(a: NDArray, b: NDArray, explained: NDArray) -> bool:
    """Say whether an explanation of b leaves no more than a small part of its difference from a."""
    return root_mean_square(b - explained) <= LEFT_OVER * root_mean_square(b - a)


def _simple(a: NDArray, b: NDArray) -> str:
    """Recognise a factor, and a vector that is added at every token; the last axis has features."""
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    square = float((wide_a * wide_a).sum())
    factor = float((wide_a * wide_b).sum()) / square if square else 0.0
    if _left(wide_a, wide_b, factor * wide_a):
        return f"times {factor:.6g} in B: a multiplier or a scale"
    tokens = a.ndim - 2
    if a.shape[tokens] > 1:
        step = (wide_b - wide_a).mean(axis=tokens, keepdims=True)
        if _left(wide_a, wide_b, wide_a + step):
            return "the same vector is added at every token: a bias is missing, or another"
    axes = tuple(range(a.ndim - 1))
    squares = (wide_a * wide_a).sum(axis=axes, keepdims=True)
    factors = (wide_a * wide_b).sum(axis=axes, keepdims=True) / np.where(squares, squares, 1)
    if a.size > a.shape[-1] and _left(wide_a, wide_b, factors * wide_a):
        return f"each feature by a factor of its own, {factors.min():.3g} to {factors.max():.3g}: a gain"
    return ""


def _positions(a: NDArray, b: NDArray) -> str:
    """Recognise what begins at some token."""
    tokens = a.ndim - 2
    if a.ndim < 3 or a.shape[tokens] < 2:
        return ""
    axes = tuple(axis for axis in range(a.ndim) if axis != tokens)
    wrong = np.flatnonzero(np.abs(a - b).max(axis=axes) > 1e-4 * np.abs(a).max())
    if (
        len(wrong) and wrong[0] > 1
    ):  # the first sees itself alone, whatever is wrong with how tokens are mixed
        return f"the first {wrong[0]} tokens agree: positions, a window or the mask"
    return ""


def _norm(x: Compared) -> str:
    """Recognise an epsilon, a gain, and the form of a norm."""
    a, b = x.a.astype(np.float64), x.b.astype(np.float64)
    if x.bias is not None and x.bias.size == a.shape[-1]:
        a, b = a - x.bias, b - x.bias
    squares = (a * a).sum(axis=-1, keepdims=True)
    factors = (a * b).sum(axis=-1, keepdims=True) / np.where(squares, squares, 1)  # of each token
    if _left(a, b, factors * a):
        if factors.std() < 1e-3 * abs(factors.mean() - 1):
            return f"times {factors.mean():.6g} in B: a multiplier or a scale"
        return f"gains agree, each token is longer or shorter: the epsilon{_epsilons(x.made_from(), factors)}"
    if x.gain is not None and x.gain.size == a.shape[-1]:
        stored = x.gain.reshape(-1).astype(np.float64)
        for there, here in (("A", "B"), ("B", "A")):
            one, other = (a, b) if there == "A" else (b, a)
            if root_mean_square(one * stored - other * (1 + stored)) <= LEFT_OVER * root_mean_square(one):
                return f"off by one: {there} multiplies by 1 + the stored gain, {here} by the gain itself"
    return ""


def _epsilons(before: NDArray | None, factors: NDArray) -> str:
    """Estimate both epsilons from what was normed (…, D) and how much longer each token is in B (…, 1).

    factor² = (m + ε_A) / (m + ε_B), with m the mean square of a token, or its variance.
    """
    if before is None or before.shape[:-1] != factors.shape[:-1] or factors.size < 2:
        return ""
    wide = before.astype(np.float64)
    squared = factors.ravel() ** 2
    best = None
    for m in ((wide * wide).mean(axis=-1).ravel(), wide.var(axis=-1).ravel()):
        # m (factor² − 1) = ε_A − factor² ε_B
        sides = np.stack([np.ones_like(squared), -squared], axis=1)
        change = m * (squared - 1)
        found, *_ = np.linalg.lstsq(sides, change, rcond=None)
        error = root_mean_square(sides @ found - change) / max(root_mean_square(change), 1e-30)
        if best is None or error < best[0]:
            best = error, found
    if best is None or best[0] > 1e-2 or best[1].min() < -0.1 * best[1].max():
        return ""
    larger = "A" if best[1][0] > best[1][1] else "B"
    return f"; it is larger in {larger}, by about {abs(best[1][0] - best[1][1]):.2g}"


def _probabilities(x: Compared) -> str:
    """Recognise masks, scales and biases of scores from probabilities (B, H, T, S)."""
    a, b = x.a.astype(np.float64), x.b.astype(np.float64)
    T, S = a.shape[-2:]
    distances = np.arange(S - T, S)[:, None] - np.arange(S)  # (T, S)
    seen_a, seen_b = ((p > 0).any(axis=(0, 1)) for p in (a, b))
    if (seen_a != seen_b).any():
        if (distances[seen_a].min() < 0) != (distances[seen_b].min() < 0):
            return f"{'A' if distances[seen_a].min() < 0 else 'B'} sees later tokens: the mask is not causal"
        furthest = [int(distances[seen].max()) + 1 for seen in (seen_a, seen_b)]
        if furthest[0] != furthest[1]:
            reach = [f"{n} tokens" if n < S else "all tokens" for n in furthest]
            return f"A sees {reach[0]} back, its own included, B {reach[1]}: the window"
        return "A and B mask different tokens"
    both = (a > 1e-12) & (b > 1e-12)
    log_a, log_b = (np.log(np.where(both, p, 1.0)) for p in (a, b))
    counts = np.maximum(both.sum(axis=-1, keepdims=True), 1)
    log_a, log_b = (
        np.where(both, log - log.sum(axis=-1, keepdims=True) / counts, 0) for log in (log_a, log_b)
    )
    square = float((log_a * log_a).sum())
    scale = float((log_a * log_b).sum()) / square if square else 1.0
    if abs(scale - 1) > 1e-4 and _left(log_a, log_b, scale * log_a):
        return f"scores are {scale:.6g} times as large in B: the scale"
    far = np.where(both, distances, 0) - np.where(both, distances, 0).sum(axis=-1, keepdims=True) / counts
    far = np.where(both, far, 0)
    squares = (far * far).sum(axis=(0, 2, 3), keepdims=True)
    slopes = (far * (log_b - log_a)).sum(axis=(0, 2, 3), keepdims=True) / np.where(squares, squares, 1)
    if _left(log_a, log_b, log_a + slopes * far):
        return "scores differ by a slope with distance: ALiBi"
    sums = [float(np.abs(p.sum(axis=-1) - 1).max()) for p in (a, b)]
    if max(sums) > 1e-3 > min(sums):
        return f"probabilities of {'A' if sums[0] > sums[1] else 'B'} do not add up to 1: sinks"
    return _cap(x, log_a, both) or _by_head(a, b)


def _cap(x: Compared, log_a: NDArray, both: NDArray) -> str:
    """Recognise scores that one caps and the other does not, or less: c · tanh(score / c).

    log_a  logarithms of A's probabilities, less their mean in each row
    both   which of them count
    """
    scores = x.ours.get(x.name.replace("probabilities", "scores"))
    if scores is None or scores.shape != log_a.shape:
        return ""
    s = np.where(both, scores, 0).astype(np.float64)
    counts = np.maximum(both.sum(axis=-1, keepdims=True), 1)

    def centred(values: NDArray) -> NDArray:
        return np.where(both, values - values.sum(axis=-1, keepdims=True) / counts, 0)

    def apart(side: str, caps: NDArray) -> list[float]:
        """How far A's scores are from what they were if that side had each of these caps."""
        forms = (c * np.tanh(s / c) if side == "A" else c * np.arctanh(s / c) for c in caps)
        return [root_mean_square(centred(form) - log_a) for form in forms]

    largest = float(np.abs(s).max())
    tried = {"A": largest * np.geomspace(0.1, 100, 40), "B": largest * (1 + np.geomspace(1e-3, 100, 40))}
    for side, caps in tried.items() if largest else ():
        best = int(np.argmin(apart(side, caps)))
        finer = np.geomspace(caps[max(best - 1, 0)], caps[min(best + 1, len(caps) - 1)], 100)
        errors = apart(side, finer)
        if min(errors) <= LEFT_OVER * root_mean_square(centred(s) - log_a):
            c = finer[int(np.argmin(errors))]
            other = "B" if side == "A" else "A"
            return f"large scores are smaller in {side}: a soft cap, of about {c:.2g} if {other} has none"
    return ""
