"""What seeing/pictures.py writes into the squares of a matrix."""

import pytest

from tinystar_np.seeing.pictures import _number


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [
        (3.0, 2, "3"),
        (0.25, 2, "0.25"),
        (-0.0, 2, "0"),
        (-0.04, 1, "0.0"),
        (-0.06, 1, "-0.1"),
        (-1e400, 2, "−∞"),
    ],
)
def test_numbers_are_short_and_zero_has_no_sign(value: float, digits: int, written: str) -> None:
    assert _number(value, digits) == written
