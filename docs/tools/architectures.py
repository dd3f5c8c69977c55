"""Write docs/architectures.md from the model files: docstrings, FACTS, and models built without weights.

    python docs/tools/architectures.py

Run it after a change to any model's docstring or facts; a test says so.
"""

import re
import textwrap
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from importlib import import_module
from pathlib import Path

from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.models import ARCHITECTURES, EMBEDDING_ARCHITECTURES, VISION_ARCHITECTURES
from tinystar_np.models.facts import COLUMNS, Facts, docstring, headline, model_file, named_alike, parts

PAGE = Path(__file__).parents[1] / "architectures.md"
VISION_COLUMNS = ("encoder", "projector", "places", "decoder")
EMBEDDING_COLUMNS = ("text", "image", "loss", "data")
COLOURS = {  # of Facts.kind
    "attention": "fill:#cfe3ff,stroke:#3b82f6",
    "position": "fill:#fdecc0,stroke:#b7791f",
    "experts": "fill:#e4d8fb,stroke:#8b5cf6",
    "block": "fill:#e5e7eb,stroke:#6b7280",
    "recurrence": "fill:#cdf0d3,stroke:#15803d",
}
MOST, FEW = 20, 3
"""Boxes that a picture of the family tree has at most, and those of a branch that is not worth another."""
LONG = 16384
"""Tokens, more than any window or chunk."""

TYPES = sorted(set(ARCHITECTURES) - {"tinystar"}, key=lambda name: (headline(name)[0], name))
FACTS: dict[str, Facts] = {
    name: import_module(f"tinystar_np.models.{model_file(name).stem}").FACTS for name in TYPES
}


SEEING, EMBEDDING = (
    sorted(names, key=lambda name: (headline(name)[0], name))
    for names in (VISION_ARCHITECTURES, EMBEDDING_ARCHITECTURES)
)


def name_of(model_type: str) -> str:
    """Return the name that an architecture's docstring begins with, without what it says of it."""
    return re.split(r" \(|[:.] |[:.]$", docstring(model_type).split("\n\n")[0], maxsplit=1)[0]


