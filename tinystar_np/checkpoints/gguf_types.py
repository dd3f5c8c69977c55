"""The element types of GGUF files: their numbers in the file, names, and sizes.

The numbers are those of ``ggml_type`` in ggml.h. What the bytes mean is in kernels/block_types.py.
"""

from typing import NamedTuple

from tinystar_np.kernels.block_types import BLOCK_TYPES


class ElementType(NamedTuple):
    """A type that a tensor's elements have.

    name
    elements  in a block: 1, or as many as share a scale
    bytes     of a block
    """

    name: str
    elements: int
    bytes: int


WEIGHT_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K"}
WEIGHT_TYPES |= {11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 20: "IQ4_NL", 23: "IQ4_XS", 30: "BF16"}
WEIGHT_TYPES |= {39: "MXFP4"}

OTHER_TYPES = {24: ("I8", 1), 25: ("I16", 2), 26: ("I32", 4), 27: ("I64", 8), 28: ("F64", 8)}

ELEMENT_TYPES = {
    **{n: ElementType(name, *BLOCK_TYPES[name][:2]) for n, name in WEIGHT_TYPES.items()},
    **{n: ElementType(name, 1, size) for n, (name, size) in OTHER_TYPES.items()},
}

# Tables of llama.cpp's own with thousands of patterns, types for its inner products, and withdrawn ones.
NOT_READ = {4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS"}
NOT_READ |= {19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S", 29: "IQ1_M", 31: "Q4_0_4_4", 32: "Q4_0_4_8"}
NOT_READ |= {33: "Q4_0_8_8", 34: "TQ1_0", 35: "TQ2_0", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8"}
NOT_READ |= {38: "IQ4_NL_8_8", 40: "NVFP4", 41: "Q1_0"}
