"""What seeing/pictures.py draws: numbers in squares, widths and scales; and what it refuses."""

from collections.abc import Callable

import numpy as np
import pytest

from tinystar_np.errors import InputError
from tinystar_np.seeing.pictures import _number, bars, curves, matrices


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


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: matrices({}), "nothing to draw"),
        (lambda: matrices({"none": []}), r"'none' has the shape \(1, 0\)"),
        (lambda: matrices({"deep": np.zeros((2, 2, 2))}), r"'deep' has the shape \(2, 2, 2\)"),
        (lambda: matrices({"a": np.eye(2)}, rows="xyz"), "'a' has 2 rows, and 3 names"),
        (lambda: matrices({"a": np.eye(2)}, columns=[]), "'a' has 2 columns, and 0 names"),
        (lambda: matrices({"a": np.eye(2)}, limit=-1.0), "above 0; found -1.0"),
        (lambda: bars({}, []), "nothing to draw"),
        (lambda: bars({"a": []}, []), "nothing to draw"),
        (lambda: bars({"a": [1, 2]}, "xyz"), "'a' has 2 bars, and 3 names"),
        (lambda: curves({}), "nothing to draw"),
    ],
)
def test_what_cannot_be_drawn_is_said(draw: Callable[[], object], said: str) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(InputError, match=said):
        draw()


def test_what_is_no_number_is_written_so() -> None:
    pytest.importorskip("matplotlib")
    (axis,) = matrices({"": [[np.nan, np.inf, 0.5]]}).figure.axes
    assert [text.get_text() for text in axis.texts] == ["NaN", "∞", "0.50"]


@pytest.mark.parametrize(
    ("numbers", "low", "high"),
    [([2.0, 1.0], 0, 2), ([-2.0, -1.0], -2, 0), ([0.0, 0.0], 0, 0), ([np.nan, 1.0], 0, 1)],
)
def test_bars_are_seen_from_0_to_their_ends(numbers: list[float], low: float, high: float) -> None:
    pytest.importorskip("matplotlib")
    (axis,) = bars({"": numbers}, "ab").figure.axes
    bottom, top = axis.get_ylim()
    assert bottom <= low <= high <= top
    assert bottom < top


def test_a_curve_of_one_number_is_a_dot() -> None:
    pytest.importorskip("matplotlib")
    one, several = (curves({"": numbers}).figure.axes[0].lines[0] for numbers in ([1.0], [1.0, 2.0]))
    assert one.get_marker() == "o"
    assert several.get_marker() == ""
