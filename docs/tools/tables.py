"""Tables that chapters compute."""

from collections.abc import Sequence

from tinystar_np.seeing.reading import Reading


def table(rows: Sequence[Sequence[str]]) -> Reading:
    """Write rows as a Markdown table; the first is its head. Columns of numbers are flush right."""
    columns = zip(*rows[1:], strict=True)
    numbers = (all(cell[:1].isdigit() or cell in ("–", "all", "") for cell in column) for column in columns)
    marks = "".join("|--:" if each else "|---" for each in numbers)
    joined = [[cell.replace(" ", "\u00a0") if len(cell) < 8 else cell for cell in row] for row in rows]
    first, *others = (f"| {' | '.join(row)} |" for row in joined)
    return Reading("\n".join([first, f"{marks}|", *others]))
