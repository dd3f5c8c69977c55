"""Average pooling against torch's."""

import numpy as np
import pytest
import torch

from tinystar_np.kernels.average_pooling import average_pool


@pytest.mark.parametrize(
    ("rows", "columns", "factor"), [(4, 4, 2), (6, 9, 3), (5, 7, 2), (3, 3, 1), (4, 4, 4), (7, 2, 2)]
)
def test_means_of_squares(rows: int, columns: int, factor: int) -> None:
    """Also where rows or columns are left over."""
    x = np.random.default_rng(0).normal(size=(2, rows, columns, 5)).astype(np.float32)
    expected = torch.nn.functional.avg_pool2d(torch.tensor(np.moveaxis(x, -1, 1)), factor, factor)
    found = average_pool(x, factor)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.moveaxis(expected.numpy(), 1, -1), rtol=1e-6, atol=1e-6)
    assert not np.shares_memory(found, x)
    np.testing.assert_array_equal(average_pool(x[0], factor), found[0])
