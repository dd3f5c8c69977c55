"""A Jinja environment in which a stranger's program can neither reach out nor run on and on.

How a template is brought to pay for what it does (template_budget.py): operators, attributes and calls go
through methods of a sandboxed environment; filters and tests are wrapped; for what jinja2 compiles to plain
Python (loops, comparisons, slices, literals, ~) the syntax tree is rewritten so that a filter of ours stands
there. The names of these begin with a space, which no template can write.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, LoopContext, Macro, TemplateReference
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace
from markupsafe import Markup

from tinystar_np.text.template_budget import current
from tinystar_np.text.template_functions import (
    FILTERS,
    OUR_FILTERS,
    EscapingFormatter,
    PlainFormatter,
    check_bits,
    check_product,
    is_defined,
    is_none,
    is_undefined,
    new_dict,
    new_namespace,
    paying,
    percent,
    refuse,
    strftime_now,
)
from tinystar_np.text.template_methods import METHODS, OUR_METHODS, joined

OWN = (BlockReference, Cycler, Joiner, LoopContext, Macro, Namespace, TemplateReference, range)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """The environment that chat templates are written for, that of transformers, in which all is paid for."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[Generation, loopcontrols],
            finalize=_finalize,
            cache_size=0,
        )
        theirs: dict[str, Any] = dict(self.filters)
        self.filters = {name: paying(name, theirs[name]) for name in FILTERS}
        self.filters |= {name: paying(name, ours) for name, ours in OUR_FILTERS.items()}
        self.filters |= TOLLS
        tests: dict[str, Any] = self.tests | {
            "none": is_none,
            "defined": is_defined,
            "undefined": is_undefined,
        }
        self.tests = {name: paying(name, test) for name, test in tests.items()}
        self.globals = {
            "range": self.globals["range"],
            "dict": new_dict,
            "cycler": Cycler,
            "joiner": Joiner,
            "namespace": new_namespace,
            "raise_exception": refuse,
            "strftime_now": strftime_now,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in list(tree.find_all(nodes.Node)):
            _with_tolls(node)
        return tree

    def _load_template(self, name: Any, globals: Any) -> Any:
        raise SecurityError("it asks for another template, and there is only this one")

    def concat(self, parts: Iterable[str]) -> str:
        """Join what was printed."""
        budget = current()

        def paid() -> Iterator[str]:
            for part in parts:
                budget.make(1 + len(part))
                yield part

        return "".join(paid())

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow what is listed of plain data, and what jinja2 allows of its own objects."""
        for kind, methods in METHODS.items():
            if isinstance(obj, kind):
                return attr in methods
        return isinstance(obj, OWN) and super().is_safe_attribute(obj, attr, value)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Look up a key; to find one costs what it holds."""
        if isinstance(argument, tuple):
            current().weigh(argument)
        return super().getitem(obj, argument)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute `left operator right`."""
        budget = current()
        if isinstance(left, str) and operator == "%":
            return percent(left, right)
        if operator == "*":
            check_product(budget, left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            check_bits(left.bit_length() * right)
        elif operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, type(left)):
            budget.make(len(left) + len(right))
        result = super().call_binop(context, operator, left, right)
        budget.made(result)
        return result

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call a function, a macro or a method."""
        budget = current()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str | list | tuple | dict):
            budget.weigh((None if isinstance(owner, dict) else owner, args, kwargs))
        if isinstance(owner, str):
            __obj = __self.wrap_str_format(__obj) or __obj
            if __obj.__name__ in OUR_METHODS:
                __obj = partial(OUR_METHODS[__obj.__name__], owner)
        result = super().call(__context, __obj, *args, **kwargs)
        budget.made(result)
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Give `"…".format` a formatter that pays."""
        if super().wrap_str_format(value) is None:
            return None
        text: str = value.__self__
        formatter = EscapingFormatter(self) if isinstance(text, Markup) else PlainFormatter(self)

        def format(*args: Any, **kwargs: Any) -> str:
            if value.__name__ == "format_map":
                args, kwargs = (), dict(*args)
            return type(text)(formatter.vformat(text, args, kwargs))

        return format


class Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks answers for training; its content is just printed."""

    tags = {"generation"}  # noqa: RUF012 — jinja2 asks for it in this form

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse the tag."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _finalize(value: Any) -> Any:
    """Pay for a value that is printed; its text is paid for where it is joined to the rest."""
    current().step()
    if not isinstance(value, str):
        current().weigh(value, text=1)
    return value


# What is paid on the way to a plain Python operation, as filters that the syntax tree is given.


def _with_tolls(node: nodes.Node) -> None:
    """Put our filters around those parts of a node that jinja2 compiles to plain Python."""
    for name, value in node.iter_fields():
        if isinstance(value, list):
            setattr(node, name, [_toll(part, node) for part in value])
        elif isinstance(value, nodes.Node):
            setattr(node, name, _toll(value, node))
    if isinstance(node, nodes.For):
        nothing = nodes.Const(None, lineno=node.lineno, environment=node.environment)
        turn = _filtered(nothing, " step")
        node.body.insert(0, nodes.ExprStmt(turn, lineno=node.lineno, environment=node.environment))
        if node.test is not None:
            node.test = _filtered(node.test, " step")


def _toll(part: Any, parent: nodes.Node) -> Any:
    if isinstance(part, nodes.Concat):
        part = _filtered(nodes.List(part.nodes, lineno=part.lineno, environment=part.environment), " join")
    elif isinstance(part, nodes.Getitem) and isinstance(part.arg, nodes.Slice):
        part = _filtered(part, " cut")
    elif isinstance(part, nodes.List | nodes.Dict) or (isinstance(part, nodes.Tuple) and part.ctx == "load"):
        part = _filtered(part, " hold")
    if isinstance(parent, nodes.Compare) and isinstance(part, nodes.Expr):
        part = _filtered(part, " compare")
    elif isinstance(parent, nodes.Operand):
        part = _filtered(part, " search" if parent.op in ("in", "notin") else " compare")
    return part


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=node.environment)


@pass_context  # it keeps jinja2 from computing the filter once and for all when it compiles
def _step(context: Any, value: Any) -> Any:
    current().step()
    return value


@pass_context
def _hold(context: Any, value: Any) -> Any:
    current().step()
    current().weigh(value, text=0)
    return value


@pass_context
def _cut(context: Any, value: Any) -> Any:
    current().made(value)
    return value


@pass_context
def _compare(context: Any, value: Any) -> Any:
    current().step()
    current().weigh(value)
    return value


@pass_context
def _search(context: Any, value: Any) -> Any:
    """Pay for looking for something in a value, which in a dictionary costs nothing."""
    return value if isinstance(value, dict) else _compare(context, value)


@pass_context
def _concatenate(context: Any, parts: list[Any]) -> str:
    return joined("", parts)


TOLLS: dict[str, Callable[..., Any]] = {
    " step": _step,
    " hold": _hold,
    " cut": _cut,
    " compare": _compare,
    " search": _search,
    " join": _concatenate,
}
