"""The kind of difference between two tensors of the same name: how the one can be made from the other.

A tensor that a conversion got wrong is mostly the right one after some simple change. These are tried, the
simplest first: another element type, a constant factor or summand, the transpose, another order of rows or
columns, a few rows alone. What none of them explains is described by its correlation.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.bfloat16 import from_bfloat16, to_bfloat16
from tinystar_np.kernels.int8 import dequantise, quantise
from tinystar_np.seeing.comparison.orders import (
    ROUNDED,
    Heads,
    order_in_words,
    root_mean_square,
    runs_in_words,
    same_rows,
)

EXACTLY = 1e-5  # of the root mean square: what float32 loses in a product or sum
SAMPLE = 64  # rows that are tried first
FEW = 0.5  # the largest share of rows of which it is said that these alone differ

Axes = tuple[Heads | None, Heads | None]
"""How rows and columns are divided into heads."""


def tensor_kind(a: NDArray, b: NDArray, axes: Axes = (None, None)) -> str:
    """Say how b can be made from a, in words that go on from "B's is A's, but …".

    a, b  (N,), (N, M) or, with experts, more axes; rows are outputs
    axes  how the first two axes are divided into heads
    """
    a, b = np.atleast_1d(a), np.atleast_1d(b)
    if a.shape != b.shape:
        return _shapes_in_words(a, b)
    a, b = a.astype(np.float32, copy=False), b.astype(np.float32, copy=False)
    for name, x in (("A", a), ("B", b)):
        wrong = x.size - int(np.count_nonzero(np.isfinite(x)))
        if wrong:
            return f"{wrong} of {x.size} numbers of {name} are NaN or infinite"
    rows_a, rows_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return (
        _alone(rows_a, rows_b)
        or _affine(rows_a, rows_b)
        or _rounding(rows_a, rows_b)
        or (_transposed(a, b) if a.ndim == 2 else "")
        or _reordered(rows_a, rows_b, axes)
        or _some_rows(rows_a, rows_b, axes[0])
        or _by_axis(rows_a, rows_b)
        or _unlike(rows_a, rows_b)
    )


def _shapes_in_words(a: NDArray, b: NDArray) -> str:
    both = f"{_shape(a)} in A, {_shape(b)} in B"
    if a.ndim == b.ndim == 2 and a.shape == b.shape[::-1] and _close(a.T, b):
        return f"transposed: {both}"
    if a.shape[1:] == b.shape[1:] and len(a) != len(b):
        common = min(len(a), len(b))
        longer, rows = "B" if len(b) > len(a) else "A", "rows" if a.ndim > 1 else "numbers"
        if np.array_equal(a[:common], b[:common]):
            return f"{abs(len(a) - len(b))} more {rows} in {longer}, the others are equal"
    return f"of another shape: {both}"


def _shape(x: NDArray) -> str:
    return " × ".join(map(str, x.shape))


def _alone(a: NDArray, b: NDArray) -> str:
    """Recognise what does not depend on the other: numbers that are all alike."""
    for name, x in (("B", b), ("A", a)):
        if x.size > 1 and (x == x.flat[0]).all():
            return f"all {x.flat[0]:g} in {name}"
    return ""


def _rounding(a: NDArray, b: NDArray) -> str:
    """Recognise one as the other in fewer bits."""
    size = root_mean_square(a)
    apart = root_mean_square(a - b)
    if apart > ROUNDED * size:
        return ""
    for x, y, name in ((a, b, "B"), (b, a, "A")):
        for element_type, rounded in ROUNDINGS.items():
            if np.array_equal(rounded(x), y):
                return f"rounded to {element_type} in {name}"
    if np.abs(a - b).max() > ROUNDED * np.abs(a).max() or np.count_nonzero(a != b) < FEW * a.size:
        return ""
    return f"close: {apart / size:.1e} of its size apart: rounded to few bits, or trained further"


def _to_float16(x: NDArray) -> NDArray:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


ROUNDINGS: dict[str, Callable[[NDArray], NDArray]] = {
    "float16": _to_float16,
    "bfloat16": lambda x: from_bfloat16(to_bfloat16(x)),
    "int8": lambda x: dequantise(*quantise(x)),
}


def _slope(a: NDArray, b: NDArray) -> tuple[float, float]:
    """Return the factor c that brings c a nearest to b, and the root mean square of what is left."""
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    square = float((wide_a * wide_a).sum())
    c = float((wide_a * wide_b).sum()) / square if square else 0.0
    return c, root_mean_square(wide_b - c * wide_a)


def _affine(a: NDArray, b: NDArray) -> str:
    """Recognise a constant factor, or a constant summand."""
    size = root_mean_square(b)
    if a.size < 2:
        return f"{b.flat[0]:g} in B, {a.flat[0]:g} in A"
    if len(a) > SAMPLE and not _affine(a[:SAMPLE], b[:SAMPLE]):
        return ""  # what does not hold of some rows does not hold of all
    c, left = _slope(a, b)
    if left <= EXACTLY * size:
        return "of the opposite sign" if abs(c + 1) < EXACTLY else f"times {_number(c)}"
    step = b.astype(np.float64) - a
    if float(step.std()) <= EXACTLY * max(size, root_mean_square(a)):
        summand = float(step.mean())
        if abs(abs(summand) - 1) < EXACTLY:
            one = "larger" if summand > 0 else "smaller"
            return f"{one} by one, as a gain is where files store gain − 1"
        return f"plus {_number(summand)}"
    return ""


def _number(c: float) -> str:
    """Write a factor; a recognisable one as a root or fraction, too."""
    for value, words in ((c * c, "√{}"), (1 / (c * c), "1/√{}"), (1 / c, "1/{}")):
        whole = round(value)
        if 2 <= whole < 100_000 and abs(value / whole - 1) < 2 * EXACTLY and abs(c - round(c)) > EXACTLY:
            return f"{c:.6g} = {words.format(whole)}"
    return f"{c:.6g}"


def _close(a: NDArray, b: NDArray) -> bool:
    return root_mean_square(a - b) <= ROUNDED * root_mean_square(b)


def _transposed(a: NDArray, b: NDArray) -> str:
    return "transposed" if a.shape[0] == a.shape[1] > 1 and _close(a.T, b) else ""


def _reordered(a: NDArray, b: NDArray, axes: Axes) -> str:
    """Recognise another order of rows, or of columns."""
    for x, y, heads, what in ((a, b, axes[0], "rows"), (a.T, b.T, axes[1], "columns")):
        order = same_rows(x, y)
        if order is not None and (order != np.arange(len(order))).any():
            words = order_in_words(order, heads, what)
            exact = root_mean_square(x[order] - y) <= EXACTLY * root_mean_square(y)
            return words if exact else f"{words}, and rounded"
    return ""


def _some_rows(a: NDArray, b: NDArray, heads: Heads | None) -> str:
    """Recognise where few rows differ, and say how these do."""
    numbers = np.argwhere(a != b)
    if len(numbers) == 1:
        row, column = map(int, numbers[0])
        at = f"[{row}]" if a.shape[1] == 1 else f"[{row}, {column}]"
        return f"one number differs: {at} is {b[row, column]:.6g}, in A {a[row, column]:.6g}"
    (rows, columns), (N, M) = map(np.unique, numbers.T), a.shape
    what, lines = ("column", columns) if len(columns) * N < len(rows) * M else ("row", rows)
    if len(lines) > FEW * (N if what == "row" else M):
        return ""
    some = f"only {runs_in_words(what, lines)} of {a.shape[what == 'column']} differ{'s' * (len(lines) == 1)}"
    if what == "row" and heads and len(lines) % heads.width == 0:
        which = np.unique(lines // heads.width)
        if len(which) * heads.width == len(lines):
            some = f"only {runs_in_words('head', which)} differ{'s' if len(which) == 1 else ''}"
    part_a, part_b = (a[:, lines], b[:, lines]) if what == "column" else (a[lines], b[lines])
    how = _alone(part_a, part_b) or (_affine(part_a, part_b) if part_a.size > 1 else "")
    return f"{some}: {how}" if how else some


def _by_axis(a: NDArray, b: NDArray) -> str:
    """Recognise a factor of each row, or of each column: a gain or a scale that was multiplied in."""
    if a.shape[1] < 2 or len(a) < 2:
        return ""
    size = root_mean_square(b)
    for axis, what in ((1, "row"), (0, "column")):
        square = (a * a).sum(axis=axis, dtype=np.float64, keepdims=True)
        factors = (a * b).sum(axis=axis, dtype=np.float64, keepdims=True) / np.where(square, square, 1)
        if root_mean_square(b - factors * a) <= 10 * EXACTLY * size:
            return f"each {what} by a factor of its own, {factors.min():.3g} to {factors.max():.3g}"
    return ""


def _unlike(a: NDArray, b: NDArray) -> str:
    """Describe what none of the simple changes explains."""
    size_a, size_b = root_mean_square(a), root_mean_square(b)
    mean = float(np.mean(a.astype(np.float64) * b))
    correlation = mean / (size_a * size_b) if size_a and size_b else 0.0
    return (
        f"other numbers: correlation {round(correlation, 2) + 0.0:.2f}, {size_b / size_a:.2f} times as large"
    )
