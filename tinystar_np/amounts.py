"""Numbers of parameters and of bytes as people write them: "8.03 billion", "8.03 B", "1.07 GB"."""

import re

from tinystar_np.errors import InputError


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
    return f"{nbytes:.0f} B"


def bytes_in(text: str) -> int:
    """Return the number of bytes that a text names: "2GB", "1.5 GiB", "800 MB", "65536".

    Raises InputError where it names none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?)B?|B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise InputError(f"{text!r} is no size: write it as 2GB, 1.5GiB, 800MB or a number of bytes.")
    number, unit, binary = match.groups()
    step = 1024 if binary else 1000
    return int(float(number) * step ** ("KMGT".index(unit.upper()) + 1 if unit else 0))


def counted(count: int, thing: str) -> str:
    """Write how many there are of a thing: "1 layer", "2 layers"."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _digits(number: float) -> str:
    """Write three digits of a number from 1 on."""
    return f"{number:.2f}" if number < 9.995 else f"{number:.1f}" if number < 99.95 else f"{number:.0f}"
