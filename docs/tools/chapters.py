"""The chapters of the book as Python sees them: which pages they are, their cells, and running these.

A chapter is a page of docs/ whose header says ``file_format: mystnb``: its ``{code-cell}`` blocks run, in
order and in one namespace, when the book is built and when the tests run.
"""

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jupytext
import numpy as np

DOCS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Chapter:
    """A page with code that runs.

    path  of the Markdown file
    """

    path: Path

    @property
    def name(self) -> str:
        """The page's name: "kernels/norms"."""
        return self.path.relative_to(DOCS).with_suffix("").as_posix()

    @property
    def text(self) -> str:
        """The Markdown."""
        return self.path.read_text(encoding="utf-8")

    def notebook(self) -> Any:
        """Return the page as a notebook (nbformat)."""
        return jupytext.reads(self.text, fmt="md:myst")

    def code(self) -> list[str]:
        """Return the text of its code cells."""
        return [cell.source for cell in self.notebook().cells if cell.cell_type == "code"]


def chapters() -> list[Chapter]:
    """Return all pages with code that runs, by name."""
    pages = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
    return [Chapter(path) for path in pages if "\nfile_format: mystnb\n" in path.read_text("utf-8")[:200]]


def run(cells: list[str]) -> Iterator[object]:
    """Run cells one after another in one namespace; yield what the last line of each is, None for nothing."""
    names: dict[str, Any] = {"__name__": "chapter"}
    with np.printoptions(), patch.dict(os.environ):  # what a chapter sets ends with it
        for cell in cells:
            tree = ast.parse(cell)
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "<cell>", "exec"), names)
            yield eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if last else None
