"""Copying a model's matrices into memory, and side by side; fast/layout.py says why.

A model begins with the mapped file, since a short answer is there before copying has paid off; ``load``
copies where it is asked to. Half a gigabyte takes 0.2 s, and 1.3 s on virtual machines that hand out fresh
memory slowly.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import InputError
from tinystar_np.fast import layout
from tinystar_np.fast.machine import usable_memory
from tinystar_np.fast.mapped import let_go, on_file
from tinystar_np.kernels.linear import Matrix
from tinystar_np.layers.basic import Linear
from tinystar_np.progress_bar import bar

TOGETHER = (("attention.q", "attention.k", "attention.v"), ("gate", "up"))
"""Linear layers that read the same vectors, by the ends of their names."""


def side_by_side(weights: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """Lay matrices side by side where one product is faster than several.

    weights  {our name: array or matrix}

    Returns the same matrices, some of them copied; the mapped file's memory of these is released.
    """
    laid = dict(weights)
    for first, *others in TOGETHER:
        end = f".{first}.weight"
        for name in [name for name in weights if name.endswith(end)]:
            names = [name, *(f"{name.removesuffix(end)}.{other}.weight" for other in others)]
            if not all(each in weights for each in names):
                continue
            before = [weights[each] for each in names]
            # No experts: a token needs a few of them, and copying would read them all.
            after = layout.side_by_side(before, copy=".experts." not in name)
            for old, new in zip(before, after, strict=True):
                if new is not old and isinstance(old, np.ndarray):
                    let_go(old)
            laid |= zip(names, after, strict=True)
    return laid


def move_into_memory(layers: object) -> None:
    """Replace the mapped matrices of linear layers by copies.

    layers  a layer, or a list of layers, in which linear layers are searched for

    Raises InputError where there is too little memory; then nothing has changed.
    """
    linears = [linear for linear in dict.fromkeys(linears_of(layers)) if on_file(linear.weight)]
    # Blocks that run at several depths have one matrix in several layers: it is copied once.
    of_each = [linear.weight for linear in linears if isinstance(linear.weight, np.ndarray)]
    matrices = list({id(matrix): matrix for matrix in of_each}.values())
    numbers = sum(matrix.size for matrix in matrices)
    free = usable_memory()
    if free is not None and 4 * numbers > free:
        raise InputError(
            f"The weights take {4e-9 * numbers:.1f} GB of memory, and {1e-9 * free:.1f} GB are free.\n"
            "Read them from the file instead, which needs less, or keep them in a narrower type."
        )
    with bar(numbers, "reading", " weights") as advance:

        def copied(portion: NDArray) -> None:
            let_go(portion)
            advance(portion.size)

        copies = dict(zip(map(id, matrices), layout.lay_out(matrices, copied), strict=True))
        for linear, matrix in zip(linears, of_each, strict=True):
            linear.weight = copies[id(matrix)]


def linears_of(layer: object) -> Iterator[Linear]:
    """Find the linear layers within a layer, or a list of layers."""
    if isinstance(layer, Linear):
        yield layer
    elif isinstance(layer, list | tuple):
        for part in layer:
            yield from linears_of(part)
    elif (
        layer is not None and type(layer).__module__.startswith("tinystar_np.") and hasattr(layer, "__dict__")
    ):
        for part in vars(layer).values():
            yield from linears_of(part)