def remembered(model_type: str) -> str:
    """Measure how many numbers a layer of the published model keeps of a token: "2048 (3.1 8B)"."""
    facts = FACTS[model_type]
    model = hollow_model({"model_type": model_type, "num_hidden_layers": 1, **facts.keys})
    long = min(LONG, model.context_length or LONG)
    empty, one, full = ([s.nbytes // 4 for s in model.new_cache(1, n).states] for n in (0, 1, long))
    # Layers that treat each token by itself keep nothing.
    layers = Counter(sizes for sizes in zip(empty, one, full, strict=True) if any(sizes))
    alike = len(layers) == 1 and layers.total() == len(full)
    where = "" if alike else f" in {{}} of {len(full)} layers"
    listed = (kept(*sizes, long) + where.format(count) for sizes, count in layers.most_common())
    return f"{'; '.join(listed)} ({facts.published})"


def kept(empty: int, one: int, full: int, long: int) -> str:
    """Say what a state keeps that holds so many numbers with no token, with one, and with ``long`` tokens."""
    fixed = [f"{empty} in all"] if empty else []
    if one == empty:
        return fixed[0] if fixed else "nothing"
    most = (full - empty) // (one - empty)
    return " and ".join([f"{one - empty}" + (f" of up to {most} tokens" if most < long else ""), *fixed])


def children(parent: str | None) -> list[str]:
    """List what grew from an architecture, or the beginnings, the oldest first."""
    return [name for name in TYPES if FACTS[name].grew_from == parent]


def pictures() -> dict[str, set[str]]:
    """Divide the tree into pictures that can be read: {the root of each: the roots cut off below it}.

    Where a tree has more than ``MOST`` boxes, its largest branch becomes a picture of its own, and one box of
    this one, until it fits or no branch of more than a few is left.
    """
    found: dict[str, set[str]] = {}

    def boxes(name: str) -> int:
        """How many boxes a branch takes, after cutting what is too large."""
        sizes = {child: boxes(child) for child in children(name)}
        found[name] = set()
        while 1 + sum(sizes.values()) > MOST:
            largest = max(sizes, key=lambda child: sizes[child])
            if sizes[largest] < FEW:
                break
            found[name].add(largest)
            sizes[largest] = 1
        return 1 + sum(sizes.values())

    for root in children(None):
        boxes(root)
    cut = {name for below in found.values() for name in below}
    roots = [name for name in TYPES if name in cut or FACTS[name].grew_from is None]
    return {root: cut & {*descendants(root)} - {root} for root in roots}


def descendants(name: str) -> Iterator[str]:
    """List an architecture and all that grew from it."""
    yield name
    for child in children(name):
        yield from descendants(child)


def picture(root: str, cut: Collection[str]) -> Iterator[str]:
    """Draw what grew from an architecture as lines of Mermaid.

    cut  those below it that have pictures of their own, and are one box here
    """

    def box(name: str, also: str = "") -> str:
        small = f"<br><small>{headline(name)[0]}{also}</small>"
        return f"  {name}[{name}{small}]:::{FACTS[name].kind}"

    def branch(name: str) -> Iterator[str]:
        for child in children(name):
            if child in cut:
                more = len([*descendants(child)]) - 1
                yield box(child, f" and {more} after it")
            else:
                yield box(child)
            yield f"  {name} --> {child}"
            if child not in cut:
                yield from branch(child)

    yield box(root)
    yield from branch(root)


def family_tree() -> Iterator[str]:
    """Write all pictures, each with its heading."""
    for root, cut in pictures().items():
        yield from ("", f"### From {root} on", "")
        parent = FACTS[root].grew_from
        if parent:
            yield from (f"{root} grew from [{parent}](#{parent}).", "")
        yield from ("```mermaid", "flowchart LR")
        yield from (f"  classDef {kind} {colours},color:#111" for kind, colours in COLOURS.items())
        yield from picture(root, cut)
        yield "```"


def steps(parent: str | None = None, depth: int = 0) -> Iterator[str]:
    """List what each step changed and why, as a nested list."""
    for name in children(parent):
        facts = FACTS[name]
        yield f"{'  ' * depth}- [**{name}**](#{name}) {facts.changed}: *{facts.why}.*"
        yield from steps(name, depth + 1)


def section(model_type: str) -> Iterator[str]:
    """Write what the page says of one architecture: its papers, formulas and what was new."""
    text, facts = docstring(model_type), FACTS.get(model_type)
    parent = facts.grew_from if facts else None
    papers = ", ".join(
        f"[{number}](https://arxiv.org/abs/{number})"
        for number in dict.fromkeys(re.findall(r"\b\d{4}\.\d{4,5}\b", text))
    )
    head = f"**{name_of(model_type)}**, {headline(model_type)[0]}"
    head += (f" · papers: {papers}" if papers else "") + (f" · after [{parent}](#{parent})" if parent else "")
    path = f"models/{model_file(model_type).name}"
    yield from ("", f"## {model_type}", "", f"{head} · read it: [`{path}`](../tinystar_np/{path})")
    formulas = re.findall(r"(?:^    .*\n?)+", text, re.MULTILINE)
    if formulas:
        yield from ("", "```text", textwrap.dedent(formulas[0]).rstrip(), "```")
    yield from ("", " ".join(text[text.index("\nNew in it") :].split("\n\n")[0].split()))


def seeing_table(names: Sequence[str], columns: Sequence[str]) -> Iterator[str]:
    """Write the table of models of text and images."""
    yield f"| year | model | {' | '.join(columns)} |"
    yield "|---" * (2 + len(columns)) + "|"
    for name in names:
        cells = [headline(name)[0], f"[{name_of(name)}](#{name})", *parts(docstring(name), columns).values()]
        yield f"| {' | '.join(cells)} |"


def jumps() -> Iterator[str]:
    """Write links to all sections, names that begin alike together."""
    groups = named_alike(TYPES)
    linked = {letters: " ".join(f"[{name}](#{name})" for name in names) for letters, names in groups.items()}
    for letters in (name for name, its in groups.items() if len(its) > 1):
        yield f"- {linked[letters]}"
    yield f"- {' '.join(linked[letters] for letters, its in groups.items() if len(its) == 1)}"


def page() -> str:
    """Write the page."""
    rows = [
        [headline(name)[0], f"[{name_of(name)}](#{name})", *parts(docstring(name)).values(), remembered(name)]
        for name in TYPES
    ]
    lines = [
        "# The architectures",
        "",
        f"{len(TYPES)} decoders, the oldest first. The page is written from the model files:",
        "",
        "    python docs/tools/architectures.py",
        "",
        "[Family tree](#family-tree) · [what each step changed](#what-each-step-changed) · "
        "[blocks and layers as pictures](blocks.md) · [where to read what](blocks.md#where-to-read-what) · "
        "[the keys of their configs, as tested](config_keys.md) · "
        "[every `model_type` of transformers](model_types.md)",
        "",
        *jumps(),
        "",
        "The last column is what a layer's state grows by with every token, in numbers of 4 bytes, or what "
        "it is in all where it does not grow: measured on the model in brackets, built without weights.",
        "",
        f"| year | architecture | {' | '.join(COLUMNS)} | numbers kept of a token, in a layer |",
        "|---" * (3 + len(COLUMNS)) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "## Family tree",
        "",
        "Each grows from the one that it differs least from, which need not be the one that its authors "
        "began with. What a step is mostly about: blue attention, yellow positions, violet feed-forward and "
        "experts, grey norms, biases and connections, green recurrence. A large branch is another picture.",
        *family_tree(),
        "",
        "## What each step changed",
        "",
        *steps(),
        "",
        "## Models of text and images",
        "",
        "What stands before the decoder, and how many of its places an image takes "
        "([a page](images.md) says how they are used):",
        "",
        *seeing_table(SEEING, VISION_COLUMNS),
        "",
        "## Models that compare texts and images",
        "",
        "They embed both in one space and do not write "
        "([that page](images.md#which-text-fits-which-image) says how they are used):",
        "",
        *seeing_table(EMBEDDING, EMBEDDING_COLUMNS),
    ]
    for name in (*TYPES, *SEEING, *EMBEDDING):
        lines += section(name)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
