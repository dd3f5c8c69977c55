"""The taps' values as the page stores them: for each token colours, statistics and the largest values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.seeing.page.arrays import Arrays, coded, group_width, pooled

LARGEST = 3
"""How many values of each token are stored exactly."""
UNSTORED = ("attention.probabilities", "logits")
"""Taps that the page shows in views of their own, from arrays of their own."""


@dataclass(frozen=True)
class TapRows:
    """One tap as rows, one for each token, and what is said of each row.

    path        full: "blocks.3.attention.q"
    rows        (T, n)
    heads       into how many heads a row is divided; 1 where it is not
    statistics  (T, 4): smallest, largest, mean, root mean square
    largest     (T, 3): the values furthest from 0; NaN where a row has fewer
    largest_at  (T, 3): where they stand; −1 where there are none
    """

    path: str
    rows: NDArray
    heads: int
    statistics: NDArray[np.float32]
    largest: NDArray[np.float32]
    largest_at: NDArray[np.int32]


def tap_rows(recording: Mapping[str, NDArray], begin: int = 0) -> list[TapRows]:
    """Return all recorded taps of one text as rows, from position ``begin`` on."""
    found = []
    for path, array in recording.items():
        if path.endswith(UNSTORED):
            continue
        x, heads = array[0], 1  # (T, ...), or (H, T, K) in attention
        if x.ndim == 3:
            if ".attention." in path and not path.endswith((".gate", ".gated")):
                x = x.transpose(1, 0, 2)  # (T, H, K)
            heads = x.shape[1]
        x = x[begin:]
        rows = x.reshape(len(x), -1).astype(np.float32)
        found.append(TapRows(path, rows, heads, statistics(rows), *largest_values(rows)))
    return found


def add_taps(arrays: Arrays, taps: Sequence[TapRows], first: int, columns: int) -> list[dict[str, object]]:
    """Store taps from their row ``first`` on, each at most ``columns`` wide, and return the table of them.

    Of n values that share a column the one furthest from 0 is stored. ``taps.codes`` has all colours, one tap
    after the other, (P, columns) each; ``taps.scale`` the largest |x| of each row (see page/arrays.py);
    ``taps.statistics``, ``taps.largest`` and ``taps.largest_at`` what ``TapRows`` says of each row.
    """
    codes, scales, table, at = [], [], [], 0
    for tap in taps:
        n = tap.rows.shape[-1]
        code, scale = coded(pooled(tap.rows[first:], columns))
        table.append(
            {"path": tap.path, "n": n, "columns": code.shape[-1], "share": group_width(n, columns),
             "heads": tap.heads, "at": at}
        )  # fmt: skip
        at += code.size
        codes.append(code.ravel())
        scales.append(scale)
    arrays.add("taps.codes", np.concatenate(codes))
    arrays.add("taps.scale", np.stack(scales))
    arrays.add("taps.statistics", np.stack([tap.statistics[first:] for tap in taps]))
    arrays.add("taps.largest", np.stack([tap.largest[first:] for tap in taps]))
    arrays.add("taps.largest_at", np.stack([tap.largest_at[first:] for tap in taps]))
    return table


def statistics(rows: NDArray) -> NDArray[np.float32]:
    """Return smallest, largest, mean and root mean square of each row: (T, n) → (T, 4)."""
    with np.errstate(invalid="ignore", over="ignore"):
        mean = rows.mean(axis=-1, dtype=np.float64)
        squares = np.einsum("tn,tn->t", rows, rows, dtype=np.float64) / rows.shape[-1]
        found = (rows.min(axis=-1), rows.max(axis=-1), mean, np.sqrt(squares))
        return np.stack(found, axis=-1).astype(np.float32)


def largest_values(rows: NDArray) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the values furthest from 0 of each row and their places: (T, n) → (T, 3), (T, 3)."""
    k = min(LARGEST, rows.shape[-1])
    size = np.abs(np.nan_to_num(rows))
    places = np.argpartition(-size, k - 1, axis=-1)[:, :k]
    order = np.argsort(-np.take_along_axis(size, places, axis=-1), axis=-1, kind="stable")
    places = np.take_along_axis(places, order, axis=-1)
    values = np.full((len(rows), LARGEST), np.nan, dtype=np.float32)
    values[:, :k] = np.take_along_axis(rows, places, axis=-1)
    at = np.full((len(rows), LARGEST), -1, dtype=np.int32)
    at[:, :k] = places
    return values, at
