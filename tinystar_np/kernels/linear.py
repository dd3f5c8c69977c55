"""A linear map: every output is a weighted sum of all inputs.

    y = x W + b

Nearly all of a model's weights stand in these matrices. Generating one token multiplies one vector by
each of them, so that its cost is the reading of every weight once; a prompt of T tokens multiplies T
vectors by the same weights, and the cost is arithmetic.
"""

from numpy.typing import NDArray


def linear(x: NDArray, weight: NDArray, bias: NDArray | None = None) -> NDArray:
    """Map each vector of the last axis.

    x       (..., in)
    weight  (in, out), in any memory order: a transposed view costs nothing
    bias    (out,) or None

    Returns (..., out), a new array.
    """
    # One product over all rows. NumPy would turn (B, T, in) @ (in, out) into B products, and read the
    # weights B times.
    rows = x.reshape(-1, x.shape[-1])
    y = rows @ weight
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[1])
