"""A function, a class or a module of this package, to be read in a notebook: its docstring and its code.

    from tinystar_np.kernels.softmax import softmax
    from tinystar_np.seeing.reading import read

    read(softmax)

Notebooks show it as Markdown; ``print`` shows the same text. The book's chapters show docstrings so, and do
not say again what these say.
"""

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import tinystar_np

PACKAGE = Path(tinystar_np.__file__).parent
SOURCE = "https://github.com/tinystar-np/tinystar_np/blob/main/tinystar_np/"
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
ARGUMENT = re.compile(r"\S.*? {2,}\S")
"""The first line of a table of arguments: a name, two spaces or more, what it is."""


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
    """
    said = as_markdown(inspect.getdoc(thing) or "")
    file = Path(inspect.getsourcefile(thing) or "").relative_to(PACKAGE).as_posix()
    if isinstance(thing, ModuleType):
        return Reading(f"{said}\n\n*From the docstring of [`{file}`]({SOURCE}{file}).*")
    lines, first = inspect.getsourcelines(thing)
    place = f"[{file}]({SOURCE}{file}#L{first})"
    return Reading(
        f"**`{thing.__name__}`** · {place}\n\n{said}\n\n"
        f"```python\n{without_docstring(dedent(''.join(lines)))}\n```"
    )


def without_docstring(source: str) -> str:
    """Leave out the docstring of the function or class that ``source`` defines."""
    node = ast.parse(source).body[0]
    lines = source.rstrip("\n").splitlines()
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
        said = node.body[0]
        del lines[said.lineno - 1 : said.end_lineno]
        if lines and not lines[said.lineno - 1 : said.lineno + 1][0].strip():
            del lines[said.lineno - 1]
    return "\n".join(lines)


def as_markdown(docstring: str) -> str:
    """Turn a docstring of this package into Markdown.

    Indented blocks are Markdown's code already; tables of arguments and doctests are fenced, papers linked.
    """
    written = []
    for block in re.split(r"\n{2,}", docstring):
        if block.startswith("    ") or block.startswith("|"):
            written.append(block)
        elif block.startswith(">>>"):
            written.append(f"```pycon\n{block}\n```")
        elif ARGUMENT.match(block):
            written.append(f"```text\n{block}\n```")
        else:
            written.append(ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", block))
    return "\n\n".join(written)
