"""From pairs of measurements to ratios, and to a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

SPEEDS = ("tokens/s", "GB/s")  # more is better


def header(ours: str, theirs: str) -> tuple[str, ...]:
    return "", "unit", ours, theirs, "times better", "from – to"


@dataclass
class Row:
    """One line of the table: a quantity that both engines were measured in, round after round.

    name     what was measured
    unit     "tokens/s", "seconds", "× weights"
    ours     one value per round
    theirs   the other engine's in the same rounds
    """

    name: str
    unit: str
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def add(self, ours: float, theirs: float) -> None:
        self.ours.append(ours)
        self.theirs.append(theirs)

    @property
    def ratios(self) -> list[float]:
        """How many times better ours is, pair by pair: what the machine did meanwhile met both."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return [ours / theirs if self.unit in SPEEDS else theirs / ours for ours, theirs in pairs]

    def cells(self) -> tuple[str, ...]:
        ratios = self.ratios
        spread = f"{min(ratios):.2f} – {max(ratios):.2f}"
        return self.name, self.unit, _short(self.ours), _short(self.theirs), f"{median(ratios):.2f}", spread

    def as_json(self) -> dict:
        shown = {"name": self.name, "unit": self.unit, "ours": self.ours, "theirs": self.theirs}
        return {**shown, "ratios": self.ratios, "ratio": median(self.ratios)}


def _short(values: Sequence[float]) -> str:
    """Write the median with three digits."""
    value = median(values)
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first two to the left, numbers to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def written(line: Sequence[str]) -> str:
        cells = zip(line, widths, strict=True)
        return "  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(cells))

    return "\n".join([written(header), "  ".join("─" * width for width in widths), *map(written, rows)])
