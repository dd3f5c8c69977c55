"""Write the first chapters of the book as notebooks: examples/notebooks/*.ipynb.

    python docs/tools/notebooks.py

The chapters in docs/ are the source (jupytext reads them); what only Sphinx understands is written out. Run
it after a change to one of them; a test says so.
"""

import ast
import re
from pathlib import Path

import nbformat
from chapters import DOCS, Chapter

from tinystar_np.documents import HOME

FOLDER = DOCS.parent / "examples" / "notebooks"
FIRST = ("start", "one_token", "three_letters", "kernels/attention", "kernels/grouped_heads")
SOLUTION = re.compile(r":::\{dropdown\} (.+)\n```\{literalinclude\} (\S+)\n:pyobject: (\w+)\n```\n:::")
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(#[^)]*)?\)")


def notebooks() -> dict[Path, str]:
    """Return what the notebooks should be: {path: text of the file}."""
    found = [Chapter(DOCS / f"{name}.md") for name in FIRST]
    names = [f"{i:02d}_{chapter.path.stem}.ipynb" for i, chapter in enumerate(found, 1)]
    return {FOLDER / name: written(chapter) for name, chapter in zip(names, found, strict=True)}


def written(chapter: Chapter) -> str:
    """Return a chapter as a notebook file, without outputs."""
    notebook = chapter.notebook()
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"] | {"language": "python"}}
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"  # the same each time
        cell.metadata = {}
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, chapter.path.parent)
    return nbformat.writes(notebook) + "\n"


def plain(markdown: str, folder: Path) -> str:
    """Return Markdown that any notebook shows: solutions in full, links to the repository."""

    def solution(found: re.Match[str]) -> str:
        code = source((folder / found[2]).resolve(), found[3])
        return f"<details><summary>{found[1]}</summary>\n\n```python\n{code}\n```\n\n</details>"

    def link(found: re.Match[str]) -> str:
        there = (folder / found[1]).resolve().relative_to(DOCS.parent)
        kind = "raw" if there.suffix == ".png" else "blob"  # the picture itself, or a page about a file
        return f"]({HOME}/{kind}/main/{there.as_posix()}{found[2] or ''})"

    return LINK.sub(link, SOLUTION.sub(solution, markdown))


def source(path: Path, name: str) -> str:
    """Return the source of a function of a file."""
    text = path.read_text(encoding="utf-8")
    node = next(node for node in ast.parse(text).body if getattr(node, "name", None) == name)
    return ast.get_source_segment(text, node) or ""


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in notebooks().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(DOCS.parent))
