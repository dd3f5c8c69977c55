"""docs/looking_inside.md: its examples run as they stand, and print what the page says."""

import re

import looking_inside
import pytest
from looking_inside import PAGE, parts, run
from smollm2 import smollm2_file

TEXT = PAGE.read_text(encoding="utf-8")
NUMBER = re.compile(r"-?\d+\.\d+")


def test_every_example_says_what_it_prints() -> None:
    examples = sum(map(len, parts(TEXT).values()))
    assert examples == TEXT.count("```python") == TEXT.count("```text") > 8
    assert all(printed for part in parts(TEXT).values() for _, printed in part)


@pytest.mark.parametrize("model", parts(TEXT))
def test_the_examples_print_what_the_page_says(model: str) -> None:
    """Words, tokens and whole numbers exactly, and fractions to a unit of their last digit."""
    if model == "smollm2":
        smollm2_file()  # skips where it is not installed
    examples = parts(TEXT)[model]
    for (code, expected), found in zip(examples, run([code for code, _ in examples]), strict=True):
        assert NUMBER.sub("#", found) == NUMBER.sub("#", expected), code
        for said, now in zip(NUMBER.findall(expected), NUMBER.findall(found), strict=True):
            unit = 10.0 ** -len(said.partition(".")[2])
            assert float(now) == pytest.approx(float(said), abs=1.01 * unit), code


def test_the_tool_writes_what_is_printed() -> None:
    text = 'A page.\n```python\nts.load("stories")\nprint(1 + 1)\n```\n```text\nthree\n```\nIts end.\n'
    assert looking_inside.page(text) == text.replace("three", "2")
