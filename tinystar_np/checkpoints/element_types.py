"""Element types of safetensors files: the array type that holds each, and how weights become float32.

Weights come in four types. NumPy has three of them, but not bfloat16, whose 16 bits are kept as an unsigned
integer. bfloat16 is the upper half of a float32 (the same sign and exponent, 7 bits of mantissa in place of
23), so converting it is a shift and exact:

    float32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm
    bfloat16  s eeeeeeee mmmmmmm
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import CheckpointError

if TYPE_CHECKING:
    from tinystar_np.kernels.codes import Code

# The format is little-endian on every machine, hence "<".
WEIGHT_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}

# Not for weights, but old checkpoints have attention masks and counters of these types.
BUFFER_TYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4"}
BUFFER_TYPES |= {"U64": "<u8", "I64": "<i8"}

# Of packed weights, whose meaning is in kernels/float8.py and kernels/mxfp4.py: their bits.
CODE_TYPES = {"F8_E4M3": "u1", "F8_E5M2": "u1", "F8_E8M0": "u1"}

STORAGE_TYPES = {name: np.dtype(kind) for name, kind in (WEIGHT_TYPES | BUFFER_TYPES | CODE_TYPES).items()}


def to_float32(array: NDArray, element_type: str, where: str = "array") -> NDArray[np.float32]:
    """Convert a tensor from its stored type to float32.

    array         the tensor in its storage type
    element_type  its name in the safetensors file, such as "BF16"
    where         the file and tensor, for the error message

    Returns the array itself if it is F32 already, else a new array. Raises CheckpointError if the type is not
    one of ``WEIGHT_TYPES``.
    """
    if element_type not in WEIGHT_TYPES:
        raise CheckpointError(
            f"{where} has element type {element_type}, which is none of {', '.join(WEIGHT_TYPES)}.\n"
            "Quantised weights are read if config.json says how they are packed: see quantization_config "
            "there, or use the original model."
        )
    if element_type == "BF16":
        bits = array.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    # A float64 beyond float32's range becomes infinite, as in every other framework, and without a warning.
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


class NotFinite(NamedTuple):
    """How many elements of a tensor are NaN or infinite, as after a failed training, or on a damaged disk."""

    nan: int
    infinite: int


def count_not_finite(blocks: Iterable[NDArray], element_type: str) -> NotFinite:
    """Count NaN and infinity among a tensor's elements, given in blocks of its storage type, or unpacked."""
    nan = infinite = 0
    codes: Code | None = None
    if element_type in CODE_TYPES:
        # Late: other tensors need none of it.
        from tinystar_np.kernels.float8 import E4M3, E5M2
        from tinystar_np.kernels.mxfp4 import E8M0

        codes = {"F8_E4M3": E4M3, "F8_E5M2": E5M2, "F8_E8M0": E8M0}[element_type]
    for block in blocks:
        numbers = to_float32(block, "BF16") if element_type == "BF16" else block
        if codes is not None:
            numbers = codes.decode(block)
        if numbers.dtype.kind == "f":
            nan += int(np.count_nonzero(np.isnan(numbers)))
            infinite += int(np.count_nonzero(np.isinf(numbers)))
    return NotFinite(nan, infinite)
