"""A picture of a trade-off: how good things are against what they cost, with the noise as a band; bar charts.

Each thing is a line from its least cost to its greatest, for a cost that depends on use. The scale of costs
is logarithmic. Needs matplotlib, which is imported when a picture is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinystar_np.seeing.pictures import Picture
from tinystar_np.seeing.plots import FAINT, TEXT, Panel, draw_panel

POINT = "#2f6db0"
BAND = "#f3dcc0"
BAND_TEXT = "#8a5a1c"
INCHES = 11
ROOM = 8  # how many times the greatest cost the scale goes on: for the band's words


@dataclass(frozen=True)
class Thing:
    """One thing.

    name     written at its point
    costs    the least and the greatest
    quality  the height of its line
    """

    name: str
    costs: tuple[float, float]
    quality: float


@dataclass(frozen=True)
class Scales:
    """What stands at the axes.

    costs    the words at the axis of costs
    quality  at that of quality
    ticks    costs that are marked, each with its words
    band     lowest and highest quality of what is only noise
    noise    its words
    """

    costs: str
    quality: str
    ticks: Sequence[tuple[float, str]]
    band: tuple[float, float]
    noise: str


def trade_off(
    title: str, things: Sequence[Thing], scales: Scales, panels: Sequence[Panel], note: str
) -> Picture:
    """Draw the picture.

    panels  bar charts below, side by side; their rows are the things
    note    lines below
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    below = 0.75 + 0.27 * len(things)
    figure = Figure(
        figsize=(INCHES, 5.2 + below), facecolor="white", layout=ConstrainedLayoutEngine(hspace=0.05)
    )
    figure.suptitle(title, fontsize=13, fontweight="bold", color=TEXT, x=0.01, ha="left")
    figure.supxlabel(note, fontsize=8.5, color=TEXT, x=0.01, ha="left")
    grid = figure.add_gridspec(2, len(panels), height_ratios=(4.3, below))
    _draw_lines(figure.add_subplot(grid[0, :]), things, scales)
    names, first = [thing.name for thing in things], None
    for column, panel in enumerate(panels):
        axis = figure.add_subplot(grid[1, column], sharey=first)
        draw_panel(axis, names, panel)
        first = first or axis
        if column:
            axis.tick_params(labelleft=False)
    return Picture(figure)


def _draw_lines(axis: Any, things: Sequence[Thing], scales: Scales) -> None:
    """Draw a line for each thing, its name above the point of its greatest cost."""
    low, high = scales.band
    least, most = min(thing.costs[0] for thing in things), max(thing.costs[1] for thing in things)
    axis.set_xscale("log")
    axis.axhspan(low, high, color=BAND, linewidth=0)
    axis.annotate(
        scales.noise, (1, (low + high) / 2), (-4, 0), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", va="center", fontsize=8.5, color=BAND_TEXT,
    )  # fmt: skip
    for thing in things:
        axis.plot(thing.costs, (thing.quality,) * 2, color=POINT, linewidth=1.2, alpha=0.6)
        axis.plot(thing.costs[0], thing.quality, "o", markersize=5.5, color=POINT, markerfacecolor="white")
        axis.plot(thing.costs[1], thing.quality, "o", markersize=6.5, color=POINT)
        axis.annotate(
            thing.name, (thing.costs[1], thing.quality), (0, 6), textcoords="offset points",
            ha="center", va="bottom", fontsize=9.5, color=TEXT,
        )  # fmt: skip
    axis.margins(y=0.12)
    axis.set_xlabel(scales.costs, fontsize=9.5, color=TEXT, loc="left")
    axis.set_ylabel(scales.quality, fontsize=9.5, color=TEXT)
    axis.set_xticks([place for place, _ in scales.ticks], [words for _, words in scales.ticks], color=TEXT)
    axis.set_xlim(least / 1.8, most * ROOM)
    axis.minorticks_off()
    axis.tick_params(labelsize=9, colors=TEXT, color=FAINT)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(FAINT)
