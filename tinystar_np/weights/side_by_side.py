"""Small matrices that multiply the same vectors, laid side by side, so that one product does for all.

BLAS multiplies a vector by a small matrix in one thread, and one core reads memory half as fast as two. In a
narrow model the matrices of queries, keys and values are so small, and in most files they are three. Together
they are large enough for all threads:

    a token of a model of SmolLM2's shape (135M: 331 776 and twice 110 592 weights)   47.7 → 44.5 ms
    of a model of OLMoE's shape, narrower (three times 262 144)                        31.0 → 29.6 ms

(two cores, by turns). Where the single ones are large, nothing is gained, and nothing is done. Weights in a
mapped file are copied for it, and the file's memory is let go: they are in memory once.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.safetensors_file import let_go
from tinystar_np.layers_old.matrices import NarrowMatrix

TOGETHER = (("attention.q", "attention.k", "attention.v"), ("feed_forward.gate", "feed_forward.up"))
"""Layers of a block that read the same vectors."""
LEAST_IN_THREADS = 460_800
"""Weights of the smallest matrix by which OpenBLAS 0.3.31 multiplies a vector in threads (gemv.c)."""


def side_by_side(weights: Mapping[str, NDArray | NarrowMatrix]) -> dict[str, NDArray | NarrowMatrix]:
    """Lay matrices side by side where one product is faster than several.

    weights  {our name: array or matrix}

    Returns the same, some of the arrays in another place of memory.
    """
    laid = dict(weights)
    for first, *others in TOGETHER:
        for name in [name for name in weights if name.endswith(f".{first}.weight")]:
            block = name.removesuffix(f"{first}.weight")
            names = [name, *(f"{block}{other}.weight" for other in others)]
            found = [weights.get(each) for each in names]
            matrices = [matrix for matrix in found if isinstance(matrix, np.ndarray)]
            if len(matrices) == len(names) and _is_worth_it(matrices):
                laid |= zip(names, _laid(matrices), strict=True)
    return laid


def _is_worth_it(matrices: Sequence[NDArray]) -> bool:
    """Whether small ones make up half of them, and together they are large."""
    sizes = [matrix.size for matrix in matrices]
    small = sum(size for size in sizes if size < LEAST_IN_THREADS)
    return 2 * small >= sum(sizes) >= LEAST_IN_THREADS


def _laid(matrices: Sequence[NDArray]) -> list[NDArray]:
    """Copy matrices (in, out) into one, of which they are columns."""
    rows = np.concatenate([matrix.T for matrix in matrices])  # (outs, in)
    rows.flags.writeable = False
    for matrix in matrices:
        let_go(matrix)
    ends = np.cumsum([matrix.shape[1] for matrix in matrices])
    return [part.T for part in np.split(rows, ends[:-1])]
