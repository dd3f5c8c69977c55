"""Products by large matrices: every form gives what the definition gives."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tinystar_np.fast.direct import MOST_DIRECT_VECTORS, direct_product, direct_size


def vectors_and_matrix(rows: int, inputs: int, outputs: int) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(rows)
    return (
        rng.standard_normal((rows, inputs), dtype=np.float32),
        rng.standard_normal((inputs, outputs), dtype=np.float32),
    )


def check(found: NDArray, x: NDArray, weight: NDArray) -> None:
    assert found.dtype == np.float32
    assert found.flags.writeable
    expected = x.astype(np.float64) @ weight
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("size", [1, 7, 16, 100])
def test_any_parts_with_and_without_a_rest(size: int, transposed: bool) -> None:
    x, weight = vectors_and_matrix(3, 48, 56)
    stored = np.ascontiguousarray(weight.T) if transposed else weight
    check(direct_product(x, stored, size, transposed), x, weight)


@pytest.mark.parametrize("rows", [2, 5, MOST_DIRECT_VECTORS])
@pytest.mark.parametrize(("inputs", "outputs"), [(768, 2304), (3072, 768), (700, 1999)])
@pytest.mark.parametrize("transposed", [False, True])
def test_parts_are_as_small_as_blas_asks(rows: int, inputs: int, outputs: int, transposed: bool) -> None:
    x, weight = vectors_and_matrix(rows, inputs, outputs)
    stored = np.ascontiguousarray(weight.T) if transposed else weight
    size = direct_size(rows, stored, transposed)
    assert 0 < rows * size * stored.shape[1] <= 1_000_000
    assert not transposed or rows * size <= 1200
    check(direct_product(x, stored, size, transposed), x, weight)


def test_what_is_not_multiplied_so() -> None:
    wide, deep = np.empty((8, 60_000), np.float32), np.empty((8, 200_000), np.float32)
    assert direct_size(8, wide, transposed=False) == 0  # too many partial sums
    assert direct_size(8, deep, transposed=True) == 0  # parts of no output
    some = np.empty((64, 64), np.float32)
    assert direct_size(1, some, False) == direct_size(MOST_DIRECT_VECTORS + 1, some, False) == 0
    assert direct_size(4, some[:, ::2], False) == 0
    assert direct_size(4, some[:, :0], False) == 0
