"""What a model file says of its architecture: its docstring, and ``FACTS`` at the end of the file.

The docstring has name, authors, year and papers, formulas, a table of the parts and what was new;
docs/architectures.md is written from both.
"""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple


class Facts(NamedTuple):
    """The step from an earlier design to this one, and a published model that has it.

    grew_from  the model_type that it differs least from, not always the one its authors began with; None for
               a beginning
    kind       what the step is mostly about; "block" is norms, biases and how the parts are connected
    changed    what changed, in a line
    why        what that is good for, in a line
    published  a published model, by name or size, whose memory per token docs/architectures.md tells
    keys       what its config.json says where transformers' defaults differ and memory depends on it; with
               the layers of one period of their pattern, one layer where num_hidden_layers is not given
    """

    grew_from: str | None
    kind: Literal["attention", "position", "experts", "block", "recurrence"]
    changed: str
    why: str
    published: str
    keys: Mapping[str, object] = {}


def model_file(model_type: str) -> Path:
    """Return where an architecture's file is."""
    return Path(__file__).parent / f"{model_type}.py"


def docstring(model_type: str) -> str:
    """Read the docstring of an architecture's file, without importing it."""
    return inspect.cleandoc(model_file(model_type).read_text(encoding="utf-8").split('"""')[1])


def headline(model_type: str) -> tuple[str, str]:
    """Return the year of an architecture's first paper, and its docstring's first sentence less sources."""
    title = docstring(model_type).split("\n\n")[0]
    year = re.search(r"\b20\d\d\b", title)
    assert year, f"{model_type}.py: the first line of the docstring has no year"
    return year.group(), re.sub(r" \([^)]*\b20\d\d\b[^)]*\)", "", title).rstrip(".")
