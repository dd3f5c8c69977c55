"""The order of rows: whether one array has the rows of another in another order, and what that order means.

Files of the same model differ in order where heads are exchanged, where queries and keys are stored for the
other layout of rotary embedding (kernels/rope.py), or where q, k and v lie by head instead of one after the
other. Rows are told apart by their products with a few random vectors, which are as different as the rows
are (Johnson & Lindenstrauss 1984), so rounded rows are still found.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PROJECTIONS = 16
MOST_BY_NEAREST = 4096  # rows whose distances to each other are all computed; more must be equal to be found
TRIED = 8  # rows that are looked for first
BLOCK = 512  # rows whose distances to the others are computed together
ROUNDED = 0.1
"""What rounding to 4 bits or more changes at most, as a share of the root mean square."""
LISTED = 8  # places that are listed


@dataclass(frozen=True)
class Heads:
    """How an axis is divided.

    width  numbers of a head
    parts  how many parts of equal length the axis has before heads are counted: 3 for q, k, v side by side
    """

    width: int
    parts: int = 1


def same_rows(a: NDArray, b: NDArray) -> NDArray[np.intp] | None:
    """Find the order of a's rows in which they are b's: b ≈ a[order].

    a, b  (N, M)

    Returns the order (N,), or None where b has other rows.
    """
    if a.shape != b.shape or len(a) < 2 or a.size == 0:
        return None
    vectors = np.random.default_rng(0).standard_normal((a.shape[1], PROJECTIONS)).astype(np.float32)
    ours, theirs = a @ vectors, b @ vectors  # (N, 16) each
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return None
    if a.shape[1] > 1 and not _some_are_there(ours, theirs):
        return None
    if a.shape[1] == 1 or len(a) > MOST_BY_NEAREST:
        order = _by_sorting(ours[:, 0], theirs[:, 0])
    else:
        order = _by_distance(ours, theirs)
    if len(np.unique(order)) < len(order):
        return None
    error = root_mean_square(a[order] - b)
    most = ROUNDED if a.shape[1] > 1 else 1e-6  # single numbers have neighbours everywhere
    return order if error <= most * root_mean_square(b) else None


def _some_are_there(ours: NDArray, theirs: NDArray) -> bool:
    """Say whether a few rows of ``theirs`` are rows of ``ours``: if not, no order is looked for."""
    some = theirs[np.linspace(0, len(theirs) - 1, TRIED, dtype=int)]
    lengths = (some * some).sum(axis=1)
    nearest = np.array([((ours - row) ** 2).sum(axis=1).min() for row in some])
    return int(np.count_nonzero(nearest <= 4 * ROUNDED**2 * lengths)) > TRIED // 2


def _by_sorting(ours: NDArray, theirs: NDArray) -> NDArray[np.intp]:
    order = np.empty(len(ours), np.intp)
    order[np.argsort(theirs, kind="stable")] = np.argsort(ours, kind="stable")
    return order


def _by_distance(ours: NDArray, theirs: NDArray) -> NDArray[np.intp]:
    """Return for each row of ``theirs`` the nearest of ``ours``; of equally near ones that in its place."""
    lengths = (ours * ours).sum(axis=1)
    order = np.empty(len(theirs), np.intp)
    for start in range(0, len(theirs), BLOCK):
        some = theirs[start : start + BLOCK]
        distances = (
            lengths - 2 * some @ ours.T
        )  # less the length of the row itself, which is the same for all
        nearest = distances.argmin(axis=1)
        rows = np.arange(len(some))
        stays = distances[rows, start + rows] <= distances[rows, nearest]
        order[start : start + BLOCK] = np.where(stays, start + rows, nearest)
    return order


def root_mean_square(x: NDArray) -> float:
    """Return the root mean square of all numbers of an array, to four digits in float32."""
    if not x.size:
        return 0.0
    flat = x.ravel(order="K")
    with np.errstate(over="ignore", under="ignore"):
        square = float(np.dot(flat, flat))
    if not 1e-30 < square < 1e30:  # float32 ends there
        square = float(np.square(flat, dtype=np.float64).sum())
    return float(np.sqrt(square / x.size))


def order_in_words(order: NDArray[np.intp], heads: Heads | None, what: str = "rows") -> str:
    """Say what an order means.

    order  b's row i is a's row order[i]
    heads  how the axis is divided into heads; None where it is not
    what   the rows' name, in the plural
    """
    whole = _whole_in_words(order, what)
    if heads is None or heads.width < 2 or len(order) % heads.width:
        return whole
    K = heads.width
    by_head = order.reshape(-1, K)
    heads_order, inside = by_head[:, 0] // K, by_head % K
    if (by_head // K != heads_order[:, None]).any():
        return whole  # heads are not kept together
    said = []
    if (heads_order != np.arange(len(heads_order))).any():
        said.append(_heads_in_words(heads_order, heads))
    moved = (inside != np.arange(K)).any(axis=1)
    if moved.any():
        within = [inside_in_words(row) for row in inside[moved]]
        where = "in each head" if moved.all() else f"in {_numbered('head', np.flatnonzero(moved))}"
        words = within[0] if len(set(within)) == 1 else "the numbers are in another order"
        said.append(f"{where} {words}")
    return "; ".join(said)


def _heads_in_words(order: NDArray[np.intp], heads: Heads) -> str:
    H, parts = len(order), heads.parts
    if parts > 1 and H % parts == 0:
        in_turn = np.arange(H).reshape(parts, -1).T.ravel()
        if np.array_equal(order, in_turn):
            return "q, k and v follow each other head by head, instead of all q, all k, all v"
        if np.array_equal(order, np.argsort(in_turn)):
            return "all q, all k and all v follow each other, instead of q, k and v head by head"
        each = H // parts
        if (order // each == np.arange(H) // each).all():
            said = [
                f"{name}: {_whole_in_words(part % each, 'heads')}"
                for name, part in zip("qkv", order.reshape(parts, each), strict=False)
                if (part % each != np.arange(each)).any()
            ]
            return "; ".join(said)
    return _whole_in_words(order, "heads")


def inside_in_words(order: NDArray[np.intp]) -> str:
    """Say what an order of the K numbers of a head means."""
    K = len(order)
    rest = np.arange(K)
    for J in range(2, K // 2 + 1):  # pairs of rotary embedding
        interleaved = np.concatenate([np.arange(2 * J).reshape(2, J).T.ravel(), rest[2 * J :]])
        if np.array_equal(order, interleaved):
            return "pairs are neighbours instead of in two halves: the other rotary layout"
        if np.array_equal(order, np.argsort(interleaved)):
            return "pairs are in two halves instead of neighbours: the other rotary layout"
    return _whole_in_words(order, "numbers")


def _whole_in_words(order: NDArray[np.intp], what: str) -> str:
    N = len(order)
    moved = np.flatnonzero(order != np.arange(N))
    if len(moved) == 0:
        return f"{what} are in the same order"
    if len(moved) == 2:
        return f"{what} {moved[0]} and {moved[1]} are exchanged"
    if np.array_equal(order, np.arange(N)[::-1]):
        return f"{what} are in reverse order"
    shift = int(order[0])
    if np.array_equal(order, (np.arange(N) + shift) % N):
        if 2 * shift == N:
            return f"the two halves of the {what} are exchanged"
        by = shift if 2 * shift < N else N - shift
        return f"{what} are shifted by {by}"
    for parts in range(2, N // 2 + 1):
        if N % parts == 0 and np.array_equal(order, np.arange(N).reshape(parts, -1).T.ravel()):
            return f"{what} are taken in turns from {parts} parts, which follow each other in the other"
    if len(order) <= LISTED:
        return f"{what} are in another order: {', '.join(map(str, order))}"
    return f"{len(moved)} of {N} {what} are in another order"


def _numbered(what: str, numbers: NDArray[np.intp]) -> str:
    """Write "head 3" or "heads 0, 1, 5"."""
    listed = ", ".join(map(str, numbers[:LISTED])) + (", …" if len(numbers) > LISTED else "")
    return f"{what}{'' if len(numbers) == 1 else 's'} {listed}"


def runs_in_words(what: str, numbers: NDArray[np.intp]) -> str:
    """Write runs of numbers: "rows 0–63, 128–191"."""
    ends = np.flatnonzero(np.diff(numbers) != 1)
    firsts, lasts = numbers[np.r_[0, ends + 1]], numbers[np.r_[ends, len(numbers) - 1]]
    runs = [f"{a}–{b}" if b > a else str(a) for a, b in zip(firsts, lasts, strict=True)]
    words = ", ".join(runs[:LISTED]) + (", …" if len(runs) > LISTED else "")
    return f"{what}{'' if len(numbers) == 1 else 's'} {words}"
