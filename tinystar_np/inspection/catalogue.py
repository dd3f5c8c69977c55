"""What the models' own docstrings say, in rows: the source of docs/architectures.md.

Every model file begins with its name, authors, year and paper; formulas; a table of its parts; and a
paragraph "New in it". These are read from the files, without importing them, so that no list of architectures
can go stale. The page itself is page.py.
"""

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tinystar_np.models.registry import ARCHITECTURES

COLUMNS = ("attention", "position", "norm", "activation", "block", "context")
ALIASES = {"feed-forward": "activation", "mixer": "attention"}


@dataclass(frozen=True)
class Entry:
    """One architecture.

    model_type  as in config.json
    title       the docstring's first sentence: name, authors, year, papers
    text        the whole docstring
    """

    model_type: str
    title: str
    text: str

    @property
    def year(self) -> str:
        """The year of the first of its papers."""
        found = re.search(r"\b(?:19|20)\d\d\b", self.title)
        return found.group() if found else ""

    @property
    def name(self) -> str:
        """What stands before the authors."""
        return re.split(r" \(|[:.] |[:.]$", self.title, maxsplit=1)[0]

    @property
    def papers(self) -> list[str]:
        """The arXiv numbers of the whole docstring, in order."""
        return list(dict.fromkeys(re.findall(r"\b\d{4}\.\d{4,5}\b", self.text)))

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The table of its parts: one row, or one per variant, then with the variant's name under ""."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip().startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]
        if not cells:
            return []
        header, rows = cells[0], list[dict[str, str]]()
        for line in cells[1:]:
            # A line whose last cell is empty continues the one above.
            if rows and not line[-1]:
                rows[-1] = {
                    key: " ".join(filter(None, (rows[-1][key], more)))
                    for key, more in zip(rows[-1], line, strict=True)
                }
            else:
                rows.append(dict(zip((ALIASES.get(key, key) for key in header), line, strict=True)))
        return rows

    @property
    def summary(self) -> dict[str, str]:
        """One cell for each of ``COLUMNS``; what variants differ in is listed."""
        return {
            column: " / ".join(dict.fromkeys(row[column] for row in self.rows if row.get(column)))
            for column in COLUMNS
        }

    @property
    def new(self) -> str:
        """The paragraph on what was new in it, in one line."""
        found = re.search(r"^(New in it.*?)(?:\n\n|\Z)", self.text, re.DOTALL | re.MULTILINE)
        return " ".join(found.group(1).split()) if found else ""


def catalogue() -> list[Entry]:
    """Read the docstrings of all registered architectures, the oldest first; TinyStar is none, but any."""
    folder = Path(__file__).parents[1] / "models"
    entries = []
    for model_type in ARCHITECTURES.keys() - {"tinystar"}:
        text = ast.get_docstring(ast.parse((folder / f"{model_type}.py").read_text(encoding="utf-8"))) or ""
        title = " ".join(text.split("\n\n", 1)[0].split())
        entries.append(Entry(model_type, title, text))
    return sorted(entries, key=lambda entry: (entry.year, entry.model_type))
