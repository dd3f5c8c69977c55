"""Running a chat template: one function from plain data to text, for a worker (worker.py).

A template is an untrusted program. jinja2's own immutable sandbox keeps it from Python's objects and from
changing its arguments; it has no loader, so that it reaches no files. The worker limits its time and memory.
This file imports nothing else of the package, and is all that a worker for templates holds.

The sandbox has the names and filters that transformers gives to templates.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from importlib import import_module
from typing import NoReturn, TypeAlias

import jinja2
from jinja2 import FunctionLoader, Template, Undefined, nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

# What Python and jinja2 would import when they need it: then a worker can open no file.
for _name in ("constants", "debug"):
    import_module(f"jinja2.{_name}")
for _name in ("html", "pprint", "random", "textwrap", "unicodedata"):
    import_module(_name)
for _name in ("unicode_escape", "raw_unicode_escape", "ascii", "latin_1", "utf_16", "utf_32", "idna"):
    "".encode(_name)
datetime.now().astimezone().strftime("%c %Z")

Json: TypeAlias = "bool | int | float | str | list[Json] | tuple[Json, ...] | dict[str, Json] | None"


class TemplateFaultError(Exception):
    """The template does not work; the message says why."""


class RefusalError(Exception):
    """The template called raise_exception: it cannot write a conversation of this form."""


def prepare(first: Json) -> str:
    """Return jinja2's version."""
    return jinja2.__version__


def answer(request: tuple[str, Sequence[dict[str, Json]], Mapping[str, Json], int]) -> dict[str, str]:
    """Render a template for a worker.

    request  its source, the messages, its other variables, the most characters of the text

    Returns {"text": …}, or why there is none: {"refusal": …} or {"fault": …}, a short message.
    """
    source, messages, names, most = request
    try:
        text = render_template(source, messages, names)
    except RefusalError as error:
        return {"refusal": str(error)}
    except TemplateFaultError as error:
        return {"fault": str(error)}
    if len(text) > most:
        return {"fault": f"it writes {len(text)} characters for this conversation, and {most} are the most"}
    return {"text": text}


def render_template(source: str, messages: Sequence[dict[str, Json]], names: Mapping[str, Json]) -> str:
    """Write a conversation as text.

    source    the template
    messages  the conversation; a key whose value is None is left out, and content becomes NullContent
    names     the template's other variables: tools, bos_token, add_generation_prompt, …

    Raises RefusalError and TemplateFaultError, each with a short message.
    """
    given = [
        {
            key: NullContent() if value is None else value
            for key, value in message.items()
            if value is not None or key == "content"
        }
        for message in messages
    ]
    try:
        return _compiled(source).render(names, messages=given)
    except (RefusalError, TemplateFaultError, MemoryError):
        raise
    except TemplateSyntaxError as error:
        raise TemplateFaultError(f"line {error.lineno}: {_short(error.message)}") from error
    except TemplateError as error:
        raise TemplateFaultError(_short(error.message or type(error).__name__)) from error
    except OSError as error:
        raise TemplateFaultError("it wants to open a file, which a template may not") from error
    except Exception as error:  # any program can fail in any way
        raise TemplateFaultError(f"{type(error).__name__}: {_short(error)}") from error


class NullContent(Undefined):
    """A message's `content: null`: it is none to a template that tests it, and prints as an empty text.

    Templates for such messages test `content is none` (DeepSeek). Others expect a text or a list when they
    print the content or look in it (GLM, gpt-oss): None would print "None" there, or be an error.
    """

    __slots__ = ()
    __hash__ = Undefined.__hash__

    def __init__(self) -> None:
        super().__init__("the message's content is null")

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, NullContent)


class PlainNamespace(Namespace):
    """A namespace without names that begin with an underscore, as in transformers."""

    def __init__(self, /, *pairs: Mapping[str, object], **attributes: object) -> None:
        super().__init__()
        for name, value in dict(*pairs, **attributes).items():
            self[name] = value

    def __setitem__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a namespace may not have the attribute {name!r}")
        super().__setitem__(name, value)


class Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks answers for training; its content is just printed."""

    tags = {"generation"}  # noqa: RUF012 — jinja2 asks for it in this form

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse the tag."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


@lru_cache(maxsize=8)
def _compiled(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, loopcontrols],
        loader=FunctionLoader(_no_file),
    )
    environment.filters["tojson"] = _to_json
    environment.tests |= {
        "none": lambda value: value is None or isinstance(value, NullContent),
        "defined": _is_defined,
        "undefined": lambda value: not _is_defined(value),
    }
    environment.globals |= {
        "dict": lambda *pairs, **items: dict(*pairs, **items),  # the class itself has methods that change one
        "namespace": PlainNamespace,
        "raise_exception": _refuse,
        "strftime_now": lambda format: datetime.now().strftime(format),
    }
    return environment.from_string(source)


def _no_file(name: str) -> NoReturn:
    raise TemplateFaultError(f"it wants another file, {_short(name)!r}; a chat template is one text")


def _refuse(message: object) -> NoReturn:
    raise RefusalError(_short(message))


def _is_defined(value: object) -> bool:
    return isinstance(value, NullContent) or not isinstance(value, Undefined)


def _to_json(
    value: Json,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON unescaped; jinja2's own filter escapes it for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_null,
    )


def _null(value: object) -> None:
    if not isinstance(value, NullContent):
        raise TypeError(f"{type(value).__name__} is not JSON")


def _short(message: object, most: int = 500) -> str:
    text = str(message)
    return text if len(text) <= most else f"{text[:most]} …"
