"""Random matrices in blocks, with scales as those of real weights."""

import numpy as np

from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.block_types import BLOCK_TYPES

IN_GROUPS = [name for name, kind in BLOCK_TYPES.items() if kind.weights > 1]

# At which bytes of a block its float16 numbers begin.
SCALES = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,)}
SCALES |= {"Q6_K": (208,), "MXFP4": ()}


def random_blocks(element_type: str, count: int, seed: int = 0) -> np.ndarray:
    """Return (count, bytes of a block), any bytes."""
    shape = count, BLOCK_TYPES[element_type].bytes
    return np.random.default_rng([seed, count]).integers(0, 256, shape, dtype=np.uint8)


def random_block_matrix(element_type: str, rows: int, columns: int, transposed: bool = True) -> BlockMatrix:
    """Return a matrix of any whole numbers whose weights are below some hundreds."""
    kind = BLOCK_TYPES[element_type]
    blocks = random_blocks(element_type, rows * columns // kind.weights)
    draw = np.random.default_rng(1)
    if kind.weights == 1:
        numbers = draw.standard_normal(len(blocks))
        stored = {"F32": numbers.astype("<f4"), "F16": numbers.astype("<f2")}.get(
            element_type, (numbers.astype("<f4").view("<u4") >> 16).astype("<u2")
        )
        blocks = stored.view(np.uint8)
    else:
        for at in SCALES.get(element_type, (0,)):
            scales = 0.01 * draw.standard_normal((len(blocks), 1))
            blocks[:, at : at + 2] = scales.astype("<f2").view(np.uint8)
        if element_type == "MXFP4":
            blocks[:, 0] = draw.integers(118, 128, len(blocks))
    return BlockMatrix(blocks.reshape(rows, -1), element_type, transposed)
