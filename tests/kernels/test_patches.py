"""Patches against torch's convolutions, whose stride is their width."""

import numpy as np
import pytest
import torch

from tinystar_np.kernels.patches import patches, still_weight


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize(
    ("channels", "height", "width", "size"),
    [(3, 28, 28, 14), (3, 28, 42, 14), (3, 33, 20, 8), (1, 5, 9, 1), (4, 15, 15, 16), (2, 16, 31, 16)],
)
def test_a_convolution_whose_stride_is_its_width(channels: int, height: int, width: int, size: int) -> None:
    """Also where the size does not divide the image, and where the image is smaller than one patch."""
    images, weight = normal(2, channels, height, width), normal(7, channels, size, size, seed=1)
    bias = normal(7, seed=2)
    found = patches(images, size) @ weight.reshape(7, -1).T + bias
    assert found.shape == (2, height // size, width // size, 7)
    if min(height, width) >= size:
        given = (torch.from_numpy(array) for array in (images, weight, bias))
        expected = torch.nn.functional.conv2d(*given, stride=size)
        np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), rtol=1e-5, atol=2e-5)


def test_the_numbers_themselves() -> None:
    """As torch's own cutting orders them: channels first, then rows, then columns."""
    images = normal(2, 3, 12, 20)
    cut = torch.nn.functional.unfold(torch.from_numpy(images), kernel_size=4, stride=4)  # (B, C·p·p, patches)
    found = patches(images, 4)
    np.testing.assert_array_equal(found.reshape(2, 15, 48), cut.transpose(1, 2).numpy())
    assert found.flags.c_contiguous
    assert not np.shares_memory(patches(images, 12), images)
    np.testing.assert_array_equal(patches(images[0], 4), found[0])
    np.testing.assert_array_equal(patches(images.reshape(1, 2, 3, 12, 20), 4)[0], found)


def test_a_still_image_is_a_film_of_equal_frames() -> None:
    image, weight = normal(3, 28, 42), normal(6, 3, 2, 14, 14, seed=1)
    frames = torch.from_numpy(np.stack([image, image], axis=1))[None]  # (1, C, F, H, W)
    expected = torch.nn.functional.conv3d(frames, torch.from_numpy(weight), stride=(2, 14, 14))
    found = patches(image, 14) @ still_weight(weight).T
    np.testing.assert_allclose(found, expected[0, :, 0].permute(1, 2, 0).numpy(), rtol=1e-5, atol=2e-5)
