"""A function, a class or a module of this package, to be read in a notebook: its docstring and its code.

    from tinystar_np.kernels.softmax import softmax
    from tinystar_np.seeing.reading import read

    read(softmax)

and two of them, laid over each other:

    from tinystar_np.models import gpt2, llama

    difference(gpt2.Block, llama.Block)

Notebooks show it as Markdown; ``print`` shows the same text. The book's chapters show docstrings so, and do
not say again what these say.
"""

import ast
import difflib
import inspect
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import FunctionType, ModuleType
from typing import Any

import tinystar_np
from tinystar_np.documents import HOME
from tinystar_np.errors import InputError
from tinystar_np.models.facts import parts, table
from tinystar_np.models.registry import model_class

PACKAGE = Path(tinystar_np.__file__).parent
SOURCE = f"{HOME}/blob/main/tinystar_np/"
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
ARGUMENT = re.compile(r"\S.*? {2,}\S")
"""The first line of a table of arguments: a name, two spaces or more, what it is."""
ITS_CONFIG = re.compile(r"\b[A-Z]\w*Config\b")
"""The name of an architecture's config: "Gemma2Config"."""
TRANSPOSED = re.compile(r"\((\S+) (\S+)\)ᵀ")


@dataclass(frozen=True)
class Reading:
    """Markdown that a notebook shows.

    text  the Markdown
    """

    text: str

    def _repr_markdown_(self) -> str:
        return self.text

    def __str__(self) -> str:
        return self.text

    def __add__(self, other: "Reading") -> "Reading":
        return Reading(f"{self.text}\n\n{other.text}")


def read(thing: Callable[..., object] | ModuleType) -> Reading:
    """Return what a docstring says, as Markdown, and the code after it.

    thing  a function or class of this package; or a module, of which only the docstring is shown

    Raises InputError for anything else.
    """
    if not isinstance(thing, ModuleType) and callable(thing):
        thing = inspect.unwrap(thing)  # a decorator's wrapper is defined in the decorator's file
    file = _file(thing).as_posix()
    said = as_markdown(_docstring(thing))
    if isinstance(thing, ModuleType):
        return Reading(f"{said}\n\n*From the docstring of [`{file}`]({SOURCE}{file}).*")
    lines, first = inspect.getsourcelines(thing)
    place = f"[{file}]({SOURCE}{file}#L{first})"
    code = "\n".join(without_docstrings(dedent("".join(lines))))
    return Reading(f"**`{thing.__qualname__}`** · {place}\n\n{said}\n\n```python\n{code}\n```")


def describe(thing: Callable[..., object]) -> Reading:
    """Return how a function is called and what its docstring says; of a class, its public methods too.

    Raises InputError for what is neither.
    """
    if not inspect.isclass(thing) and not inspect.isroutine(thing):
        raise InputError(f"A function or a class is described; found {thing!r}.")
    said = [_called(thing)]
    if inspect.isclass(thing):
        own = [name for name in vars(thing) if name == "__call__" or not name.startswith("_")]
        said += [_called(getattr(thing, name), of=thing.__name__) for name in own if _documented(thing, name)]
    return Reading("\n\n".join(said))


def _documented(owner: type, name: str) -> bool:
    """Say whether an attribute of a class is something to call or to read, with a docstring."""
    found = inspect.getattr_static(owner, name)
    return isinstance(found, FunctionType | classmethod | staticmethod | property) and bool(found.__doc__)


def _called(thing: Any, of: str = "") -> str:
    """Return a line of code that shows how it is called, and the docstring."""
    if isinstance(thing, property):
        line = f"{of}.{getattr(thing.fget, '__name__', '')}"
    else:
        line = f"{of}.{thing.__name__}" if of else thing.__name__
        line = line.replace(".__call__", "")  # of the class's object: model(ids)
        given = inspect.signature(thing)
        shown = [each.replace(annotation=inspect.Parameter.empty) for each in given.parameters.values()]
        if of and shown and shown[0].name == "self":
            del shown[0]
        line += str(given.replace(parameters=shown, return_annotation=inspect.Signature.empty))
    return f"```python\n{_wrapped(line)}\n```\n\n{as_markdown(_docstring(thing))}"


def _wrapped(line: str) -> str:
    """Break a long call into one line for each argument."""
    if len(line) <= 88:
        return line
    name, _, inside = line.partition("(")
    return f"{name}(\n    " + ",\n    ".join(re.split(r", (?![^\[({]*[\])}])", inside[:-1])) + ",\n)"


def without_docstrings(source: str, inside: bool = False) -> list[str]:
    """Return the lines of a function or class without its docstring, nor an empty line after it.

    inside  whether the docstrings of what it contains are left out too
    """
    lines = source.rstrip("\n").splitlines()
    defined = ast.parse(source).body[0]
    left_out: set[int] = set()
    for node in ast.walk(defined) if inside else (defined,):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            said = node.body[0]
            end = said.end_lineno or said.lineno
            empty_after = end < len(lines) and not lines[end].strip()
            left_out.update(range(said.lineno - 1, end + empty_after))
    return [line for number, line in enumerate(lines) if number not in left_out]


