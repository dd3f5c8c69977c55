"""Numbers and paragraphs as commands print them."""

import re
import textwrap
from collections.abc import Sequence

from tinystar_np.amounts import count_of, in_words, size_of

__all__ = ["count_of", "in_words", "listed", "size_of", "speed_of", "wrapped"]

UNBROKEN = re.compile(r"(?<=[0-9]) (?=[KMGTB]B?\b|×)|(?<=×) (?=[0-9])")
"""Spaces between a number and its unit, and in products, at which no line is broken."""


def wrapped(words: str, width: int, first: str = "", indent: int = 0) -> str:
    """Break a paragraph into lines, but not between a number and its unit.

    first   text before the words in the first line
    indent  columns before the other lines
    """
    filled = textwrap.fill(
        UNBROKEN.sub("\u00a0", words),
        width,
        initial_indent=first.ljust(indent),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace("\u00a0", " ")


def speed_of(tokens_per_second: float) -> str:
    """Write a speed: whole from 100 on, three digits below."""
    return f"{tokens_per_second:.0f}" if tokens_per_second >= 99.95 else f"{tokens_per_second:#.3g}"


def listed(names: Sequence[str]) -> str:
    """Write a list: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
