"""Numbers and paragraphs as commands print them."""

import re
import textwrap
from collections.abc import Sequence

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


def in_words(count: float) -> str:
    """Write a number of parameters: "8.03 billion"."""
    for unit, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if count >= unit:
            return f"{_digits(count / unit)} {word}"
    return f"{count:.0f}"


def count_of(count: float) -> str:
    """Write a number of parameters in short: "8.03 B"."""
    number, _, word = in_words(count).partition(" ")
    return f"{number} {'K' if word == 'thousand' else word[:1].upper()}".rstrip()


def size_of(nbytes: float) -> str:
    """Write a number of bytes: "1.07 GB"."""
    for unit, word in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if nbytes >= unit:
            return f"{_digits(nbytes / unit)} {word}"
    return f"{nbytes:.0f} B" if nbytes else "0"


def _digits(number: float) -> str:
    """Write three digits of a number from 1 on."""
    return f"{number:.2f}" if number < 9.995 else f"{number:.1f}" if number < 99.95 else f"{number:.0f}"


def speed_of(tokens_per_second: float) -> str:
    """Write a speed: whole from 100 on, three digits below."""
    return f"{tokens_per_second:.0f}" if tokens_per_second >= 99.95 else f"{tokens_per_second:#.3g}"


def listed(names: Sequence[str]) -> str:
    """Write a list: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
