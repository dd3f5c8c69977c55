"""Rounding to MXFP4: nearest numbers, ties, extremes; codes as the compressed-tensors package makes them."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tinystar_np.kernels.mxfp4 import E2M1, E8M0, SIZES, dequantise, to_mxfp4


def random(*shape: int) -> NDArray[np.float32]:
    """Numbers of very different sizes, as no two blocks would have in a trained model."""
    generator = np.random.default_rng(1)
    sizes = np.exp2(generator.integers(-90, 90, (shape[0], shape[1] // 32)), dtype=np.float32)
    return generator.standard_normal(shape, dtype=np.float32) * sizes.repeat(32, axis=1)


def test_each_weight_becomes_the_nearest_number_of_its_block() -> None:
    weight = random(50, 320)
    codes, exponents = to_mxfp4(weight)
    assert codes.shape == (50, 160)
    assert exponents.shape == (50, 10)
    scaled = np.abs(weight.reshape(50, 10, 32)).astype(np.float64) / E8M0.numbers[exponents][..., None]
    assert ((scaled.max(-1) >= 3.5) & (scaled.max(-1) < 7)).all()
    found = np.abs(E2M1.decode(codes)).reshape(50, 10, 32)
    nearest = np.abs(scaled[..., None] - np.array(SIZES)).min(-1)
    np.testing.assert_array_equal(np.abs(scaled - found), nearest)
    assert (np.signbit(dequantise(codes, exponents)) == np.signbit(weight)).all()


def test_in_the_middle_the_even_code() -> None:
    middles = [(low + high) / 2 for low, high in pairwise(SIZES)]
    weight = np.zeros((2, 32), np.float32)
    weight[:, :8] = [*middles, 6]
    weight[1] *= -1
    codes, exponents = to_mxfp4(weight)
    assert exponents.tolist() == [[127], [127]]
    expected = [0, 1, 1, 2, 2, 4, 4, 6]
    assert dequantise(codes, exponents)[:, :8].tolist() == [expected, [-size for size in expected]]


def test_what_is_in_the_type_stays_what_it_is() -> None:
    """Blocks of every exponent, in each of which every size is once the largest; signs of zeros, too."""
    for largest in range(8):
        some = np.arange(32) % (largest + 1)
        some[::3] |= 8
        codes = np.tile(some[::2] | some[1::2] << 4, (255, 1)).astype(np.uint8)
        exponents = np.arange(255, dtype=np.uint8)[:, None]
        with np.errstate(over="ignore"):  # 6 · 2¹²⁷ is infinite
            weight = dequantise(codes, exponents)
        finite = np.isfinite(weight).all(axis=1)
        assert finite[:253].all()
        again = dequantise(*to_mxfp4(weight[finite]))
        np.testing.assert_array_equal(again.view(np.uint32), weight[finite].view(np.uint32))


def test_extremes() -> None:
    weight = np.zeros((6, 64), np.float32)
    weight[1, 3] = np.inf
    weight[2, 40] = np.nan
    weight[3] = 3.4e38
    weight[4] = 1e-45
    weight[5, ::2] = -0.0
    found = dequantise(*to_mxfp4(weight))
    assert not found[0].any()
    assert np.isnan(found[1]).tolist() == [True] * 32 + [False] * 32
    assert np.isnan(found[2]).tolist() == [False] * 32 + [True] * 32
    assert (found[3] == np.float32(6 * 2.0**125)).all()
    assert not found[4].any()
    assert (np.signbit(found[5]) == np.signbit(weight[5])).all()


def test_codes_as_the_compressed_tensors_package_makes_them() -> None:
    pytest.importorskip("compressed_tensors", reason="the package is not installed")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import generate_mx_scales

    arguments = QuantizationArgs(num_bits=4, type="float", strategy="group", group_size=32)
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments)
    weight = random(64, 256)
    codes, exponents = to_mxfp4(weight)
    largest = torch.from_numpy(np.abs(weight.reshape(64, 8, 32)).max(-1))
    np.testing.assert_array_equal(generate_mx_scales(largest, num_bits=4).numpy(), exponents)
    compressor = BaseCompressor.get_value_from_registry("mxfp4-pack-quantized")
    state = {
        "weight": torch.from_numpy(weight),
        "weight_scale": torch.from_numpy(E8M0.numbers[exponents]),
    }
    theirs = compressor.compress(state, scheme)
    np.testing.assert_array_equal(theirs["weight_packed"].numpy(), codes)
    np.testing.assert_array_equal(theirs["weight_scale"].numpy(), exponents)
    wide = compressor.decompress(theirs, scheme)["weight"].float().numpy()
    np.testing.assert_array_equal(wide, dequantise(codes, exponents))
