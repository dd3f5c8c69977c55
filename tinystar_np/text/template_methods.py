"""The methods of plain data that a chat template may call, and what those pay that can make much of little.

The others make no more than they were given, and pay for it when it is there.
"""

from collections.abc import Callable, Iterable
from typing import Any

from tinystar_np.text.template_budget import ITEM, current

METHODS: dict[type, frozenset[str]] = {
    str: frozenset(
        {
            *("capitalize", "casefold", "center", "count", "endswith", "expandtabs", "find", "format"),
            *("format_map", "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "islower"),
            *("isnumeric", "isprintable", "isspace", "istitle", "isupper", "join", "ljust", "lower"),
            *("lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust"),
            *("rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase"),
            *("title", "upper", "zfill"),
        }
    ),
    dict: frozenset({"copy", "get", "items", "keys", "values"}),
    list: frozenset({"copy", "count", "index"}),
    tuple: frozenset({"count", "index"}),
    float: frozenset({"is_integer"}),
    int: frozenset(),
}
"""What a template may call of plain data. Of jinja2's own objects it may use what has no underscore."""


def joined(separator: str, values: Iterable[Any]) -> str:
    """Write values one behind another."""
    budget = current()
    parts = []
    for value in values:
        if not isinstance(value, str):
            budget.weigh(value, text=1)
        parts.append(str(value))
        budget.make(ITEM + len(separator) + len(parts[-1]))
    return separator.join(parts)


def _padded(name: str) -> Callable[..., str]:
    def pad(text: str, width: int, *fill: str) -> str:
        current().make(4 * max(width, 0))
        return getattr(text, name)(width, *fill)

    return pad


def _expanded(text: str, tabsize: int = 8) -> str:
    current().make(text.count("\t") * max(tabsize, 0))
    return text.expandtabs(tabsize)


def replaced(text: str, old: str, new: str, count: int = -1) -> str:
    """Compute `text.replace(old, new, count)`."""
    found = text.count(old)
    current().make(len(text) + len(new) * (min(found, count) if count >= 0 else found))
    return text.replace(old, new, count)


def _divided(name: str) -> Callable[..., list[str]]:
    def divide(text: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
        parts = len(text) // 2 if sep is None else text.count(sep)
        current().make(ITEM * (min(parts, maxsplit) if maxsplit >= 0 else parts))
        return getattr(text, name)(sep, maxsplit)

    return divide


def _lines(text: str, keepends: bool = False) -> list[str]:
    current().make(ITEM * len(text))
    return text.splitlines(keepends)


def joined_by(text: str, values: Iterable[Any]) -> str:
    """Compute `text.join(values)`."""
    parts = list(values)
    if not all(isinstance(part, str) for part in parts):
        raise TypeError("join takes texts only")
    return joined(text, parts)


OUR_METHODS: dict[str, Callable[..., Any]] = {
    **{name: _padded(name) for name in ("center", "ljust", "rjust", "zfill")},
    **{name: _divided(name) for name in ("split", "rsplit")},
    "expandtabs": _expanded,
    "join": joined_by,
    "replace": replaced,
    "splitlines": _lines,
}
