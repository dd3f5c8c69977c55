"""What notebooks show: numbers written into pictures, and docstrings as Markdown."""

from tinystar_np.kernels.attention import attention_scores
from tinystar_np.seeing.pictures import matrices
from tinystar_np.seeing.reading import read


def test_no_minus_is_written_before_a_zero() -> None:
    drawn = matrices({"x": [[-0.0, -1e-9, -0.5, 0.5, 3.0, float("-inf")]]})
    (axis,) = drawn.figure.axes
    assert [text.get_text() for text in axis.texts] == ["0", "0.00", "-0.50", "0.50", "3", "−∞"]


def test_tables_of_arguments_have_no_marks_of_code() -> None:
    assert "\nscale, bias, soft_cap  as in attention\n" in read(attention_scores).text
