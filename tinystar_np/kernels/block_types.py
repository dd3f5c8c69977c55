"""The types of blocks by name: how many weights and bytes a block has, and what its bytes mean.

kernels/gguf_blocks.py defines those of one number or 32 weights, kernels/gguf_superblocks.py those of 256.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels import gguf_blocks as short
from tinystar_np.kernels import gguf_superblocks as long


class BlockType(NamedTuple):
    """A type of blocks.

    weights  in a block
    bytes    of a block
    unpack   the definition: bytes (n, bytes) → float32 (n, weights)

    >>> 8 * BLOCK_TYPES["Q4_0"].bytes / BLOCK_TYPES["Q4_0"].weights  # bits for a weight
    4.5
    """

    weights: int
    bytes: int
    unpack: Callable[[NDArray[np.uint8]], NDArray[np.float32]]


BLOCK_TYPES = {
    "F32": BlockType(1, 4, short.f32),
    "F16": BlockType(1, 2, short.f16),
    "BF16": BlockType(1, 2, short.bf16),
    "Q4_0": BlockType(32, 18, short.q4_0),
    "Q4_1": BlockType(32, 20, short.q4_1),
    "Q5_0": BlockType(32, 22, short.q5_0),
    "Q5_1": BlockType(32, 24, short.q5_1),
    "Q8_0": BlockType(32, 34, short.q8_0),
    "IQ4_NL": BlockType(32, 18, short.iq4_nl),
    "MXFP4": BlockType(32, 17, short.mxfp4),
    "Q2_K": BlockType(256, 84, long.q2_k),
    "Q3_K": BlockType(256, 110, long.q3_k),
    "Q4_K": BlockType(256, 144, long.q4_k),
    "Q5_K": BlockType(256, 176, long.q5_k),
    "Q6_K": BlockType(256, 210, long.q6_k),
    "IQ4_XS": BlockType(256, 136, long.iq4_xs),
}


def unpack(element_type: str, blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the float32 weights of blocks.

    element_type  of ``BLOCK_TYPES``
    blocks        (..., k · bytes): k blocks, one after another

    Returns (..., k · weights), a new array.

    >>> unpack("F16", np.uint8([0x00, 0x3C, 0x00, 0xC0])).tolist()
    [1.0, -2.0]
    """
    kind = BLOCK_TYPES[element_type]
    shape = *blocks.shape[:-1], blocks.shape[-1] // kind.bytes * kind.weights
    # A damaged scale may be infinite, and a zero times it is NaN, as everywhere else, and without a warning.
    with np.errstate(invalid="ignore", over="ignore"):
        return kind.unpack(np.ascontiguousarray(blocks).reshape(-1, kind.bytes)).reshape(shape)
