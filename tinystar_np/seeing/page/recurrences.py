"""Recurrences for the page: what each token takes from each earlier one, and how long the state keeps it."""

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinystar_np.seeing.page.arrays import Arrays
from tinystar_np.seeing.recurrence import (
    mean_mixing,
    mixing_matrix,
    recurrent_layers,
    recurrent_size,
    scan_outputs,
    state_decay,
    state_norms,
)

if TYPE_CHECKING:
    from tinystar_np.seeing.look import Seen

Json = dict[str, object]
MOST_NUMBERS = 600_000
"""Of all matrices together: about as many bytes."""


@dataclass(frozen=True)
class Mixing:
    """A recurrent layer.

    layer   its number
    matrix  (h, T, T) what each token takes from each earlier one, of each head; or of neighbouring heads the
            mean of the absolute values
    heads   how many heads, or channels, the layer has
    decay   (h, T) what is left of the state when a token comes, a mean where heads share a matrix
    norms   (T,) how large the state is after each token, all heads together
    size    of the state, such as (H, P, N)
    nbytes  of all that is kept
    """

    layer: int
    matrix: NDArray
    heads: int
    decay: NDArray
    norms: NDArray
    size: tuple[int, ...]
    nbytes: int


def mixings(seen: "Seen") -> list[Mixing]:
    """Return the recurrent layers, as many heads of each as there is room for."""
    layers = recurrent_layers(seen.model)
    T = len(seen.ids)
    found = []
    for layer in layers:
        heads = len(scan_outputs(seen.model, seen.recording, layer))
        groups = _groups(heads, max(1, MOST_NUMBERS // (len(layers) * T * T)))
        if groups == heads:
            matrix = mixing_matrix(seen.model, seen.recording, layer)
        else:
            matrix = mean_mixing(seen.model, seen.recording, layer, groups)
        decay = state_decay(seen.model, seen.recording, layer).reshape(groups, -1, T).mean(axis=1)
        norms = np.sqrt(np.square(state_norms(seen.model, seen.recording, layer)).sum(axis=0))
        size = recurrent_size(seen.model, layer)
        found.append(Mixing(layer, matrix, heads, decay, norms, size.shape, size.nbytes))
    return found


def add_mixings(arrays: Arrays, found: list[Mixing], first: int) -> list[Json]:
    """Store the layers' matrices from position ``first`` on as colours, and return what is said of each."""
    rows: list[Json] = []
    for each in found:
        name = f"recurrence.{each.layer}"
        arrays.add_signed(name, each.matrix[:, first:])
        arrays.add_probabilities(f"{name}.decay", each.decay[:, first:])
        arrays.add(f"{name}.norms", each.norms[first:])
        rows.append(
            {
                "layer": each.layer,
                "shown": len(each.matrix),
                "heads": each.heads,
                "size": list(each.size),
                "numbers": prod(each.size),
                "nbytes": each.nbytes,
            }
        )
    return rows


def _groups(heads: int, most: int) -> int:
    """Return the largest divisor of the heads' number that is at most ``most``."""
    return next(groups for groups in range(min(heads, most), 0, -1) if heads % groups == 0)
