"""docs/architectures.md and its pictures, written from the code: docstrings, tables, built models.

    python -m tinystar_np.inspection.page

writes the page and docs/pictures/ anew. Run it after a change to any model's docstring; a test says so.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from tinystar_np.inspection.block_diagrams import DIAGRAMS
from tinystar_np.inspection.catalogue import COLUMNS, Entry, catalogue
from tinystar_np.inspection.describe import describe_model
from tinystar_np.inspection.diagram import Diagram
from tinystar_np.inspection.family_tree import family_tree
from tinystar_np.inspection.ideas import IDEAS
from tinystar_np.inspection.lineage import LINEAGE
from tinystar_np.inspection.published import published_model, remembered

DOCUMENTS = Path(__file__).parents[2] / "docs"
STATE = "numbers kept of a token, in a layer"


def pictures() -> dict[str, str]:
    """Draw all pictures of the page: {file name: SVG}."""
    drawn = {f"{diagram.name}.svg": diagram.draw() for diagram in DIAGRAMS}
    return {"family_tree.svg": family_tree(catalogue()), **drawn}


def page() -> str:
    """Write docs/architectures.md."""
    entries = catalogue()
    lines = [
        "# The architectures",
        "",
        f"{len(entries)} decoders, the oldest first. The page is written from the files in",
        "`tinystar_np/models/`, each of which is the whole of its architecture or says what it builds on:",
        "",
        "    python -m tinystar_np.inspection.page",
        "",
        "[Family tree](#family-tree) · [blocks and layers as pictures](#blocks-and-layers) · "
        "[where to read what](#where-to-read-what)",
        "",
        "The last column is what a layer's state grows by with every token, in numbers of 4 bytes, or what "
        "it is in all where it does not grow: measured on the model in brackets, built without weights.",
        "",
        f"| year | architecture | {' | '.join(COLUMNS)} | {STATE} |",
        "|---" * (3 + len(COLUMNS)) + "|",
    ]
    for entry in entries:
        link = f"[{entry.name}](#{entry.model_type})"
        cells = [entry.year, link, *entry.summary.values(), remembered(entry.model_type)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## Family tree",
        "",
        "Each hangs below the one that it differs least from, which need not be the one that its authors "
        "began with (`inspection/lineage.py`).",
        "",
        "![Family tree](pictures/family_tree.svg)",
        "",
        "## Blocks and layers",
        "",
        "x is the residual stream, where its line is thick. Many tokens pass through at once, and only "
        "attention, scans and convolutions look at more than one of them. Green is what is remembered.",
    ]
    for diagram in DIAGRAMS:
        lines += ["", f"### {diagram.title}", "", f"![{diagram.title}](pictures/{diagram.name}.svg)", ""]
        lines += [f"{diagram.says}{_users(diagram, entries)}"]
    lines += ["", "## Where to read what", "", *_ideas()]
    for entry in entries:
        lines += _section(entry)
    return "\n".join(lines) + "\n"


def _users(diagram: Diagram, entries: list[Entry]) -> str:
    """List the architectures whose published model has what the diagram shows."""
    role, wanted = diagram.shows
    found = []
    for entry in entries:
        layers = describe_model(published_model(entry.model_type)).layers
        parts = [layer[role].facts for layer in layers if role in layer]
        parts += [beside for facts in parts for beside in facts.get("beside", ())]
        if any(wanted.items() <= facts.items() for facts in map(_hashable, parts)):
            found.append(f"[{entry.model_type}](#{entry.model_type})")
    return f" Here: {', '.join(found)}." if found else ""


def _hashable(facts: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in facts.items() if isinstance(value, str)}


def _ideas() -> Iterator[str]:
    yield "| idea | kernel: the mathematics | layer: with weights | models, to begin with |"
    yield "|---|---|---|---|"
    for idea in IDEAS:
        files = [
            ("kernels", idea.kernel),
            ("layers", idea.layer),
            *(("models", name) for name in idea.models),
        ]
        kernel, layer, *models = (_link(folder, name) if name else "" for folder, name in files)
        yield f"| {idea.name} | {kernel} | {layer} | {', '.join(models)} |"


def _link(folder: str, name: str) -> str:
    return f"[{name}](../tinystar_np/{folder}/{name}.py)"


def _section(entry: Entry) -> Iterator[str]:
    papers = ", ".join(f"[{number}](https://arxiv.org/abs/{number})" for number in entry.papers)
    head = f"**{entry.name}**, {entry.year}" + (f" · papers: {papers}" if papers else "")
    parent = LINEAGE[entry.model_type].parent
    head += f" · after [{parent}](#{parent})" if parent else ""
    path = f"models/{entry.model_type}.py"
    yield from ("", f"## {entry.model_type}", "", f"{head} · read it: [`{path}`](../tinystar_np/{path})")
    formulas = re.findall(r"(?:^    .*\n?)+", entry.text, re.MULTILINE)
    if formulas:
        yield from ("", "```", textwrap.dedent(formulas[0]).rstrip(), "```")
    yield from ("", entry.new)


def write() -> None:
    """Write the page and its pictures where the tests look for them."""
    (DOCUMENTS / "pictures").mkdir(parents=True, exist_ok=True)
    (DOCUMENTS / "architectures.md").write_text(page(), encoding="utf-8")
    for name, drawn in pictures().items():
        (DOCUMENTS / "pictures" / name).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    write()
