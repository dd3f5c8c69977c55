"""Reading the calls that a model writes as JSON, from the beginning of a text that may still grow.

    {"name": "weather", "arguments": {"city": "Bern"}}          the arguments may be called "parameters"
    [{"name": "weather", "arguments": {…}}, {…}]                several

Each function here answers in one of three ways: with the calls and where they end; with None, where the text
is not complete; with ValueError, where it is no call. The first and the last stay so however the text grows.
"""

import json
import re
from collections.abc import Mapping
from json import JSONDecodeError, JSONDecoder
from typing import Any, NamedTuple, NoReturn

CUT_SHORT = len("-Infinity") - 1
"""The most characters of a JSON word or escape that are there when its last one is not."""
LONGEST_HEAD = 300  # characters before the arguments, where a name stands before them


class Call(NamedTuple):
    """A call as a model wrote it: the function's name, and its arguments as the text of a JSON object."""

    name: str
    arguments: str


class Found(NamedTuple):
    """Calls at the beginning of a text, and the index where they end."""

    calls: list[Call]
    end: int


def json_calls(text: str) -> Found | None:
    """Read a call, or a list of calls, at the beginning of a text."""
    found = _json_value(text, 0)
    if found is None:
        return None
    value, end = found
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError("an empty list of calls")
    return Found([_call(each) for each in values], end)


def headed_call(text: str, head: re.Pattern[str]) -> Found | None:
    """Read a call whose name stands before its arguments.

    head  matches all before the arguments; its groups are the places where the name may stand
    """
    match = head.match(text, 0, LONGEST_HEAD)
    if match is None:
        if "{" in text[:LONGEST_HEAD] or len(text) >= LONGEST_HEAD:
            raise ValueError("no head of a call")
        return None
    found = _json_value(text, match.end())
    if found is None:
        return None
    arguments, end = found
    name = next(group for group in match.groups() if group is not None)
    return Found([_call({"name": name.strip(), "arguments": arguments})], end)


def _json_value(text: str, start: int) -> tuple[Any, int] | None:
    """Read a JSON object or list, and return it and its end; None where it is not complete."""
    start += len(text[start:]) - len(text[start:].lstrip())
    if start == len(text):
        return None
    if text[start] not in "{[":
        raise ValueError("neither an object nor a list")
    try:
        return DECODER.raw_decode(text, start)
    except JSONDecodeError as error:
        unterminated = error.msg.startswith("Unterminated string")
        if unterminated or len(text.rstrip()) - error.pos <= CUT_SHORT:
            return None
        raise
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


DECODER = JSONDecoder(strict=False, parse_constant=_no_number)
"""Lets line breaks stand in strings, as models write them there."""


def _call(value: Any) -> Call:
    """Return a call of its JSON; raises ValueError where it is none."""
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]  # as OpenAI's interface writes it
    if not isinstance(value, Mapping) or not isinstance(name := value.get("name"), str) or not name:
        raise ValueError("no name")
    name.encode()  # half a surrogate pair is no text; UnicodeEncodeError is a ValueError
    given = value["arguments"] if "arguments" in value else value.get("parameters")
    arguments = DECODER.decode(given) if isinstance(given, str) and given.strip() else given or {}
    if not isinstance(arguments, Mapping):
        raise ValueError("the arguments are no object")
    try:
        return Call(name, _written(arguments, ensure_ascii=False))
    except UnicodeEncodeError:
        return Call(name, _written(arguments, ensure_ascii=True))


def _written(arguments: Mapping[str, Any], ensure_ascii: bool) -> str:
    text = json.dumps(arguments, ensure_ascii=ensure_ascii, allow_nan=False)
    text.encode()
    return text
