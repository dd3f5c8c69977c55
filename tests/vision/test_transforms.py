"""What is done to images, bit for bit as transformers' functions on NumPy arrays do it."""

import numpy as np
import pytest
from awkward_images import awkward_images, noise
from transformers import image_transforms as theirs

from tinystar_np.errors import InputError
from tinystar_np.vision.transforms import centre_cropped, normalised, padded, resized

IMAGES = awkward_images()


@pytest.mark.parametrize("filter", range(6))
@pytest.mark.parametrize("size", [(1, 1), (31, 17), (224, 224)])
def test_resized_is_transformers(filter: int, size: tuple[int, int]) -> None:
    for name, image in IMAGES.items():
        expected = theirs.resize(image, size, resample=filter, input_data_format="channels_last")
        np.testing.assert_array_equal(resized(image, size, filter), expected, err_msg=name)


@pytest.mark.parametrize("size", [(1, 1), (224, 224), (225, 336), (335, 13), (1500, 2)])
def test_centre_cropped_is_transformers(size: tuple[int, int]) -> None:
    for name, image in IMAGES.items():
        expected = theirs.center_crop(image, size, input_data_format="channels_last")
        np.testing.assert_array_equal(centre_cropped(image, size), expected, err_msg=name)


@pytest.mark.parametrize("scale", [1 / 255, 1 / 127.5, 0.00392156862745098, 1.0, None])
def test_normalised_is_transformers(scale: float | None) -> None:
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    for name, image in IMAGES.items():
        expected = np.moveaxis(image, -1, 0)
        if scale is not None:
            expected = theirs.rescale(expected, scale)
        found = normalised(image, scale, None, None)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected, err_msg=name)
        expected = theirs.normalize(expected, mean, std, input_data_format="channels_first")
        np.testing.assert_array_equal(normalised(image, scale, mean, std), expected, err_msg=name)


def test_padded_is_numpy() -> None:
    image = noise(5, 7)
    found = padded(image, (2, 0), (1, 3), (10, 20, 30))
    for colour, fill in enumerate((10, 20, 30)):
        expected = np.pad(image[..., colour], ((2, 0), (1, 3)), constant_values=fill)
        np.testing.assert_array_equal(found[..., colour], expected)


def test_too_large_a_result_is_refused() -> None:
    with pytest.raises(InputError, match="1 × 10000 pixels would become 100000 × 100000"):
        resized(noise(1, 10_000), (100_000, 100_000), 3)
