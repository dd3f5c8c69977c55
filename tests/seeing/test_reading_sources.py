"""Docstrings and code, as chapters of the book show them."""

from tinystar_np.kernels import softmax as module
from tinystar_np.kernels.softmax import softmax
from tinystar_np.models import llama4_text
from tinystar_np.models.base import Decoder
from tinystar_np.seeing.reading import read


def test_a_function_is_its_docstring_and_its_code() -> None:
    said, _, code = read(softmax).text.partition("```python\n")
    assert "Compute the softmax over the last axis." in said
    assert "kernels/softmax.py#L" in said
    assert code.startswith("def softmax(x: NDArray")
    assert "Compute the softmax" not in code
    assert "weights = np.exp(x - largest)" in code


def test_a_module_is_its_docstring() -> None:
    said = read(module).text
    assert said.startswith("Softmax: maps scores to weights")
    assert "def softmax" not in said


def test_a_decorated_function_is_shown_as_it_is_written() -> None:
    said = read(Decoder.from_block).text
    assert said.startswith("**`Decoder.from_block`** · [models/base.py]")
    assert "for i in range(first, len(self.blocks)):" in said


def test_a_row_of_a_table_that_goes_on_is_one_row() -> None:
    rows = [line for line in read(llama4_text).text.splitlines() if line.startswith("|")]
    assert len(rows) == 3  # the header, the line below it, the model
    assert "| GQA 40:8, chunks of 8192 in three of four, q and k normed there |" in rows[2]
    assert len({row.count("|") for row in rows}) == 1
