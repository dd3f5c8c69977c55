"""What seeing/pictures.py writes into the squares of matrices, and how wide these are."""

import numpy as np
import pytest

from tinystar_np.seeing.pictures import _number, matrices


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


def test_numbers_can_be_read_on_dark_squares() -> None:
    pytest.importorskip("matplotlib")
    (axis,) = matrices({"": [[4.0, 1.0, -4.0, -np.inf]]}).figure.axes
    assert [text.get_color() for text in axis.texts] == ["white", "black", "white", "black"]


def test_panels_are_as_wide_as_their_columns() -> None:
    pytest.importorskip("matplotlib")
    wide, narrow = matrices({"wide": np.ones((2, 4)), "narrow": np.ones((2, 1))}).figure.axes
    ratios = wide.get_subplotspec().get_gridspec().get_width_ratios()
    assert wide.get_subplotspec().get_gridspec() is narrow.get_subplotspec().get_gridspec()
    assert list(ratios) == [4, 1]
