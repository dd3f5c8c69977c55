"""Codes of whole numbers as several formats pack them: in 32-bit words, in groups, in other orders."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.packed_tensor import damaged
from tinystar_np.checkpoints.safetensors_file import StoredTensor
from tinystar_np.kernels.codes import Code, whole_numbers

BITS = (4, 8)
"""Sizes of whole numbers that are read."""
WORD = 32


def unpack(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Return codes as whole numbers: bytes (n, m) → (n, 8 m / bits), the first in the lowest bits."""
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)


def pack(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Undo ``unpack``: whole numbers (n, columns) → bytes (n, columns · bits / 8), contiguous."""
    if bits == 8:
        return np.ascontiguousarray(values)
    packed = values[:, 1::2] << np.uint8(4)
    packed |= values[:, ::2]
    return packed


def as_bytes(words: NDArray[np.int32], bits: int, columns: int) -> NDArray[np.uint8]:
    """View words (n, …) as the bytes of ``columns`` codes in each row, without what fills the last word."""
    packed = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)
    return np.ascontiguousarray(packed[:, : columns * bits // 8])


def in_words(columns: int, bits: int) -> int:
    """Say how many words of 32 bits hold a row."""
    return -(-columns * bits // WORD)


def group_width(size: int, inputs: int) -> int:
    """Say how many inputs share a scale; a size of -1 stands for all of them."""
    return max(1, inputs if size == -1 else min(size, inputs))


def with_zeros(bits: int, zeros: NDArray[np.integer]) -> tuple[Code, NDArray[np.integer] | None]:
    """Return a code and its zero points (rows, groups); if all are the same, the code counts from there."""
    first = int(zeros.flat[0]) if zeros.size else 0
    if (zeros == first).all():
        return whole_numbers(bits, first), None
    return whole_numbers(bits), zeros


def order_by_group(groups: StoredTensor, size: int, columns: int) -> NDArray[np.integer] | None:
    """Return the order that brings the columns of each group together; None where they are so already.

    groups   the group of each column, (columns,)
    size     columns in a group; the last may have fewer

    With "desc_act" or "actorder", columns were rounded in the order of how much they matter, and grouped so.
    Raises CheckpointError for groups of other sizes.
    """
    of_columns = groups.array()
    if (of_columns == -1).all():  # never set
        return None
    order = np.argsort(of_columns, kind="stable")
    expected = np.arange(columns) // size
    if not np.array_equal(of_columns[order], expected):
        raise damaged(groups, f"it does not divide {columns} columns into groups of {size}")
    return None if np.array_equal(of_columns, expected) else order
