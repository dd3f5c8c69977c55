"""The filters, tests and functions that a chat template may use, each paying for what it does.

Of jinja2's filters only those listed here.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import wraps
from typing import Any

from jinja2 import Undefined, pass_environment
from jinja2.exceptions import SecurityError
from jinja2.filters import do_indent, do_round, make_attrgetter, sync_do_sum
from jinja2.sandbox import SandboxedEscapeFormatter, SandboxedFormatter
from jinja2.utils import Namespace

from tinystar_np.text.template_budget import ITEM, Budget, TooMuchError, current
from tinystar_np.text.template_methods import joined, replaced

LARGEST_NUMBER = 4096  # bits
WIDEST_FIELD = 1000  # characters to which formatting may pad
WIDEST_INDENT = 64
LONGEST_DATE_FORMAT = 200
MOST_DIGITS = 300

FILTERS = (
    *("abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float"),
    *("groupby", "int", "items", "last", "length", "list", "lower", "map", "max", "min", "reject"),
    *("rejectattr", "reverse", "safe", "select", "selectattr", "sort", "string", "title", "trim"),
    *("truncate", "unique", "upper"),
)
"""Of jinja2's filters those that a chat template can want; others would each need a guard of their own."""
SHALLOW = (
    *("attr", "count", "d", "default", "first", "items", "last", "length", "list", "map", "reject"),
    *("rejectattr", "reverse", "select", "selectattr"),
    *("boolean", "callable", "defined", "false", "float", "integer", "iterable", "mapping", "none"),
    *("number", "sameas", "sequence", "string", "true", "undefined"),
)
"""Filters and tests that do not look at what is inside the values that they are given."""
WALKING = ("list", "map", "reject", "rejectattr", "reverse", "select", "selectattr")
"""Of these the filters that go from value to value."""
LISTING = ("groupby", "join", "list", "sort", "title", "unique")
"""Filters that make a list, of the characters where they are given a text."""


class RefusalError(Exception):
    """A template called raise_exception: the conversation has not the form that it can write."""


class PlainNamespace(Namespace):
    """A namespace that cannot be dressed up as one of Python's own objects."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a namespace may not have the attribute {name!r}")
        super().__setitem__(name, value)


def new_namespace(*pairs: Any, **attributes: Any) -> PlainNamespace:
    """Make a namespace."""
    made = PlainNamespace()
    for name, value in new_dict(*pairs, **attributes).items():
        made[name] = value
    return made


def new_dict(*pairs: Any, **items: Any) -> dict[Any, Any]:
    """Make a dictionary."""
    made = dict(*pairs, **items)
    current().weigh(made, text=0)
    return made


def refuse(message: Any) -> None:
    """Raise RefusalError: a template's `raise_exception`."""
    current().weigh(message, text=1)
    raise RefusalError(str(message))


def strftime_now(format: str) -> str:
    """Write the date."""
    if len(format) > LONGEST_DATE_FORMAT:
        raise TooMuchError(f"it asks for the date in more than {LONGEST_DATE_FORMAT} characters")
    return datetime.now().strftime(format)


# Filters and tests.


def paying(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a filter or test pay for what it is given and for what it makes."""
    skip = 1 if hasattr(function, "jinja_pass_arg") else 0  # jinja2's context or environment comes first
    is_shallow, is_walking, is_listing = name in SHALLOW, name in WALKING, name in LISTING

    @wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        budget = current()
        budget.step()
        given = args[skip] if len(args) > skip else None
        if is_walking and isinstance(given, str | list | tuple | dict | range):
            budget.make(len(given))
        if is_listing and isinstance(given, str):
            budget.make(ITEM * len(given))
        if not is_shallow:
            budget.weigh((args[skip:], kwargs), text=1)
        result = function(*args, **kwargs)
        if isinstance(result, Iterator):
            return _counted(result)
        budget.made(result)
        return result

    return paid


def _counted(values: Iterator[Any]) -> Iterator[Any]:
    budget = current()
    for value in values:
        budget.step()
        yield value


def percent(text: str, values: Any) -> str:
    """Compute `text % values`."""
    budget = current()
    if any(width == "*" or int(width) > WIDEST_FIELD for width in PERCENT_WIDTHS.findall(text)):
        raise TooMuchError(f"it pads to more than {WIDEST_FIELD} characters")
    for _ in range(text.count("%") if not isinstance(values, tuple) else 1):
        budget.weigh(values, text=1)
    result = text % values
    budget.made(result)
    return result


PERCENT_WIDTHS = re.compile(r"%(?:\([^)]*\))?[-+ #0.]*(?:\d*\.)?(\*|\d+)")


class PlainFormatter(SandboxedFormatter):
    """`str.format` that pays."""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """Apply `!r` and its like."""
        current().weigh(value, text=1)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> Any:
        """Write one value."""
        budget = current()
        if any(int(width) > WIDEST_FIELD for width in re.findall(r"\d+", format_spec)):
            raise TooMuchError(f"it pads to more than {WIDEST_FIELD} characters")
        budget.weigh(value, text=1)
        text = super().format_field(value, format_spec)
        budget.made(text)
        return text


class EscapingFormatter(PlainFormatter, SandboxedEscapeFormatter):
    """`Markup.format` that pays."""


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as it is; jinja2's own filter writes it for HTML."""
    _check_indent(indent or 0)
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys, default=_null
    )
    if indent is None and separators is None:
        return encoder.encode(value)
    return joined("", encoder.iterencode(value))  # deep within a value each line begins with much space


