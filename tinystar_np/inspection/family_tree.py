"""The family tree of the architectures as a picture: one row each, its parent, what changed and why."""

from tinystar_np.inspection.catalogue import Entry
from tinystar_np.inspection.lineage import KINDS, LINEAGE
from tinystar_np.inspection.svg import Sheet, text_width

MARGIN, HEAD, ROW, YEAR, STEP, TEXT, WIDTH = 20.0, 70.0, 38.0, 46.0, 12.0, 470.0, 960.0
NAME, SMALL = 13.0, 12.0


def ordered(entries: list[Entry]) -> list[Entry]:
    """Put every entry behind its parent and the parent's older children: depth first, by year."""
    by_type = {entry.model_type: entry for entry in entries}

    def below(parent: str | None) -> list[Entry]:
        children = [entry for entry in by_type.values() if LINEAGE[entry.model_type].parent == parent]
        children.sort(key=lambda entry: (entry.year, entry.model_type))
        return [entry for child in children for entry in (child, *below(child.model_type))]

    return below(None)


def family_tree(entries: list[Entry]) -> str:
    """Draw the tree as an SVG file; every entry has a row in ``LINEAGE``."""
    rows = ordered(entries)
    first, last = (choose(int(entry.year) for entry in rows) for choose in (min, max))
    height = HEAD + len(rows) * ROW + MARGIN
    sheet = Sheet(WIDTH, height, "The family tree of the architectures, and what each step changed and why")
    _legend(sheet)
    for year in range(first, last + 1):
        x = MARGIN + 10 + (year - first) * YEAR
        sheet.text(x, HEAD - 18, str(year), SMALL, "dim", anchor="middle")
        sheet.line([(x, HEAD - 6), (x, height - MARGIN)], 1, "faint")
    places: dict[str, tuple[float, float]] = {}
    for i, entry in enumerate(rows):
        step = LINEAGE[entry.model_type]
        x, y = MARGIN + 10 + (int(entry.year) - first) * YEAR, HEAD + (i + 0.5) * ROW
        if step.parent is not None:  # to the right of its parent, if of the same year
            x = max(x, places[step.parent][0] + STEP)
        places[entry.model_type] = x, y
    for model_type, (x, y) in places.items():
        parent = LINEAGE[model_type].parent
        if parent is not None:
            sheet.line([places[parent], (places[parent][0], y), (x, y)], 1.6)
    for entry in rows:
        (x, y), step = places[entry.model_type], LINEAGE[entry.model_type]
        sheet.circle(x, y, 5, step.kind, "ground")
        sheet.text(x + 10, y, entry.model_type, NAME, weight="bold")
        sheet.text(TEXT, y - 8, step.changed, NAME)
        sheet.text(TEXT, y + 9, step.why, SMALL, "dim")
    return str(sheet)


def _legend(sheet: Sheet) -> None:
    x = MARGIN + 10
    sheet.text(x, MARGIN + 4, "What the step is about:", SMALL, "dim")
    x += text_width("What the step is about:", SMALL) + 14
    for kind in KINDS:
        words = {
            "experts": "feed-forward, experts",
            "block": "norms, biases, wiring",
            "position": "positions",
        }
        sheet.circle(x, MARGIN + 4, 5, kind, "ground")
        sheet.text(x + 9, MARGIN + 4, words.get(kind, kind), SMALL)
        x += 9 + text_width(words.get(kind, kind), SMALL) + 18
