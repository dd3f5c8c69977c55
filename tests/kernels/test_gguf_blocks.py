"""The blocks of GGUF files against the package of that name, bit for bit."""

import numpy as np
import pytest
from block_matrices import random_blocks

from tinystar_np.kernels.block_types import BLOCK_TYPES, unpack

gguf = pytest.importorskip("gguf", reason="the gguf package is the reference")

# Of float16: zeros, the smallest subnormal, ordinary ones, the largest, infinity and NaN.
HALVES = (0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x2C00, 0xBC01, 0x7BFF, 0x7C00, 0xFC00, 0x7E00, 0xFE01)


def expected(element_type: str, blocks: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[element_type])


def assert_bits_equal(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == wanted.dtype == np.float32
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found.view(np.uint32), wanted.view(np.uint32))


def test_sizes() -> None:
    for name, kind in BLOCK_TYPES.items():
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]] == (kind.weights, kind.bytes)


@pytest.mark.parametrize("element_type", BLOCK_TYPES)
def test_random_blocks(element_type: str) -> None:
    blocks = random_blocks(element_type, 3000)
    assert_bits_equal(unpack(element_type, blocks), expected(element_type, blocks))


@pytest.mark.parametrize("element_type", BLOCK_TYPES)
def test_every_byte_at_every_place(element_type: str) -> None:
    """Each byte of a block takes each of its 256 values, while the others stay."""
    (block,) = random_blocks(element_type, 1)
    blocks = np.tile(block, (len(block), 256, 1))
    for place in range(len(block)):
        blocks[place, :, place] = np.arange(256)
    blocks = blocks.reshape(-1, len(block))
    assert_bits_equal(unpack(element_type, blocks), expected(element_type, blocks))


@pytest.mark.parametrize("element_type", BLOCK_TYPES)
def test_odd_scales(element_type: str) -> None:
    """Every pair of bytes is each of float16's odd numbers in turn, so the scales are too."""
    blocks = random_blocks(element_type, len(HALVES) * BLOCK_TYPES[element_type].bytes)
    for place in range(blocks.shape[1] - 1):
        for i, bits in enumerate(HALVES):
            blocks[place * len(HALVES) + i, place : place + 2] = bits & 255, bits >> 8
    assert_bits_equal(unpack(element_type, blocks), expected(element_type, blocks))


@pytest.mark.parametrize("element_type", ["F16", "BF16"])
def test_all_codes_of_16_bits(element_type: str) -> None:
    codes = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    assert_bits_equal(unpack(element_type, codes), expected(element_type, codes))


def test_rows_of_several_blocks() -> None:
    rows = random_blocks("Q4_K", 12).reshape(2, 3, 2 * 144)
    found = unpack("Q4_K", rows)
    assert found.shape == (2, 3, 512)
    assert_bits_equal(found.reshape(-1, 256), expected("Q4_K", rows.reshape(-1, 144)))
    assert unpack("Q4_K", rows[:0]).shape == (0, 3, 512)