def _indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    _check_indent(width)
    current().make(2 * WIDEST_INDENT * str(value).count("\n"))
    return do_indent(value, width, first, blank)


def _check_indent(width: int | str) -> None:
    if (len(width) if isinstance(width, str) else width) > WIDEST_INDENT:
        raise TooMuchError(f"it indents by more than {WIDEST_INDENT} characters")


class NullContent(Undefined):
    """A message's `content: null`: none to a template that asks, and no text to one that prints it.

    Templates that know of such messages ask `content is none` (DeepSeek). Others mean a text or a list when
    they print the content or look in it (GLM, gpt-oss): None would be the word "None" there, or an error.
    """

    __slots__ = ()
    __hash__ = Undefined.__hash__

    def __init__(self) -> None:
        super().__init__("the message's content is null")

    def __eq__(self, other: Any) -> bool:
        return other is None or isinstance(other, NullContent)


def is_none(value: Any) -> bool:
    """Answer `value is none`."""
    return value is None or isinstance(value, NullContent)


def is_defined(value: Any) -> bool:
    """Answer `value is defined`, which None is."""
    return isinstance(value, NullContent) or not isinstance(value, Undefined)


def is_undefined(value: Any) -> bool:
    """Answer `value is undefined`."""
    return not is_defined(value)


def _null(value: Any) -> None:
    if not isinstance(value, NullContent):
        raise TypeError(f"{type(value).__name__} is not JSON")


@pass_environment
def _join(environment: Any, value: Iterable[Any], d: Any = "", attribute: Any = None) -> str:
    return joined(str(d), map(make_attrgetter(environment, attribute), value) if attribute else value)


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    return replaced(str(value), str(old), str(new), -1 if count is None else count)


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    if abs(precision) > MOST_DIGITS:
        raise TooMuchError(f"it rounds to more than {MOST_DIGITS} digits")
    return do_round(value, precision, method)  # type: ignore[arg-type]


@pass_environment
def _sum(environment: Any, values: Any, attribute: Any = None, start: float = 0) -> Any:
    if not isinstance(start, int | float):
        raise TypeError("sum adds numbers only")
    return sync_do_sum(environment, values, attribute, start)


OUR_FILTERS: dict[str, Callable[..., Any]] = {
    "format": lambda text, *args, **kwargs: percent(str(text), kwargs or args),
    "indent": _indent,
    "join": _join,
    "replace": _replace,
    "round": _round,
    "sum": _sum,
    "tojson": _to_json,
}


def check_product(budget: Budget, left: Any, right: Any) -> None:
    """Pay for `left * right` before it is computed."""
    if isinstance(left, int) and isinstance(right, int):
        check_bits(left.bit_length() + right.bit_length())
    elif isinstance(left, int):
        check_product(budget, right, left)
    elif isinstance(left, str | list | tuple) and isinstance(right, int):
        budget.make(len(left) * max(right, 0) * (1 if isinstance(left, str) else ITEM))


def check_bits(bits: int) -> None:
    """Raise TooMuchError for a number of so many bits, if they are too many."""
    if bits > LARGEST_NUMBER:
        raise TooMuchError(f"it computes a number of more than {LARGEST_NUMBER} bits")
