"""The ratios as bars: how many times better ours is in each row, with the spread of the rounds."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from results import Row

BETTER, WORSE, TEXT, FAINT = "#7fa7cf", "#d9a384", "#222222", "#999999"
ROOM = 1.12  # of the width in longest bars: what is behind them is for the numbers


def draw(path: Path, rows: Sequence[Row], title: str) -> None:
    """Save one bar per row, from 0 to the median ratio, and a line from the smallest ratio to the largest.

    path  a .png or .svg
    """
    # Imported late: most runs draw nothing.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.1 + 0.36 * len(rows)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=TEXT)
    axis = figure.subplots()
    places = range(len(rows))
    middle = [median(row.ratios) for row in rows]
    axis.barh(places, middle, height=0.62, color=[BETTER if ratio >= 1 else WORSE for ratio in middle])
    for place, row, ratio in zip(places, rows, middle, strict=True):
        lowest, highest = min(row.ratios), max(row.ratios)
        axis.plot((lowest, highest), (place, place), color=TEXT, linewidth=1, marker="|", markersize=6)
        end = max(highest, 1.0)  # the number shall not stand on the line at 1×
        axis.annotate(
            f"{ratio:.2f}×",
            (end, place),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=TEXT,
        )
    axis.axvline(1, color=TEXT, linewidth=1, linestyle="--")
    axis.set_xlim(0, ROOM * max(1.0, *(max(row.ratios) for row in rows)))
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_yticks(places, [row.name for row in rows], fontsize=9, color=TEXT)
    axis.set_xlabel(
        "times better (1×: as good as the other); line: smallest to largest of the rounds", fontsize=8.5
    )
    axis.tick_params(length=0, labelcolor=TEXT, labelsize=9)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(FAINT)
    figure.savefig(path, dpi=150)
