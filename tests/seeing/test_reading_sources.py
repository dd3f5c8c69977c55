"""Docstrings and code, as chapters of the book show them."""

import json

import numpy as np
import pytest

from tinystar_np.errors import CheckpointError, InputError
from tinystar_np.kernels import softmax as module
from tinystar_np.kernels.softmax import softmax
from tinystar_np.models import gpt2, llama4_text
from tinystar_np.models.base import Decoder
from tinystar_np.seeing.reading import describe, read


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


def test_what_is_nothing_but_a_docstring_is_read_too() -> None:
    assert read(CheckpointError).text.endswith("```python\nclass CheckpointError(TinyStarError):\n```")


def test_a_decorated_function_is_shown_as_it_is_written() -> None:
    said = read(Decoder.from_block).text
    assert said.startswith("**`Decoder.from_block`** · [models/base.py]")
    assert "for i in range(first, len(self.blocks)):" in said


def test_a_method_without_a_docstring_has_none() -> None:
    said = read(gpt2.Block.__init__).text
    assert "Initialize self" not in said  # what object says of every class
    assert "self.attention_norm = LayerNorm(" in said


@pytest.mark.parametrize(
    "thing", [np.sum, len, json, lambda x: x, 3], ids=["sum", "len", "json", "lambda", "3"]
)
def test_what_is_not_of_this_package_is_refused(thing: object) -> None:
    with pytest.raises(InputError, match=r"of tinystar_np can be read so; .* is none\."):
        read(thing)  # type: ignore[arg-type]


@pytest.mark.parametrize("thing", [json, 3], ids=repr)
def test_what_cannot_be_called_is_not_described(thing: object) -> None:
    with pytest.raises(InputError, match="A function or a class is described; found "):
        describe(thing)  # type: ignore[arg-type]


def test_a_function_is_described_by_its_call_and_its_docstring() -> None:
    said = describe(softmax).text
    assert said.startswith("```python\nsoftmax(x, sink=None)\n```\n\nCompute the softmax")


def test_a_row_of_a_table_that_goes_on_is_one_row() -> None:
    rows = [line for line in read(llama4_text).text.splitlines() if line.startswith("|")]
    assert len(rows) == 3  # the header, the line below it, the model
    assert "| GQA 40:8, chunks of 8192 in three of four, q and k normed there |" in rows[2]
    assert len({row.count("|") for row in rows}) == 1