def as_markdown(docstring: str) -> str:
    """Turn a docstring of this package into Markdown.

    Indented blocks are Markdown's code already; tables of arguments and doctests are fenced, papers linked.
    """
    written = []
    for block in re.split(r"\n{2,}", docstring):
        if block.startswith("    "):
            written.append(block)
        elif block.startswith("|"):
            header, *rows = (f"| {' | '.join(row)} |" for row in table(block))
            written.append("\n".join([header, "|---" * header.count(" | ") + "|---|", *rows]))
        elif block.startswith(">>>"):
            written.append(f"```pycon\n{block}\n```")
        elif ARGUMENT.match(block):
            plain = block.replace("``", "")  # within a fence these would be shown
            written.append(f"```text\n{plain}\n```")
        else:
            written.append(ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", block))
    return "\n\n".join(written)


def difference(
    before: Callable[..., object] | ModuleType, after: Callable[..., object] | ModuleType, context: int = 60
) -> Reading:
    """Lay two functions or classes over each other as ``diff`` does: removed lines "-", new ones "+".

    before, after  functions or classes of this package, whose docstrings are left out, and the model's name
                   in that of its config (``c: GPT2Config`` is ``c: Config``); or two model files, of whose
                   tables of weights our names and the shapes are compared
    context        how many equal lines are kept around each difference

    Raises InputError for anything else, and for a model file beside a function.
    """
    if isinstance(before, ModuleType) != isinstance(after, ModuleType):
        raise InputError("Two functions or classes are compared, or two model files, not one with the other.")
    old, new = lines_of(before), lines_of(after)
    lines = list(difflib.unified_diff(old, new, lineterm="", n=context))[2:]
    shown = "\n".join("  ⋮" if line.startswith("@@") else line for line in lines[1:]) or " (no difference)"
    return Reading(f"{_place(before)} → {_place(after)}\n\n```diff\n{shown}\n```")


def lines_of(thing: Callable[..., object] | ModuleType) -> list[str]:
    """Return what ``difference`` compares: lines of code, or of a model file's table of weights."""
    if isinstance(thing, ModuleType):
        return _rows(thing)
    _file(thing)
    lines = without_docstrings(dedent("".join(inspect.getsourcelines(thing)[0])), inside=True)
    return [ITS_CONFIG.sub("Config", line) for line in lines]


def _rows(file: ModuleType) -> list[str]:
    """Write a table of weights: our names and their tensors' shapes, "(F D)ᵀ" as "D F".

    What the config can ask for and by default does not, such as biases, is left out.
    """
    _check_model_file(file)
    config = model_class(_file(file).stem).Config()

    def is_there(condition: str) -> bool:
        value = getattr(config, condition.removeprefix("not "))
        in_some_layers = isinstance(value, Collection) and not isinstance(value, str)
        return in_some_layers or bool(value) != condition.startswith("not ")

    return [
        f"{name}  " + TRANSPOSED.sub(r"\2 \1", row[1])
        for name, row in file.WEIGHTS.items()
        if len(row) < 3 or all(map(is_there, row[2].split(" and ")))
    ]


def _place(thing: Callable[..., object] | ModuleType) -> str:
    """Name a thing of a file and link to it: "[gpt2.Block](…)"."""
    file = _file(thing)
    if isinstance(thing, ModuleType):
        return f"[`{file.stem}.WEIGHTS`]({SOURCE}{file.as_posix()})"
    line = inspect.getsourcelines(thing)[1]
    return f"[`{file.stem}.{thing.__qualname__}`]({SOURCE}{file.as_posix()}#L{line})"


def _file(thing: object) -> Path:
    """Return the file that defines a thing, from the package's folder; raises InputError for a stranger."""
    try:
        return Path(inspect.getsourcefile(thing) or "").relative_to(PACKAGE)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(
            f"Functions, classes and modules of tinystar_np can be read so; {thing!r} is none."
        ) from None


def _docstring(thing: object) -> str:
    """Return a thing's own docstring; inspect.getdoc would take that of the method it overrides."""
    return inspect.cleandoc(getattr(thing, "__doc__", None) or "")


def _check_model_file(file: ModuleType) -> None:
    if _file(file).parent.name != "models" or not hasattr(file, "WEIGHTS"):
        raise InputError(f"{file.__name__} is not the file of a decoder, as models/llama.py is.")


def compared(first: ModuleType, *others: ModuleType) -> Reading:
    """Return the tables in the docstrings of model files as one: a row a part, a column a model.

    What differs from the column before is bold.
    Raises InputError for a module that is no decoder's file.
    """
    models = (first, *others)
    for model in models:
        _check_model_file(model)
    cells = [parts(_docstring(model)) for model in models]
    names = (f"[`{_file(model).stem}`]({SOURCE}{_file(model).as_posix()})" for model in models)
    rows = [f"| | {' | '.join(names)} |", "|---" * (1 + len(models)) + "|"]
    for part in cells[0]:
        of_each = [each[part] for each in cells]
        pairs = zip([of_each[0], *of_each], of_each, strict=False)
        said = (cell if cell in (above, "") else f"**{cell}**" for above, cell in pairs)
        rows.append(f"| {part} | {' | '.join(said)} |")
    return Reading("\n".join(rows))
