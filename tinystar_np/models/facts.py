"""Facts about an architecture for the documentation: a model file's docstring, and ``FACTS`` at its end.

The docstring has name, authors, year and papers, formulas, a table of the parts and what was new;
docs/architectures.md is written from both.
"""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

COLUMNS = ("attention", "position", "norm", "activation", "block", "context")
ALIASES = {"feed-forward": "activation", "mixer": "attention"}


class Facts(NamedTuple):
    """How an architecture differs from an earlier one, and the size of a published model.

    grew_from  the model_type that it differs least from, not always the one its authors began with; None for
               the first of a kind
    kind       what the difference is mostly about; "block" is norms, biases and how the parts are connected
    changed    what changed, in a line
    why        what that is good for, in a line
    published  a published model, by name or size, whose memory per token docs/architectures.md tells
    keys       the keys of its config.json on which memory depends and which differ from transformers'
               defaults; num_hidden_layers is one period of the layers' pattern, 1 where it is not given
    """

    grew_from: str | None
    kind: Literal["attention", "position", "experts", "block", "recurrence"]
    changed: str
    why: str
    published: str
    keys: Mapping[str, object] = {}


def model_file(model_type: str) -> Path:
    """Return the path of an architecture's file."""
    return Path(__file__).parent / f"{model_type.replace('-', '_')}.py"


def docstring(model_type: str) -> str:
    """Read the docstring of an architecture's file, without importing it."""
    return inspect.cleandoc(model_file(model_type).read_text(encoding="utf-8").split('"""')[1])


def headline(model_type: str) -> tuple[str, str]:
    """Return the year of an architecture's first paper, and its docstring's headline without sources."""
    title = docstring(model_type).split("\n\n")[0]
    year = re.search(r"\b20\d\d\b", title)
    assert year, f"{model_type}.py: the first line of the docstring has no year"
    return year.group(), re.sub(r" \([^)]*\b20\d\d\b[^)]*\)", "", title).rstrip(".")


def parts(text: str, columns: Sequence[str] = COLUMNS) -> dict[str, str]:
    """Read the table of a docstring: a cell for each column, with what variants differ in listed."""
    header, *rows = table(text)
    cells = {ALIASES.get(name, name): [row[i] for row in rows] for i, name in enumerate(header)}
    return {column: " / ".join(filter(None, dict.fromkeys(cells.get(column, [])))) for column in columns}


def table(text: str) -> list[list[str]]:
    """Read the table of a docstring: its header and its rows, the lines of one row joined."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    joined: list[list[str]] = [header]
    for row in rows:
        if len(joined) > 1 and not row[-1]:  # it continues the one above
            joined[-1] = [f"{cell} {more}".strip() for cell, more in zip(joined[-1], row, strict=True)]
        else:
            joined.append(row)
    return joined


def named_alike(names: Iterable[str]) -> dict[str, list[str]]:
    """Group architectures whose names begin with the same letters: {"qwen": ["qwen2", "qwen3", …], …}.

    A name that begins with the whole of another's letters is of its group, as granitemoe is of granite's.
    """
    letters = {name: re.match("[a-z]+", name) for name in sorted(names)}
    beginnings = {name: found[0] if found else name for name, found in letters.items()}
    groups: dict[str, list[str]] = {}
    for name in beginnings:
        shortest = min((b for b in beginnings.values() if beginnings[name].startswith(b)), key=len)
        groups.setdefault(shortest, []).append(name)
    return groups
