"""The taps' values as the page stores them: for each token colours, statistics and the largest values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.seeing.page_arrays import Arrays, coded, group_width, pooled

LARGEST = 3
"""How many values of each token are stored exactly."""
INTEGERS = ("feed_forward.chosen",)
UNSTORED = ("attention.probabilities", "logits")
"""Taps that the page shows in views of their own, from arrays of their own."""


@dataclass(frozen=True)
class TapRows:
    """One tap as rows, one for each token.

    path   full: "blocks.3.attention.q"
    rows   (T, n)
    heads  into how many heads a row is divided; 1 where it is not
    """

    path: str
    rows: NDArray
    heads: int


def tap_rows(recording: Mapping[str, NDArray], first: int) -> list[TapRows]:
    """Return all recorded taps of one text as rows, from position ``first`` on."""
    found = []
    for path, array in recording.items():
        if path.endswith(UNSTORED):
            continue
        x, heads = array[0], 1  # (T, ...), or (H, T, K) in attention
        if x.ndim == 3:
            if ".attention." in path and not path.endswith((".gate", ".gated")):
                x = x.transpose(1, 0, 2)  # (T, H, K)
            heads = x.shape[1]
        found.append(TapRows(path, x.reshape(len(x), -1)[first:], heads))
    return found


def add_taps(arrays: Arrays, taps: Sequence[TapRows], columns: int) -> list[dict[str, object]]:
    """Store taps, each at most ``columns`` wide, and return the table of them.

    Of n values that share a column the one furthest from 0 is stored. ``taps.codes`` has all colours, one tap
    after the other, (P, columns) each; ``taps.scale`` the largest |x| of each row (see page_arrays.py);
    ``taps.statistics`` smallest, largest, mean and root mean square; ``taps.largest`` and ``taps.largest_at``
    the values furthest from 0, and where they stand.
    """
    codes, scales, table, at = [], [], [], 0
    for tap in taps:
        n = tap.rows.shape[-1]
        code, scale = coded(pooled(tap.rows.astype(np.float32), columns))
        table.append(
            {"path": tap.path, "n": n, "columns": code.shape[-1], "share": group_width(n, columns),
             "heads": tap.heads, "at": at}
        )  # fmt: skip
        at += code.size
        codes.append(code.ravel())
        scales.append(scale)
    arrays.add("taps.codes", np.concatenate(codes))
    arrays.add("taps.scale", np.stack(scales))
    arrays.add("taps.statistics", np.stack([statistics(tap.rows) for tap in taps]))
    largest = [largest_values(tap.rows) for tap in taps]
    arrays.add("taps.largest", np.stack([values for values, _ in largest]))
    arrays.add("taps.largest_at", np.stack([places for _, places in largest]))
    return table


def statistics(rows: NDArray) -> NDArray[np.float32]:
    """Return smallest, largest, mean and root mean square of each row: (P, n) → (P, 4)."""
    x = rows.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        found = (x.min(axis=-1), x.max(axis=-1), x.mean(axis=-1), np.sqrt((x * x).mean(axis=-1)))
        return np.stack(found, axis=-1).astype(np.float32)


def largest_values(rows: NDArray) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the values furthest from 0 of each row and their places: (P, n) → (P, 3), (P, 3).

    A row with fewer values is filled up with NaN at place −1.
    """
    k = min(LARGEST, rows.shape[-1])
    size = np.abs(np.nan_to_num(rows.astype(np.float32)))
    places = np.argsort(-size, axis=-1, kind="stable")[:, :k]
    values = np.full((len(rows), LARGEST), np.nan, dtype=np.float32)
    values[:, :k] = np.take_along_axis(rows, places, axis=-1)
    at = np.full((len(rows), LARGEST), -1, dtype=np.int32)
    at[:, :k] = places
    return values, at
