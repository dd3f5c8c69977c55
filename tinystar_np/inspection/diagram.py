"""A diagram of boxes and arrows, laid out on a grid that is written as text.

    grid    x | fork1 |       |           | add1 | y
              |       | norm1 | attention |      |
    arrows  x - add1 - y; fork1 / norm1 > attention ^ add1

A cell is a name: a box that says the name without its number; ``add`` and ``times`` are circles, ``fork`` a
dot on a line, 'quoted' a word without a box. Arrows go ``>`` straight, or with a bend half-way; ``/`` first
up or down, then across; ``^`` first across, then up or down; ``=`` both ways; ``-`` is the residual stream.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from tinystar_np.inspection.svg import Sheet, text_width

MARGIN, GAP, ROW, HEIGHT, SIZE, SMALL = 22.0, 28.0, 60.0, 38.0, 14.0, 11.5
RADIUS, DOT = 11.0, 3.2
SIGNS = {"add": "+", "times": "×"}
COLOURS = {  # of boxes by their names, without numbers
    "norm": "norm", "attention": "mixer", "Mamba": "mixer", "scan": "mixer", "delta": "mixer",
    "feed_forward": "feed_forward", "expert": "feed_forward", "shared": "feed_forward",
    "SiLU": "function", "softplus": "function", "convolution": "function", "turn": "function",
    "sigmoid": "function", "best": "function", "unit": "function",
    "state": "memory", "latent": "memory", "keys": "memory",
}  # fmt: skip

Point = tuple[float, float]


@dataclass(frozen=True)
class Node:
    """A cell in its place: the middle and half of width and height."""

    name: str
    lines: tuple[str, ...]
    kind: str  # "box", "word", "sign" or "fork"
    x: float
    y: float
    half: float
    tall: float

    @property
    def colour(self) -> str:
        """The class of its ground."""
        return COLOURS.get(_bare(self.name), "linear")


@dataclass(frozen=True)
class Diagram:
    """What is drawn.

    name    of the file
    title   above the picture
    says    a sentence or two beside it
    grid    cells by "|", rows by lines
    arrows  chains of names, separated by ";"
    shows   whose models have it: a role of inspection/describe.py and what its facts say
    labels  {name: what the box says, a second line behind a line break is small}
    dashed  names of boxes that are there but not used
    """

    name: str
    title: str
    says: str
    grid: str
    arrows: str
    shows: tuple[str, Mapping[str, str]]
    labels: Mapping[str, str] = field(default_factory=dict)
    dashed: tuple[str, ...] = ()

    @cached_property
    def cells(self) -> list[list[str]]:
        """The grid, rows of names; "" where nothing stands."""
        return [[cell.strip() for cell in line.split("|")] for line in self.grid.splitlines() if "|" in line]

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """Everything that stands on the grid."""
        columns = max(map(len, self.cells))
        halves = [
            max([_half(*self._look(row[c])) for row in self.cells if c < len(row) and row[c]], default=0.0)
            for c in range(columns)
        ]
        left, middles = MARGIN, []
        for half in halves:
            middles.append(left + half)
            left += 2 * half + GAP
        found = {}
        for r, row in enumerate(self.cells):
            for c, name in enumerate(row):
                if name:
                    kind, lines = self._look(name)
                    tall = {"box": HEIGHT / 2, "word": SIZE / 2, "sign": RADIUS, "fork": DOT}[kind]
                    half = halves[c] if kind == "box" else _half(kind, lines)
                    y = MARGIN + 32 + HEIGHT / 2 + r * ROW
                    found[name] = Node(name, lines, kind, middles[c], y, half, tall)
        return found

    def _look(self, name: str) -> tuple[str, tuple[str, ...]]:
        """Say what kind of thing a cell is, and its lines of text."""
        if name.startswith("'"):
            return "word", (name.strip("'"),)
        bare = _bare(name)
        if bare in SIGNS:
            return "sign", (SIGNS[bare],)
        if bare == "fork":
            return "fork", ("",)
        if name in ("x", "y"):
            return "word", ("x",)
        return "box", tuple(self.labels.get(name, bare).split("\n"))

    @cached_property
    def routes(self) -> list[tuple[str, str, str, list[Point]]]:
        """All arrows: from, to, how, and the points that they go through."""
        found = []
        for chain in self.arrows.split(";"):
            parts = re.split(r"\s+([->^/=])\s+", chain.strip())
            for a, how, b in zip(parts[0::2], parts[1::2], parts[2::2], strict=False):
                found.append((a, b, how, _route(self.nodes[a], self.nodes[b], how)))
        return found

    @property
    def size(self) -> Point:
        """Width and height of the picture."""
        right = max(node.x + node.half for node in self.nodes.values())
        titled = text_width(self.title, SIZE, bold=True) + MARGIN
        return max(right, titled) + MARGIN, MARGIN + 32 + len(self.cells) * ROW - (ROW - HEIGHT) + MARGIN

    def draw(self) -> str:
        """Draw it as an SVG file."""
        sheet = Sheet(*self.size, f"{self.title}. {self.says}")
        sheet.text(MARGIN, MARGIN + 4, self.title, SIZE, weight="bold")
        for _, b, how, points in self.routes:
            stream = how == "-"
            sheet.line(points, width=3 if stream else 1.4, colour="ink" if stream else "dim")
            colour = "ink" if stream else "dim"
            if self.nodes[b].kind != "fork" and (self.nodes[b].kind != "word" or b == "y"):
                sheet.head(points[-2], points[-1], colour)
            if how == "=":
                sheet.head(points[1], points[0], colour)
        for node in self.nodes.values():
            self._draw_node(sheet, node)
        return str(sheet)

    def _draw_node(self, sheet: Sheet, node: Node) -> None:
        if node.kind == "box":
            corner = node.x - node.half, node.y - node.tall
            sheet.box(*corner, 2 * node.half, 2 * node.tall, node.colour, dashed=node.name in self.dashed)
        elif node.kind == "sign":
            sheet.circle(node.x, node.y, RADIUS, "ground")
        elif node.kind == "fork":
            sheet.circle(node.x, node.y, DOT, "ink")
            return
        above = 8 if len(node.lines) == 2 else 0
        how = {"style": "italic"} if node.kind == "word" else {}
        size = 18.0 if node.kind == "sign" else SIZE
        sheet.text(node.x, node.y - above, node.lines[0], size, anchor="middle", **how)
        for line in node.lines[1:]:
            sheet.text(node.x, node.y + above, line, SMALL, "dim", anchor="middle")


def _bare(name: str) -> str:
    return name.rstrip("0123456789")


def _half(kind: str, lines: tuple[str, ...]) -> float:
    """Half of the width that a cell asks for."""
    if kind == "sign":
        return RADIUS
    if kind == "fork":
        return DOT
    padding = 10 if kind == "box" else 2
    return max(text_width(line, SMALL if i else SIZE) for i, line in enumerate(lines)) / 2 + padding


def _route(a: Node, b: Node, how: str) -> list[Point]:
    right = 1 if b.x >= a.x else -1
    down = 1 if b.y >= a.y else -1
    leaving_across, arriving_across = (a.x + right * a.half, a.y), (b.x - right * b.half, b.y)
    leaving_down, arriving_down = (a.x, a.y + down * a.tall), (b.x, b.y - down * b.tall)
    if how == "/":
        return [leaving_down, (a.x, b.y), arriving_across]
    if how == "^":
        return [leaving_across, (b.x, a.y), arriving_down]
    if a.y == b.y:
        return [leaving_across, arriving_across]
    if a.x == b.x:
        return [leaving_down, arriving_down]
    between = arriving_across[0] - right * GAP / 2
    return [leaving_across, (between, a.y), (between, b.y), arriving_across]
